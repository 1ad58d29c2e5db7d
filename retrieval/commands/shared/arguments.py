"""Arguments that several commands check or resolve."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from typer import BadParameter

from retrieval.common.errors import RetrievalError
from retrieval.common.text import safe_name

if TYPE_CHECKING:
    from retrieval.evaluation.measure import EvaluatedModel


def store_folder(chosen: Path | None) -> Path:
    """Return the chosen store, or the nearest `.retrieve` upwards, as git finds `.git`; else one in this folder."""
    if chosen is not None:
        return chosen
    stores = [folder / ".retrieve" for folder in (Path.cwd(), *Path.cwd().parents)]
    return next(filter(Path.is_dir, stores), stores[0])


@contextmanager
def explain_option_errors(option: str) -> Iterator[None]:
    """Turn a ValueError into the BadParameter of this option."""
    try:
        yield
    except ValueError as error:
        raise BadParameter(f"{option}: {error}") from error


def check_outputs(out: Path | None, html: Path | None = None) -> None:
    """Raise RetrievalError if --out or --html cannot be written, before the work rather than after it."""
    if out is not None and out.exists() and not out.is_dir():
        raise RetrievalError(f"{out} is a file: give --out a folder")
    if html is not None and html.is_dir():
        raise RetrievalError(f"{html} is a folder: give --html a file")
    if html is not None and html.suffix.lower() not in (".html", ".htm"):
        raise RetrievalError(f"{html} is not named like a page: give --html a name that ends in .html")


def path_ending(paths: bool, null: bool, as_json: bool) -> bytes | None:
    """Return what follows each path if only paths are to be printed, else None. Raises BadParameter with --json."""
    if (paths or null) and as_json:
        raise BadParameter("--paths and --null print no JSON: leave out --json or them")
    return b"\0" if null else b"\n" if paths else None


def resolve_datasets(chosen: list[Path], model: EvaluatedModel, contents: str = "class folders") -> list[Path]:
    """Return the chosen data sets, or the one that the model was trained on. Raises BadParameter if there is none."""
    from retrieval.evaluation.measure import folders_to_measure

    folders = folders_to_measure(chosen, model)
    if not folders:
        raise BadParameter(f"DATASET: give a folder of {contents}, as {safe_name(model.name)} keeps none of its own")
    return folders
