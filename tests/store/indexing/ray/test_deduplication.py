"""Claims: each content is embedded once, whoever asks, and whatever is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import FailedFile, NewPicture
from retrieval.model.preprocessing import PictureInfo
from retrieval.sources.entries import PictureFile
from retrieval.store.indexing.pipeline import Batch
from retrieval.store.indexing.ray.deduplication import Deduplicator
from retrieval.store.indexing.ray.messages import Block, Embedded, Failed, pack

_INFO = PictureInfo(3, 2)


def found(name: str) -> PictureFile:
    return PictureFile(f"/gallery/{name}".encode(), 5, 7)


def block(number: int, *names: str) -> Block:
    return Block(number, pack([found(name) for name in names]))


def content(number: int) -> bytes:
    return bytes([number]) * 32


def embedded(number: int) -> Embedded:
    return Embedded(content(number), _INFO, np.full(4, number, np.float16))


def rows(batch: Batch) -> dict[str, float]:
    """By name, the number that its descriptor is made of."""
    pictures = [read.to_record() for read in batch.read]
    return {picture.path.decode().rpartition("/")[2]: float(picture.vector[0]) for picture in pictures}


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(tmp_path / "store", create=True)


@pytest.fixture
def claims(catalogue: Catalogue) -> Deduplicator:
    return Deduplicator(catalogue, "f" * 64)


def test_the_first_to_ask_embeds(claims: Deduplicator) -> None:
    assert claims.ask(1, [content(1), content(2), content(1)]) == [True, True, True]
    assert claims.ask(2, [content(2), content(3)]) == [False, True]
    assert claims.ask(1, [content(1), content(2)]) == [True, True]  # done again
    assert claims.blocks_in_progress() == [1, 2]


def test_a_content_of_the_catalogue_is_embedded_by_nobody(claims: Deduplicator, catalogue: Catalogue) -> None:
    vector = np.full(4, 9, np.float32)
    known = NewPicture(b"/gallery/known", 5, 7, content(9), vector, 3, 2, "2020-01-01T00:00:00")
    catalogue.record(b"/gallery", "f" * 64, [known])
    assert claims.ask(1, [content(9)]) == [False]
    catalogue.remove(b"/gallery/known")
    batch = claims.complete(block(1, "copy"), [Embedded(content(9))])
    assert (rows(batch), batch.embedded) == ({"copy": 9}, 0)
    assert batch.read[0].info.taken_at == "2020-01-01T00:00:00"


@pytest.mark.parametrize("first", [1, 2])
def test_copies_in_two_blocks_wait_for_each_other(claims: Deduplicator, first: int) -> None:
    claims.ask(1, [content(1)])
    claims.ask(2, [content(1), content(2)])
    answers: dict[int, tuple[Block, list[Embedded | Failed]]]
    answers = {1: (block(1, "a"), [embedded(1)]), 2: (block(2, "copy", "b"), [Embedded(content(1)), embedded(2)])}
    batches = [claims.complete(*answers[number]) for number in (first, 3 - first)]
    assert {name: of for batch in batches for name, of in rows(batch).items()} == {"a": 1, "copy": 1, "b": 2}
    assert sum(batch.embedded for batch in batches) == 2
    assert list(claims.reset()) == []
    assert claims.ask(3, [content(1)]) == [False]  # not yet in the catalogue
    assert rows(claims.complete(block(3, "again"), [Embedded(content(1))])) == {"again": 1}


def test_copies_in_one_block(claims: Deduplicator) -> None:
    claims.ask(1, [content(1), content(1), content(2), content(2)])
    answers: list[Embedded | Failed]
    answers = [embedded(1), Embedded(content(1)), Failed("is empty", content(2)), Embedded(content(2))]
    batch = claims.complete(block(1, "a", "b", "c", "d"), answers)
    assert rows(batch) == {"a": 1, "b": 1}
    assert batch.failures == [FailedFile(b"/gallery/c", "is empty"), FailedFile(b"/gallery/d", "is empty")]
    assert batch.embedded == 1


@pytest.mark.parametrize("first", [1, 2])
def test_a_broken_content_is_broken_for_all_that_wait(claims: Deduplicator, first: int) -> None:
    claims.ask(1, [content(1)])
    claims.ask(2, [content(1)])
    answers: dict[int, tuple[Block, list[Embedded | Failed]]]
    answers = {1: (block(1, "a"), [Failed("is empty", content(1))]), 2: (block(2, "b"), [Embedded(content(1))])}
    failures = [failure for number in (first, 3 - first) for failure in claims.complete(*answers[number]).failures]
    assert sorted(failures) == [FailedFile(b"/gallery/a", "is empty"), FailedFile(b"/gallery/b", "is empty")]


def test_what_waits_for_a_lost_block_is_taken_back(claims: Deduplicator) -> None:
    claims.ask(1, [content(1)])
    claims.ask(2, [content(1), content(2)])
    assert rows(claims.complete(block(2, "copy", "b"), [Embedded(content(1)), embedded(2)])) == {"b": 2}
    assert claims.blocks_in_progress() == [1]
    assert list(claims.reset()) == [found("copy")]
    assert claims.blocks_in_progress() == []
    assert claims.ask(3, [content(1)]) == [True]
