"""A run over galleries: each is walked once, ahead of the embedding, and in time linear in its files."""

import os
import time
from collections.abc import Generator, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import KnownFile
from retrieval.engine import Engine
from retrieval.model.bundle import Bundle
from retrieval.sources import local
from retrieval.sources.entries import PictureFile, UnchangedTar, Unreadable, WalkEvent
from retrieval.sources.gallery import resolve_gallery
from retrieval.store.indexing import progress as progress_module
from retrieval.store.indexing import scan
from retrieval.store.indexing.pipeline import Batch, failure_of
from retrieval.store.indexing.run import index_galleries
from tests.support.galleries import tar_of
from tests.support.progress import RecordedProgress

_TARS = 500


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    with Catalogue(tmp_path / "store", create=True) as catalogue:
        yield catalogue


class Failing:
    """A pipeline to which every file is broken."""

    def batches(self, changed: Iterator[PictureFile | Unreadable]) -> Generator[Batch, None, None]:
        for file in changed:
            yield Batch(failures=[failure_of(Unreadable(file.path, "is broken"))])


class CountingPath(bytes):
    """A path that counts the prefixes that it is compared with."""

    compared = 0

    def startswith(self, prefixes: Any, *bounds: Any) -> bool:
        CountingPath.compared += len(prefixes) if isinstance(prefixes, tuple) else 1
        return super().startswith(prefixes, *bounds)


def test_members_of_unchanged_tars_are_compared_with_few_prefixes(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    tars = [b"s3://bucket/%03d.tar" % number for number in range(_TARS)]
    known = [KnownFile(number, CountingPath(tar + b"/a.jpg"), 1, 1, None, False) for number, tar in enumerate(tars)]

    def walk(*arguments: object) -> Iterator[WalkEvent]:
        return map(UnchangedTar, tars)

    monkeypatch.setattr(scan, "walk_gallery", walk)
    monkeypatch.setattr(catalogue.scans, "known_files", lambda gallery: iter(known))
    report = index_galleries(catalogue, Failing(), "f" * 64, [b"s3://bucket"])
    assert (report.unchanged, report.missing) == (_TARS, 0)
    assert CountingPath.compared <= 4 * _TARS


def test_no_tar_stays_open_for_the_files_that_are_walked_ahead(catalogue: Catalogue, tmp_path: Path) -> None:
    open_files: list[int] = []

    class Looking(Failing):
        def batches(self, changed: Iterator[PictureFile | Unreadable]) -> Generator[Batch, None, None]:
            files = list(changed)  # all of them are walked then
            open_files.append(len(os.listdir("/proc/self/fd")))
            yield from super().batches(iter(files))

    for number in range(60):
        (tmp_path / f"{number:02}.tar").write_bytes(tar_of((f"{number}.png", b"")))
    (tmp_path / "list.txt").write_text("\n".join(f"{number:02}.tar" for number in range(60)))
    before = len(os.listdir("/proc/self/fd"))
    report = index_galleries(catalogue, Looking(), "f" * 64, [resolve_gallery(tmp_path / "list.txt")])
    assert report.failed == 60
    assert open_files[0] < before + 10


def test_a_walk_that_is_interrupted_ends_at_the_next_file(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(Failing):
        def batches(self, changed: Iterator[PictureFile | Unreadable]) -> Generator[Batch, None, None]:
            next(changed)
            raise KeyboardInterrupt
            yield

    def walk(*arguments: object) -> Iterator[WalkEvent]:
        yield PictureFile(b"/g/a.jpg", 1, 1)
        while True:
            walked.append(0)
            yield PictureFile(b"/g/b.jpg", 1, 1)

    walked: list[int] = []
    monkeypatch.setattr(scan, "walk_gallery", walk)
    monkeypatch.setattr(scan, "is_unchanged", lambda *arguments: True)
    monkeypatch.setattr(
        catalogue.scans, "known_files", lambda gallery: repeat(KnownFile(1, b"/g/b.jpg", 1, 1, None, False))
    )
    with pytest.raises(KeyboardInterrupt):
        index_galleries(catalogue, Interrupted(), "f" * 64, [b"/g"])
    count = len(walked)
    time.sleep(0.05)
    assert len(walked) == count


def test_a_gallery_is_walked_once(
    small_gallery: Path, tmp_path: Path, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[bytes] = []
    real = local._list_folder

    def list_folder(folder: bytes, *rest: Any) -> Any:
        listed.append(folder)
        return real(folder, *rest)

    monkeypatch.setattr(local, "_list_folder", list_folder)
    monkeypatch.setattr(progress_module, "WRITE_INTERVAL", 0.0)
    progress = RecordedProgress()
    with Engine.create(tmp_path / "store", str(tiny_bundle.folder)) as engine:
        engine.index(small_gallery, progress=progress)
    folders = [small_gallery, *(small_gallery / name for name in ("apples", "boats", "cats"))]
    assert listed == [bytes(folder) for folder in folders]
    indexing = progress.stages[0]
    assert (indexing.title, indexing.total, indexing.done) == ("Indexing", 12, 12)
