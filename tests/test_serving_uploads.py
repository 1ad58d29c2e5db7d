from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path

import pytest
from starlette.requests import ClientDisconnect

from retrieval.serving import uploads as module
from retrieval.serving.terms import Refused
from retrieval.serving.uploads import Uploads


async def body(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def receive(uploads: Uploads, *chunks: bytes, declared: int | None = None) -> str:
    return asyncio.run(uploads.receive(body(*chunks), declared))


def test_a_picture_is_kept_under_its_hash(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 100)
    name = receive(uploads, b"pic", b"ture")
    assert name == hashlib.sha256(b"picture").hexdigest()
    assert uploads.find(name).read_bytes() == b"picture"
    assert receive(uploads, b"picture") == name
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize(("chunks", "declared"), [((b"x" * 6, b"x" * 6), None), ((b"",), 11)])
def test_what_is_too_large_is_refused_and_leaves_nothing(
    tmp_path: Path, chunks: tuple[bytes, ...], declared: int | None
) -> None:
    with pytest.raises(Refused, match="--max-upload") as refusal:
        receive(Uploads(tmp_path, 10), *chunks, declared=declared)
    assert refusal.value.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert os.listdir(tmp_path) == []


def test_nothing_sent_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no picture came"):
        receive(Uploads(tmp_path, 10))
    assert os.listdir(tmp_path) == []


def test_a_picture_that_does_not_arrive_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UPLOAD_SECONDS", 0.05)

    async def slow() -> AsyncIterator[bytes]:
        yield b"p"
        await asyncio.sleep(30)

    with pytest.raises(Refused) as refusal:
        asyncio.run(Uploads(tmp_path, 10).receive(slow(), None))
    assert refusal.value.status == HTTPStatus.REQUEST_TIMEOUT
    assert os.listdir(tmp_path) == []


def test_a_client_that_leaves_leaves_nothing(tmp_path: Path) -> None:
    async def torn() -> AsyncIterator[bytes]:
        yield b"p"
        raise ClientDisconnect

    with pytest.raises(Refused, match="did not arrive whole"):
        asyncio.run(Uploads(tmp_path, 10).receive(torn(), None))
    assert os.listdir(tmp_path) == []


def test_the_oldest_go_first_and_use_keeps_one_young(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 100, kept=20)
    first, second = receive(uploads, b"a" * 10), receive(uploads, b"b" * 10)
    for age, name in ((200, first), (100, second)):
        os.utime(tmp_path / name, ns=((10**9 - age) * 10**9,) * 2)
    uploads.find(first)
    third = receive(uploads, b"c" * 10)
    assert sorted(os.listdir(tmp_path)) == sorted([first, third])


@pytest.mark.parametrize("name", ["", ".", "..", "../../etc/passwd", "0" * 63, "0" * 64, "A" * 64, "/etc/passwd"])
def test_only_the_name_of_an_upload_finds_a_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(Refused, match="no longer kept"):
        Uploads(tmp_path, 10).find(name)
