"""What the arguments of several commands stand for, and which are refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from retrieval.common.errors import RetrievalError
from retrieval.common.settings import RunsOn, find_store
from retrieval.common.text import safe_name
from retrieval.store.indexing.shards import WHOLE, Shard, parse_shard

if TYPE_CHECKING:
    from retrieval.evaluation.measure import Subject


def store_folder(chosen: Path | None) -> Path:
    """The store: the one chosen, or the nearest from here upwards."""
    return chosen if chosen is not None else find_store(Path.cwd())


def check_index(address: str | None, store: Path) -> None:
    """Raises BadParameter where that is no place for an index, and StoreError where it cannot be reached."""
    if address is not None:
        from indexes.vectors.storage import check_address

        try:
            check_address(address, store)
        except ValueError as error:
            raise typer.BadParameter(f"--index: {error}") from error


def chosen_shard(text: str | None) -> Shard:
    """The part of a gallery that --shards names, or all of it. Raises BadParameter."""
    try:
        return WHOLE if text is None else parse_shard(text)
    except ValueError as error:
        raise typer.BadParameter(f"--shards: {error}") from error


def check_engine(runs_on: RunsOn) -> None:
    """Raises ClusterError where what it runs on is not installed."""
    if runs_on is RunsOn.ray:
        import retrieval.store.indexing.ray.cluster  # noqa: F401


def check_outputs(folder: Path | None, page: Path | None = None) -> None:
    """Before the work, not after it: what would be written must not be in the way of itself."""
    if folder is not None and folder.exists() and not folder.is_dir():
        raise RetrievalError(f"{folder} is a file: give --out a folder")
    if page is not None and page.is_dir():
        raise RetrievalError(f"{page} is a folder: give --html a file")
    if page is not None and page.suffix.lower() not in (".html", ".htm"):
        raise RetrievalError(f"{page} is not named like a page: give --html a name that ends in .html")


def data_sets(
    given: list[Path], subject: Subject, model: str, wanted: str = "class folders", kept: str = "no data set"
) -> list[Path]:
    """The data sets to measure a model on: those given, or those it was trained on. Raises BadParameter: neither."""
    from retrieval.evaluation.measure import folders_to_measure

    folders = folders_to_measure(given, subject)
    if not folders:
        raise typer.BadParameter(f"DATASET: give a folder of {wanted}, as {safe_name(model)} keeps {kept} of its own")
    return folders
