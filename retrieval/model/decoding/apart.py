"""A process that decodes one picture and can be ended, for libraries that cannot, on files that may take minutes."""

import ctypes
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from PIL import Image

from retrieval.common.errors import PictureError, TransientPictureError, lack_of_memory
from retrieval.common.memory import limit_memory
from retrieval.model.decoding.limits import TOO_SLOW
from retrieval.sources.files import BinaryFile, whole_content

_SECONDS = 30
_SPARE_BYTES = 2**29  # that the process may take beside the picture: for threads, of which each counts 8 MB
_KILLED = -9
_END_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_MOST_PIXELS = 1e9  # of all tiles of a HEIC, which takes about 20 s
_START = (
    "import sys; sys.path[:] = {!r}; from retrieval.model.preprocessing import read_image;"
    " from retrieval.model.decoding.apart import serve; serve(read_image, {!r}, {!r})"
)
_SIZES = re.compile(rb"ispe\0\0\0\0(....)(....)", re.DOTALL)
_is_apart = False


def may_take_long(image: Image.Image, file: BinaryFile) -> bool:
    """Return whether a picture, not loaded yet, may take far longer than its size in pixels explains.

    A small JPEG 2000 may consist of billions of packets, and a HEIC or AVIF of tiles that are decoded any number of
    times.
    """
    if _is_apart or image.format not in ("JPEG2000", "HEIF", "AVIF"):
        return False
    return image.format == "JPEG2000" or _tiled_pixels(whole_content(file)) > _MOST_PIXELS


def _tiled_pixels(content: bytes) -> float:
    """Return the most pixels that are decoded for an item of a HEIC or AVIF that is made of other items."""
    references: dict[int, list[int]] = {}
    for found in re.finditer(b"iref", content):
        references |= _references(content, found.start())
    sizes = (int.from_bytes(width) * int.from_bytes(height) for width, height in _SIZES.findall(content))
    counts: dict[int, float] = {}

    def count(item: int) -> float:
        """Return how many coded pictures an item is made of."""
        if item not in counts:
            counts[item] = float("inf")  # if it is made of itself
            counts[item] = sum(map(count, references[item])) if references.get(item) else 1
        return counts[item]

    try:
        return max(map(count, references), default=0) * max(sizes, default=0)
    except RecursionError:
        return float("inf")


def _references(content: bytes, start: int) -> dict[int, list[int]]:
    """Return what each item of a box of references, whose name starts here, is made of."""
    end = start - 4 + int.from_bytes(content[start - 4 : start])
    width = 4 if content[start + 4 : start + 5] == b"\1" else 2
    place, found = start + 8, dict[int, list[int]]()
    while place + 8 < min(end, len(content)) and (size := int.from_bytes(content[place : place + 4])) >= 8:
        if content[place + 4 : place + 8] == b"dimg":
            values = content[place + 8 + width + 2 : place + size]
            item = int.from_bytes(content[place + 8 : place + 8 + width])
            found[item] = [int.from_bytes(values[at : at + width]) for at in range(0, len(values), width)]
        place += size
    return found


def decode_apart(file: BinaryFile, min_side: int | None, size: int) -> tuple[Image.Image, dict[str, Any]]:
    """Decode a picture that takes about `size` bytes of memory; return it in RGB, and its metadata by name.

    Raises PictureError, and OSError if no process can be started.
    """
    start = _START.format(sys.path, min_side, size + _SPARE_BYTES)
    try:
        done = subprocess.run(
            [sys.executable, "-c", start], input=whole_content(file), capture_output=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise PictureError(TOO_SLOW) from error
    head = done.stdout[: done.stdout.find(b"\n") + 1]
    if done.returncode == _KILLED:  # by the system, if memory runs out
        raise lack_of_memory()
    if not head:
        raise PictureError(f"ends its decoder with code {done.returncode}: save it anew, as a plain JPEG")
    answer: dict[str, Any] = json.loads(head)
    if "reason" in answer:
        raise (TransientPictureError if answer.get("is_transient") else PictureError)(answer["reason"])
    return Image.frombytes("RGB", answer["size"], memoryview(done.stdout)[len(head) :]), answer["info"]


def serve(read_image: Callable[..., tuple[Image.Image, Any]], min_side: int | None, most_bytes: int) -> None:
    """Decode the picture of standard input; write the answer, and the values in RGB, to standard output."""
    global _is_apart
    _is_apart = True
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with suppress(OSError, AttributeError, TypeError):  # Linux alone
        ctypes.CDLL(None).prctl(_END_WITH_PARENT, signal.SIGKILL)
    if hasattr(signal, "alarm"):
        signal.alarm(_SECONDS)  # where the process that waits for this one may be gone
    content, pixels = sys.stdin.buffer.read(), b""
    with suppress(ImportError, OSError, ValueError, KeyError):
        limit_memory(most_bytes)
    try:
        image, info = read_image(content, min_side)
    except PictureError as error:
        answer: dict[str, Any] = {"reason": error.reason, "is_transient": isinstance(error, TransientPictureError)}
    else:
        answer, pixels = {"size": image.size, "info": asdict(info)}, image.tobytes()
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + pixels)
