"""Claims: each content is embedded once, whoever asks, and whatever is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import Failed, NewPicture
from retrieval.model.preprocessing import PictureInfo
from retrieval.sources.entries import Found
from retrieval.store.indexing.pipeline import Batch
from retrieval.store.indexing.ray.deduplication import Claims
from retrieval.store.indexing.ray.messages import Block, Broken, Brought, packed

_INFO = PictureInfo(3, 2)


def found(name: str) -> Found:
    return Found(f"/gallery/{name}".encode(), 5, 7)


def block(number: int, *names: str) -> Block:
    return Block(number, packed([found(name) for name in names]))


def content(number: int) -> bytes:
    return bytes([number]) * 32


def embedded(number: int) -> Brought:
    return Brought(content(number), _INFO, np.full(4, number, np.float16))


def rows(batch: Batch) -> dict[str, float]:
    """By name, the number that its descriptor is made of."""
    pictures = [read.picture() for read in batch.read]
    return {picture.path.decode().rpartition("/")[2]: float(picture.vector[0]) for picture in pictures}


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(tmp_path / "store", create=True)


@pytest.fixture
def claims(catalogue: Catalogue) -> Claims:
    return Claims(catalogue, "f" * 64)


def test_the_first_to_ask_embeds(claims: Claims) -> None:
    assert claims.ask(1, [content(1), content(2), content(1)]) == [True, True, True]
    assert claims.ask(2, [content(2), content(3)]) == [False, True]
    assert claims.ask(1, [content(1), content(2)]) == [True, True]  # done again
    assert claims.begun() == [1, 2]


def test_a_content_of_the_catalogue_is_embedded_by_nobody(claims: Claims, catalogue: Catalogue) -> None:
    vector = np.full(4, 9, np.float32)
    known = NewPicture(b"/gallery/known", 5, 7, content(9), vector, 3, 2, "2020-01-01T00:00:00")
    catalogue.record(b"/gallery", "f" * 64, [known])
    assert claims.ask(1, [content(9)]) == [False]
    catalogue.remove(b"/gallery/known")
    batch = claims.settle(block(1, "copy"), [Brought(content(9))])
    assert (rows(batch), batch.embedded) == ({"copy": 9}, 0)
    assert batch.read[0].info.taken_at == "2020-01-01T00:00:00"


@pytest.mark.parametrize("first", [1, 2])
def test_copies_in_two_blocks_wait_for_each_other(claims: Claims, first: int) -> None:
    claims.ask(1, [content(1)])
    claims.ask(2, [content(1), content(2)])
    answers: dict[int, tuple[Block, list[Brought | Broken]]]
    answers = {1: (block(1, "a"), [embedded(1)]), 2: (block(2, "copy", "b"), [Brought(content(1)), embedded(2)])}
    batches = [claims.settle(*answers[number]) for number in (first, 3 - first)]
    assert {name: of for batch in batches for name, of in rows(batch).items()} == {"a": 1, "copy": 1, "b": 2}
    assert sum(batch.embedded for batch in batches) == 2
    assert list(claims.take_back()) == []
    assert claims.ask(3, [content(1)]) == [False]  # not yet in the catalogue
    assert rows(claims.settle(block(3, "again"), [Brought(content(1))])) == {"again": 1}


def test_copies_in_one_block(claims: Claims) -> None:
    claims.ask(1, [content(1), content(1), content(2), content(2)])
    answers: list[Brought | Broken]
    answers = [embedded(1), Brought(content(1)), Broken("is empty", content(2)), Brought(content(2))]
    batch = claims.settle(block(1, "a", "b", "c", "d"), answers)
    assert rows(batch) == {"a": 1, "b": 1}
    assert batch.failures == [Failed(b"/gallery/c", "is empty"), Failed(b"/gallery/d", "is empty")]
    assert batch.embedded == 1


@pytest.mark.parametrize("first", [1, 2])
def test_a_broken_content_is_broken_for_all_that_wait(claims: Claims, first: int) -> None:
    claims.ask(1, [content(1)])
    claims.ask(2, [content(1)])
    answers: dict[int, tuple[Block, list[Brought | Broken]]]
    answers = {1: (block(1, "a"), [Broken("is empty", content(1))]), 2: (block(2, "b"), [Brought(content(1))])}
    failures = [failure for number in (first, 3 - first) for failure in claims.settle(*answers[number]).failures]
    assert sorted(failures) == [Failed(b"/gallery/a", "is empty"), Failed(b"/gallery/b", "is empty")]


def test_what_waits_for_a_lost_block_is_taken_back(claims: Claims) -> None:
    claims.ask(1, [content(1)])
    claims.ask(2, [content(1), content(2)])
    assert rows(claims.settle(block(2, "copy", "b"), [Brought(content(1)), embedded(2)])) == {"b": 2}
    assert claims.begun() == [1]
    assert list(claims.take_back()) == [found("copy")]
    assert claims.begun() == []
    assert claims.ask(3, [content(1)]) == [True]
