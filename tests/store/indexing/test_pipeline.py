"""The local pipeline: files read ahead and looked up in groups."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import KnownContent
from indexes.catalogue.scans import ScanRecords
from retrieval.model.inference import Network
from retrieval.model.preprocessing import read_at_size
from retrieval.sources.entries import PictureFile, Unreadable
from retrieval.store.indexing import pipeline
from retrieval.store.indexing.pipeline import LocalPipeline

MODEL, SIZE = "model-a", 8


class StubNetwork:
    """A network whose descriptors are the mean colours."""

    def describe(self, pictures: Sequence[Any]) -> Any:
        return np.array([picture.mean((0, 1)) for picture in pictures], np.float32)


def test_the_contents_of_several_files_are_looked_up_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files: list[PictureFile | Unreadable] = []
    for number in range(8):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (SIZE, SIZE), (number, 0, 0)).save(path)
        files.append(PictureFile(os.fsencode(path), path.stat().st_size, path.stat().st_mtime_ns))
    (tmp_path / "5.png").write_bytes(b"no picture")
    (tmp_path / "6.png").unlink()
    find, lookups = ScanRecords.find_by_content, list[int]()

    def counting(records: ScanRecords, contents: Sequence[bytes], fingerprint: str) -> dict[bytes, KnownContent]:
        lookups.append(len(contents))
        return find(records, contents, fingerprint)

    monkeypatch.setattr(ScanRecords, "find_by_content", counting)
    with Catalogue(tmp_path / "store", create=True) as catalogue:
        pipeline = LocalPipeline(catalogue, cast(Network, StubNetwork()), MODEL, SIZE)
        (batch,) = pipeline.batches(iter(files))
        assert [read.to_record().vector[0] for read in batch.read] == [0, 1, 2, 3, 4, 7]
        assert [os.path.basename(failed.path) for failed in batch.failures] == [b"5.png", b"6.png"]
        catalogue.scans.record(os.fsencode(tmp_path), MODEL, [read.to_record() for read in batch.read])
        (again,) = pipeline.batches(iter(files))
        assert (again.embedded, len(again.read)) == (0, 6)
    assert len(lookups) == 4
    assert sum(lookups) == 14


@pytest.mark.parametrize("keeps_time", [False, True])
def test_a_file_that_is_overwritten_while_it_is_read_fails_for_now(
    keeps_time: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.bmp"
    Image.new("RGB", (SIZE, SIZE), (1, 0, 0)).save(path)
    status = path.stat()

    def overwriting(stream: Any, size: int) -> Any:
        Image.new("RGB", (SIZE, SIZE), (2, 0, 0)).save(path)  # after the hash, before the decoding
        if keeps_time:
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        return read_at_size(stream, size)

    monkeypatch.setattr("retrieval.store.indexing.pipeline.read_at_size", overwriting)
    file = PictureFile(os.fsencode(path), status.st_size, status.st_mtime_ns)
    with Catalogue(tmp_path / "store", create=True) as catalogue:
        (batch,) = LocalPipeline(catalogue, cast(Network, StubNetwork()), MODEL, SIZE).batches(iter([file]))
    assert not batch.read
    assert batch.failures == [(file.path, "was changed while it was read: index it again", True)]


def test_a_file_that_takes_more_memory_than_is_free_fails_by_itself() -> None:
    def read() -> bytes:
        raise MemoryError

    with ExitStack() as stack:
        failed = pipeline._open(PictureFile(b"/a.tar/a.jpg#512+9", 9, 0, "1", None, read), stack)
    assert isinstance(failed, Unreadable)
    assert failed.is_transient  # the picture stays indexed
    assert failed.reason.startswith("needs more memory than is free")
