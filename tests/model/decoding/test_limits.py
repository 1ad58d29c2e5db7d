"""Decoding within limits of time and memory: what is beyond them fails by itself, before it is decoded."""

import io
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.common import memory
from retrieval.common.errors import PictureError, TransientPictureError
from retrieval.model import preprocessing
from retrieval.model.decoding import limits, png
from retrieval.model.decoding.limits import Room, TimedFile, decoded_bytes
from retrieval.model.preprocessing import read_at_size, read_image
from tests.support.command import PROJECT

MB = 2**20


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def many_scans(side: int, scans: int, components: int = 1, start_of_frame: int = 0xC2) -> bytes:
    """Make a grey JPEG, progressive or of one component a scan, whose scans have hardly any bytes."""
    sampled = b"".join(bytes([number, 0x11, 0]) for number in range(1, components + 1))
    head = segment(0xDB, b"\0" + bytes([1] * 64))
    head += segment(start_of_frame, struct.pack(">BHHB", 8, side, side, components) + sampled)
    head += segment(0xC4, bytes([0, 1] + [0] * 15) + b"\0") + segment(0xC4, bytes([0x10, 1, 1] + [0] * 14) + b"\xe0\0")
    end = b"\x3f" if start_of_frame != 0xC2 else b"\0"
    scan = segment(0xDA, b"\x01\x01\x00\x00" + end + b"\0") + b"\0"
    return b"\xff\xd8" + head + scan * scans + b"\xff\xd9"


def grey_alpha(side: int) -> bytes:
    """Make a PNG of two zero bytes a pixel, which zlib makes a thousandth of."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", side, side, 8, 4, 0, 0, 0)
    rows = zlib.compress(bytes(side * (1 + 2 * side)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("components", "kind"), [(1, 0xC2), (3, 0xC2), (3, 0xC0), (3, 0xC1)])
@pytest.mark.parametrize("scans", [3000, 20_000])
def test_a_jpeg_of_thousands_of_scans_is_refused_at_once(components: int, kind: int, scans: int) -> None:
    content = many_scans(8000, scans, components, kind)
    started = time.thread_time()
    with pytest.raises(PictureError, match=r"has more than [\d,]+ scans.*save it anew") as raised:
        read_at_size(content, 224)
    assert time.thread_time() - started < 5  # decoding it takes minutes
    assert not isinstance(raised.value, TransientPictureError)


@pytest.mark.parametrize("progressive", [False, True])
def test_what_follows_a_jpeg_or_lies_in_it_is_no_scan(progressive: bool) -> None:
    out = io.BytesIO()
    Image.new("RGB", (640, 480), "red").save(
        out, "JPEG", progressive=progressive, exif=b"Exif\0\0" + b"\xff\xda" * 9000
    )
    image, _ = read_image(out.getvalue() + b"\xff\xda" * 4 * MB)
    assert image.getpixel((5, 5))[0] > 250  # type: ignore[index]


def test_scans_are_counted_up_to_the_end() -> None:
    content = many_scans(64, 40)
    assert limits._count_scans(content, 1000) == 40
    assert limits._count_scans(content + content, 1000) == 40
    assert limits._count_scans(content, 10) == 11
    assert limits._count_scans(content[:-40], 1000) == 37


SLOW: list[tuple[str, bytes]] = [
    ("a text of numbers", b"P3 2000 2000 255\n" + b"1 " * 6_000_000),
    ("a JPEG of comments", b"\xff\xd8" + b"\xff\xfe\0\2" * 4_000_000),
]


@pytest.mark.parametrize("content", [pytest.param(content, id=name) for name, content in SLOW])
def test_slow_decoding_ends(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(preprocessing, "TimedFile", lambda file: TimedFile(file, 0.2))
    with pytest.raises(PictureError, match="takes too long to decode: save it anew"):
        read_at_size(content, 224)


def test_decoding_takes_no_second_copy() -> None:
    """In one process each, as the most memory that a process has had cannot be reset."""
    script = (
        "import resource, sys; from retrieval.model.preprocessing import read_at_size\n"
        "most = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "content = sys.stdin.buffer.read(); before = most(); read_at_size(content, 224); print(most() - before)"
    )
    for content in (grey_alpha(6000),):
        taken = subprocess.run(
            [sys.executable, "-c", script], input=content, capture_output=True, check=True, cwd=PROJECT
        ).stdout
        assert float(taken) < 1.5 * 4 * 36  # MB


def test_estimates_hold_for_each_format(tmp_path: Path) -> None:
    image = Image.new("RGB", (300, 200))
    image.save(tmp_path / "a.jpg", progressive=True, subsampling=0)
    image.save(tmp_path / "b.jpg")
    image.convert("LA").save(tmp_path / "c.png")
    image.save(tmp_path / "d.webp")
    with Image.open(tmp_path / "a.jpg") as progressive, Image.open(tmp_path / "b.jpg") as plain:
        assert decoded_bytes(progressive, 60_000) == 60_000 * (4 + 6)
        assert decoded_bytes(plain, 60_000) == 60_000 * 4
        plain.draft("RGB", (20, 20))
        assert decoded_bytes(plain, 60_000) == 38 * 25 * 4
    with Image.open(tmp_path / "c.png") as grey, Image.open(tmp_path / "d.webp") as webp:
        assert decoded_bytes(grey, 60_000) == 60_000 * 4
        assert decoded_bytes(webp, 60_000) == 60_000 * 18


def test_a_lack_of_memory_says_nothing_of_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "free_memory", lambda: 100 * MB)
    with pytest.raises(TransientPictureError, match=r"needs 144 MB of memory .*105 MB are free: end other programs"):
        read_at_size(grey_alpha(6000), 224)


@pytest.mark.parametrize("error", [MemoryError(), OSError("out of memory error when reading image file")])
def test_memory_that_runs_out_is_not_the_picture_s_fault(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(image: Image.Image) -> None:
        raise error

    monkeypatch.setattr(Image.Image, "load", fail)
    with pytest.raises(TransientPictureError, match="needs more memory than is free"):
        read_image(Image.fromarray(np.zeros((2, 2, 3), np.uint8)))


def hold(room: Room, size: int, order: list[int], done: threading.Event) -> threading.Thread:
    def work() -> None:
        with room.hold(size):
            order.append(size)
            done.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen within 5 s")


def test_large_pictures_wait_for_each_other_and_small_ones_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "free_memory", lambda: None)
    room, order = Room(300 * MB), list[int]()
    ends = [threading.Event() for _ in range(3)]
    threads = [hold(room, 200 * MB, order, ends[0])]
    wait_until(lambda: len(order) == 1)
    threads.append(hold(room, 900 * MB, order, ends[1]))
    threads.append(hold(room, MB, order, ends[2]))
    wait_until(lambda: len(order) == 2)
    assert order == [200 * MB, MB]
    ends[0].set()
    wait_until(lambda: len(order) == 3)  # larger than the room, and so alone
    for end in ends:
        end.set()
    for thread in threads:
        thread.join()
    assert room._held == 0


def test_free_memory_is_the_least_that_the_system_its_groups_and_limits_leave() -> None:
    free = memory.free_memory()
    if sys.platform != "linux":
        assert free is None or free > 0
        return
    assert free
    script = "import resource; from retrieval.common.memory import free_memory\n" + (
        "resource.setrlimit(resource.RLIMIT_AS, (2 ** 31, -1)); print(free_memory())"
    )
    limited = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, cwd=PROJECT).stdout
    assert int(limited) < 2**31


def test_a_png_of_too_many_chunks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png, "_MOST_CHUNKS", 1000)
    whole, empty = grey_alpha(4), bytes(4) + b"teXt" + struct.pack(">I", zlib.crc32(b"teXt"))
    read_at_size(whole[:33] + empty * 900 + whole[33:], 224)
    with pytest.raises(PictureError, match="more than a million chunks: save it anew"):
        read_at_size(whole[:33] + empty * 1000 + whole[33:], 224)


def tiff(*tags: tuple[int, int, int, int], behind: bytes = b"") -> bytes:
    """Make a TIFF of one page: each tag with its type, its count and where its values are."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + behind


GREY = ((256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1))


def test_a_tiff_of_millions_of_strips_takes_little_memory() -> None:
    content = tiff(*GREY, (273, 4, 3 * 2**20, 200), (279, 4, 3 * 2**20, 200), behind=bytes(13 * 2**20))
    tracemalloc.start()
    try:
        with pytest.raises(PictureError, match="more than a million parts: save it anew"):
            read_at_size(content, 224)
        assert tracemalloc.get_traced_memory()[1] < 100 * MB
    finally:
        tracemalloc.stop()


def test_parts_that_are_read_in_python_take_no_more_time_than_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(limits.within_time(range(3))) == [0, 1, 2]
    monkeypatch.setattr(limits, "_PART_SECONDS", -1)
    dark = np.full((64, 64, 3), 300, ">u2")
    head = struct.pack(">IIBBBBB", 64, 64, 16, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (
            (b"IHDR", head),
            (b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in dark))),
            (b"IEND", b""),
        )
    )
    with pytest.raises(PictureError, match="takes too long to decode"):
        read_at_size(content, 224)


def test_libtiff_writes_no_lines_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    out = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (300, 300), np.uint8)
    Image.fromarray(noise).convert("1").save(out, "TIFF", compression="group4")
    damaged = bytearray(out.getvalue())
    damaged[400:9000:50] = bytes(len(range(400, 9000, 50)))
    with suppress(PictureError):
        read_image(bytes(damaged))
    assert capfd.readouterr().err == ""
