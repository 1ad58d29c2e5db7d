"""The flow of `retrieve index`: each gallery scanned; and pictures taken out again."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.paths import holds
from indexes.catalogue.records import Removed
from indexes.errors import StoreError
from indexes.vectors.faiss_file import delete_files
from indexes.vectors.index_address import FAISS
from indexes.vectors.storage import index_address
from retrieval.pipeline import Pipeline
from retrieval.scan import Advance, Scan, Tally
from retrieval.shards import WHOLE, Shard
from retrieval.sources.gallery import gallery_at
from retrieval.sources.location import LIST, TAR, Place, is_address, located, told_place
from retrieval.upkeep import open_index


@dataclass(frozen=True)
class IndexReport:
    """What a run did. `added` pictures are new or changed; `reused` of them took a known descriptor.

    `embedded` went through the network; `unchanged` were skipped; `missing` vanished since the last run;
    `failed` are broken, each with its reason in `failures`; `kept_roots` are galleries that seemed empty, or known
    ones that were absent, of which nothing was marked missing; `passed_over` counts files that are named like no
    picture, by the endings of their names; `notes` are sentences on what else was not as it should be.
    """

    added: int
    reused: int
    embedded: int
    unchanged: int
    missing: int
    failures: tuple[tuple[Place, str], ...]
    kept_roots: tuple[Place, ...]
    passed_over: dict[str, int]
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> int:
        return len(self.failures)


def outermost(folders: Iterable[bytes]) -> list[bytes]:
    """Each folder once, without those that a walk of another one comes to."""
    each = list(dict.fromkeys(folders))
    return [folder for folder in each if not any(holds(other, folder) for other in each)]


def remove(catalogue: Catalogue, path: str | os.PathLike[str]) -> Removed:
    """Take a picture, or a folder and all below it, out of the store, by any path that leads to it.

    A gallery is known by its real path, and its pictures by the names below that, links among them. So links are
    followed as far as it takes to come to something known, and no further. Raises StoreError.
    """
    for known in chain(
        _catalogued(path), _named_by_lists(catalogue, path), members_shown_as(catalogue, os.fspath(path))
    ):
        removed = catalogue.remove(known)
        if removed:
            _follow(catalogue)
            return removed
    return Removed()


def _catalogued(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """The paths by which the catalogue may know what this leads to."""
    text = os.fspath(path)
    if is_address(text):
        yield gallery_at(text)
        yield os.fsencode(text)
        return
    absolute = Path(os.path.abspath(text))
    for up in (*reversed(absolute.parents), absolute):
        real = os.fsencode(Path(os.path.realpath(up)) / absolute.relative_to(up))
        yield from (real, *(os.fsencode(kind) + real for kind in (TAR, LIST)))


def _named_by_lists(catalogue: Catalogue, path: str | os.PathLike[str]) -> Iterator[bytes]:
    """The paths by which lists may have brought this into the catalogue."""
    known = list(_catalogued(path))
    yield from (inside + each for inside in _lists(catalogue) for each in known)


def _lists(catalogue: Catalogue) -> list[bytes]:
    """What the paths of all that a list names begin with, for each list."""
    return [root + b"/" for root in catalogue.roots() if root.startswith(os.fsencode(LIST))]


def members_shown_as(catalogue: Catalogue, shown: str) -> Iterator[bytes]:
    """The members of tars that are shown as this, whose paths in the catalogue say where their bytes are as well."""
    shown = shown.removeprefix(TAR)
    kind = "" if is_address(shown) else TAR
    shown = os.path.abspath(shown) if kind else shown
    for slash in re.finditer(r"(?<=\.tar)/", shown, re.IGNORECASE):
        for inside in (b"", *_lists(catalogue)):
            for known in list(catalogue.known_files(inside + os.fsencode(kind + shown[: slash.start()]))):
                if str(told_place(located(known.path))) == shown:
                    yield known.path


def _follow(catalogue: Catalogue) -> None:
    """Bring the index's file up to date with what was removed; nothing is left of that."""
    try:
        open_index(catalogue, catalogue.setting("fingerprint") or "", must_save=True).close()
    except StoreError as error:
        if index_address(catalogue) != FAISS:
            raise StoreError(f"it is out of the store, but not yet out of its index: {error}") from error
        delete_files(catalogue.folder)


def index_galleries(
    catalogue: Catalogue,
    pipeline: Pipeline,
    fingerprint: str,
    galleries: Iterable[bytes],
    advance: Advance = lambda files: None,
    shard: Shard = WHOLE,
) -> IndexReport:
    """Bring the catalogue up to date with these folders, or a shard of each. A batch is committed as it is done."""
    started = time.perf_counter()
    tally = Tally()
    for gallery in galleries:
        Scan(catalogue, pipeline, fingerprint, gallery, tally, advance, shard).run()
    return IndexReport(
        added=tally.added,
        reused=tally.reused,
        embedded=tally.embedded,
        unchanged=tally.unchanged,
        missing=tally.missing,
        failures=tuple((located(failed.path), failed.reason) for failed in tally.failures),
        kept_roots=tuple(tally.kept_roots),
        passed_over=dict(tally.passed_over.most_common()),
        seconds=time.perf_counter() - started,
    )
