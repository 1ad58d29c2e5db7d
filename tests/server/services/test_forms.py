import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.server.errors import RequestRefused
from retrieval.server.services.forms import picture_bytes

BOUNDARY = b"----0123456789"
KIND = f"multipart/form-data; boundary={BOUNDARY.decode()}"
FILE = b'Content-Disposition: form-data; name="file"; filename="a.jpg"\r\nContent-Type: image/jpeg'


def form(*parts: tuple[bytes, bytes], end: bytes = b"--\r\n") -> bytes:
    """Return a form of headers and contents."""
    begun = b"".join(b"--%s\r\n%s\r\n\r\n%s\r\n" % (BOUNDARY, headers, content) for headers, content in parts)
    return begun + b"--" + BOUNDARY + end


def read(chunks: Sequence[bytes], kind: str = KIND) -> bytes:
    async def body() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    async def gather() -> bytes:
        return b"".join([part async for part in picture_bytes(body(), kind)])

    return asyncio.run(gather())


@given(
    st.lists(st.sampled_from([b"\r\n", b"--", BOUNDARY, b"\r\n--" + BOUNDARY[:-1], b"\xff\xd8", b"\0"]) | st.binary()),
    st.lists(st.integers(1, 60), min_size=1),
)
def test_the_file_of_a_form_is_whole_in_whatever_pieces_it_comes(content: list[bytes], sizes: list[int]) -> None:
    whole = b"".join(content)
    if b"\r\n--" + BOUNDARY in b"\r\n" + whole:
        return
    sent, chunks = form((FILE, whole)), list[bytes]()
    while sent:
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(sent[:size])
        sent = sent[size:]
    assert read(chunks) == whole


@pytest.mark.parametrize("kind", ["", "image/jpeg", "application/x-www-form-urlencoded", "nonsense; boundary=x"])
def test_what_is_no_form_is_taken_as_it_is(kind: str) -> None:
    assert read([b"--x\r\n", b"picture"], kind) == b"--x\r\npicture"


@pytest.mark.parametrize(
    ("sent", "kind", "message"),
    [
        (form((FILE, b"a")), "multipart/form-data", "no boundary"),
        (form((FILE, b"a")), f"multipart/form-data; boundary={'x' * 300}", "no boundary"),
        (form((FILE, b"a")), "multipart/form-data; boundary=other", "is damaged"),
        (b"\xff\xd8\xff a picture", KIND, "is damaged"),
        (form((FILE, b"a" * 99))[:-40], KIND, "did not arrive whole"),
        (b"", KIND, "did not arrive whole"),
        (form((FILE, b"a"), (FILE, b"b")), KIND, "several files"),
        (form((b'Content-Disposition: form-data; name="top"', b"3"), (FILE, b"b")), KIND, "'top': only a file"),
        (form((b"X: y", b"3")), KIND, "a field '': only a file"),
        (form((FILE + b"\r\nX: " + b"y" * 9999, b"a")), KIND, "is damaged"),
    ],
)
def test_a_form_that_cannot_be_taken_is_refused_in_words(sent: bytes, kind: str, message: str) -> None:
    for chunks in ([sent], [sent[:30], sent[30:]]):
        with pytest.raises(RequestRefused, match=message):
            read(chunks, kind)
