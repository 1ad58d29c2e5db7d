"""What the arguments of several commands stand for, and which are refused."""

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
    """The store: the one chosen, or the nearest from here upwards."""
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
    """The part of a gallery that --shards names, or all of it. Raises BadParameter."""
    try:
        return WHOLE if text is None else parse_shard(text)
    except ValueError as error:
        raise typer.BadParameter(f"--shards: {error}") from error


def check_ray_installed(runs_on: IndexingBackend) -> None:
    """Raises ClusterError where what it runs on is not installed."""
    if runs_on is IndexingBackend.ray:
        import retrieval.store.indexing.ray.cluster  # noqa: F401


def check_outputs(out: Path | None, html: Path | None = None) -> None:
    """Before the work, not after it: what would be written must not be in the way of itself."""
    if out is not None and out.exists() and not out.is_dir():
        raise RetrievalError(f"{out} is a file: give --out a folder")
    if html is not None and html.is_dir():
        raise RetrievalError(f"{html} is a folder: give --html a file")
    if html is not None and html.suffix.lower() not in (".html", ".htm"):
        raise RetrievalError(f"{html} is not named like a page: give --html a name that ends in .html")


def resolve_datasets(
    chosen: list[Path],
    subject: EvaluatedModel,
    model: str,
    contents: str = "class folders",
    absence: str = "no data set",
) -> list[Path]:
    """The data sets to measure a model on: those given, or those it was trained on. Raises BadParameter: neither."""
    from retrieval.evaluation.measure import folders_to_measure

    folders = folders_to_measure(chosen, subject)
    if not folders:
        raise typer.BadParameter(
            f"DATASET: give a folder of {contents}, as {safe_name(model)} keeps {absence} of its own"
        )
    return folders
