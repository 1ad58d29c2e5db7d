"""Arguments that several commands check or resolve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from retrieval.common.errors import RetrievalError
from retrieval.common.settings import IndexingBackend, find_store
from retrieval.common.text import safe_name
from retrieval.store.indexing.shards import WHOLE, Shard, parse_shard

if TYPE_CHECKING:
    from retrieval.evaluation.measure import EvaluatedModel


def store_folder(chosen: Path | None) -> Path:
    """Return the chosen store, or the nearest from the working folder upwards."""
    return chosen if chosen is not None else find_store(Path.cwd())


def check_index_address(address: str | None) -> None:
    """Raise BadParameter if that is no place for an index."""
    if address is not None:
        from indexes.vectors.index_address import parse_address

        try:
            parse_address(address)
        except ValueError as error:
            raise typer.BadParameter(f"--index: {error}") from error


def parse_shard_option(text: str | None) -> Shard:
    """Return the shard that --shards names, or the whole. Raises BadParameter."""
    try:
        return WHOLE if text is None else parse_shard(text)
    except ValueError as error:
        raise typer.BadParameter(f"--shards: {error}") from error


def check_ray_installed(engine: IndexingBackend) -> None:
    """Raise ClusterError if Ray is chosen and not installed."""
    if engine is IndexingBackend.ray:
        import retrieval.store.indexing.ray.cluster  # noqa: F401


def check_outputs(out: Path | None, html: Path | None = None) -> None:
    """Raise RetrievalError if --out or --html cannot be written, before the work rather than after it."""
    if out is not None and out.exists() and not out.is_dir():
        raise RetrievalError(f"{out} is a file: give --out a folder")
    if html is not None and html.is_dir():
        raise RetrievalError(f"{html} is a folder: give --html a file")
    if html is not None and html.suffix.lower() not in (".html", ".htm"):
        raise RetrievalError(f"{html} is not named like a page: give --html a name that ends in .html")


def resolve_datasets(chosen: list[Path], model: EvaluatedModel, contents: str = "class folders") -> list[Path]:
    """Return the chosen data sets, or the one that the model was trained on. Raises BadParameter if there is none."""
    from retrieval.evaluation.measure import folders_to_measure

    folders = folders_to_measure(chosen, model)
    if not folders:
        raise typer.BadParameter(
            f"DATASET: give a folder of {contents}, as {safe_name(model.name)} keeps none of its own"
        )
    return folders
