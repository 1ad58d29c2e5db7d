"""Arguments that several commands check or resolve."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer import BadParameter

from retrieval.common.errors import PictureError, RetrievalError
from retrieval.common.text import safe_name
from retrieval.sources.location import is_address, is_list, is_tar

if TYPE_CHECKING:
    from retrieval.evaluation.measure import EvaluatedModel


def store_folder(chosen: Path | None) -> Path:
    """Return the chosen store, or the nearest `.retrieve` upwards, as git finds `.git`; else one in this folder.

    Raises StoreError if the nearest one belongs to another user, who could lead to anywhere with it.
    """
    if chosen is not None:
        return chosen
    stores = [folder / ".retrieve" for folder in (Path.cwd(), *Path.cwd().parents)]
    nearest = next(filter(Path.is_dir, stores), stores[0])
    if hasattr(os, "geteuid") and nearest.exists() and nearest.stat().st_uid not in (os.geteuid(), _invoking_user()):
        from indexes.catalogue.database.consent import OWNER, require_agreement

        require_agreement(nearest, OWNER, "lies above this folder and belongs to")
    return nearest


def _invoking_user() -> int:
    """Return the user who has called sudo; this one if it was not called."""
    return int(os.environ.get("SUDO_UID") or os.geteuid()) if os.geteuid() == 0 else os.geteuid()


def spell(value: Any, is_path: bool = False) -> Any:
    """Return a path, or a list of them, as `typed_path` has it; other values, and text, as they are unless `is_path`.

    Raises BadParameter.
    """
    if isinstance(value, (list, tuple)):
        return type(value)(spell(each, is_path) for each in value)
    if not isinstance(value, (str, Path) if is_path else Path):
        return value
    text = os.fspath(value)
    if text.isascii() and not text.startswith(("~", "file://")):
        return value
    from retrieval.sources.spelling import typed_path

    try:
        return type(value)(typed_path(text))
    except ValueError as error:
        raise BadParameter(str(error)) from error


def name_mistake(name: str, error: PictureError) -> PictureError:
    """Return why something cannot be a picture, if it is a folder, a list or a tar; else the error."""
    if is_address(name) or not (os.path.isdir(name) or is_list(name) or is_tar(name)):
        return error
    if os.path.isdir(name):
        return PictureError("is a folder, not a picture: `retrieve index` takes it, `retrieve query` a picture", name)
    if not os.path.exists(name):
        return error
    kind = "a tar" if is_tar(name) else "a list"
    return PictureError(f"is {kind} of pictures, not a picture: `retrieve index` takes it, `retrieve query` one", name)


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
