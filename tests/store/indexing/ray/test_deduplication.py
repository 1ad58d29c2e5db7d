"""Deduplication: one result of each content is kept, whichever worker embedded it."""

from pathlib import Path

import numpy as np
import pytest

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import FailedFile, NewPicture
from retrieval.model.preprocessing import PictureInfo
from retrieval.sources.entries import PictureFile
from retrieval.store.indexing.pipeline import Batch
from retrieval.store.indexing.ray.deduplication import Deduplicator
from retrieval.store.indexing.ray.messages import Embedded, Failed, content_key, content_keys

_INFO = PictureInfo(3, 2)


def files(*names: str) -> list[PictureFile]:
    return [PictureFile(f"/gallery/{name}".encode(), 5, 7) for name in names]


def content(number: int) -> bytes:
    return bytes([number]) * 32


def embedded(number: int) -> Embedded:
    return Embedded(content(number), _INFO, np.full(4, number, np.float16))


def rows(batch: Batch) -> dict[str, float]:
    """Return, by name, the number that fills its descriptor."""
    pictures = [read.to_record() for read in batch.read]
    return {picture.path.decode().rpartition("/")[2]: float(picture.vector[0]) for picture in pictures}


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(tmp_path / "store", create=True)


@pytest.fixture
def deduplicator(catalogue: Catalogue) -> Deduplicator:
    return Deduplicator(catalogue, "f" * 64)


def test_a_content_of_the_catalogue_keeps_its_descriptor(deduplicator: Deduplicator, catalogue: Catalogue) -> None:
    vector = np.full(4, 9, np.float32)
    known = NewPicture(b"/gallery/known", 5, 7, content(9), vector, 3, 2, "2020-01-01T00:00:00")
    catalogue.scans.record(b"/gallery", "f" * 64, [known])
    results: list[Embedded | Failed]
    results = [Embedded(content(9)), Embedded(content(9), _INFO, np.ones(4, np.float16)), Failed("broken", content(9))]
    batch, unresolved = deduplicator.merge(files("copy", "embedded", "broken"), results)
    assert (rows(batch), batch.embedded) == ({"copy": 9, "embedded": 9, "broken": 9}, 0)
    assert (batch.failures, unresolved) == ([], [])
    assert batch.read[0].info.taken_at == "2020-01-01T00:00:00"


def test_copies_in_two_blocks_count_once(deduplicator: Deduplicator) -> None:
    batches = [
        deduplicator.merge(files("a"), [embedded(1)])[0],
        deduplicator.merge(files("copy", "b"), [embedded(1), embedded(2)])[0],
        deduplicator.merge(files("again"), [Embedded(content(1))])[0],  # not yet in the catalogue
    ]
    assert [rows(batch) for batch in batches] == [{"a": 1}, {"copy": 1, "b": 2}, {"again": 1}]
    assert [batch.embedded for batch in batches] == [1, 1, 0]


def test_copies_in_one_block(deduplicator: Deduplicator) -> None:
    results: list[Embedded | Failed]
    results = [embedded(1), Embedded(content(1)), Failed("is empty", content(2)), Embedded(content(2))]
    batch, unresolved = deduplicator.merge(files("a", "b", "c", "d"), results)
    assert rows(batch) == {"a": 1, "b": 1}
    assert batch.failures == [FailedFile(b"/gallery/c", "is empty"), FailedFile(b"/gallery/d", "is empty")]
    assert (batch.embedded, unresolved) == (1, [])


def test_a_broken_content_is_broken_in_each_block(deduplicator: Deduplicator) -> None:
    results: list[Embedded | Failed] = [Failed("is empty", content(1)), Embedded(content(1))]
    failures = [
        failure
        for name, result in zip("ab", results, strict=True)
        for failure in deduplicator.merge(files(name), [result])[0].failures
    ]
    assert failures == [FailedFile(b"/gallery/a", "is empty"), FailedFile(b"/gallery/b", "is empty")]


def test_a_content_that_only_the_worker_knows_is_unresolved(deduplicator: Deduplicator) -> None:
    batch, unresolved = deduplicator.merge(files("a", "b"), [Embedded(content(1)), embedded(2)])
    assert (rows(batch), unresolved) == ({"b": 2}, files("a"))


def test_a_file_that_could_not_be_read_may_be_readable_later(deduplicator: Deduplicator) -> None:
    batch, _ = deduplicator.merge(files("a"), [Failed("timed out", is_out_of_reach=True, is_transient=True)])
    assert batch.failures == [FailedFile(b"/gallery/a", "timed out", True)]


def test_keys_are_of_known_contents_only() -> None:
    hashes = np.array([content(2), content(1), content(2), bytes(32)])
    keys = content_keys(hashes)
    assert keys.tolist() == sorted({content_key(bytes(each).ljust(32, b"\0")) for each in hashes.tolist()})
    assert content_keys(np.empty(0, "S1")).tolist() == []
