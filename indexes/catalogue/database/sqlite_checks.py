"""Checks of a catalogue's SQLite file before it is used: whose it is, and whether it and its log are whole."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from indexes.catalogue.database.sqlite_migrations import APPLICATION_ID

_MAGIC = b"SQLite format 3\0"
_TABLES = {"migrations", "settings", "roots", "pictures", "descriptors"}
_ALL_TABLES = _TABLES | {"failures", "changes", "generations", "archives", "sqlite_sequence"}
_SMALL = 8 << 20  # bytes of a file that is checked whole, in about 10 ms
_HEADER, _FRAME = 32, 24  # bytes of a log's header, and of that before each page
_CHUNK = 256  # pages of a log that are summed up at once
_TRIES, _PAUSE = 5, 0.02  # a log that is being written is read again


def is_foreign(file: Path) -> bool:
    """Return whether a file is another program's database. Nothing is written for that, not even a lock."""
    try:
        with open(file, "rb") as opened:
            head = opened.read(100)
    except OSError:  # which SQLite will report
        return False
    if not head.startswith(_MAGIC):
        return False
    number = int.from_bytes(head[68:72], "big")
    if number:
        return number != APPLICATION_ID
    names = set[str]()  # of a store of before; with all in the log if its first process was killed
    with suppress(sqlite3.Error):
        address = f"file:{quote(os.fsencode(file.absolute()))}?mode=ro&immutable=1"
        with closing(sqlite3.connect(address, uri=True)) as connection:
            names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return not (names <= _ALL_TABLES or names >= _TABLES)


def find_damage(connection: sqlite3.Connection, size: int) -> str | None:
    """Return what SQLite's own check finds in a file of so many bytes; in a large one it looks at the settings only."""
    parts = [""] if size <= _SMALL or sqlite3.sqlite_version_info < (3, 33) else ["(settings)", "(roots)"]
    for part in parts:
        found = connection.execute(f"PRAGMA integrity_check{part}").fetchone()[0]
        if found != "ok":
            return str(found)
    return None


def lost_transactions(log: Path) -> int:
    """Return how many transactions of a write-ahead log SQLite would leave out because a bit before them is wrong.

    SQLite takes the first page whose checksum does not fit for the log's end, as that of a transaction that a power cut
    interrupted. If whole transactions follow it, it is not.
    """
    found: tuple[bytes, int] | None = None
    for _ in range(_TRIES):
        try:
            content = log.read_bytes()
        except OSError:
            return 0
        again = content[:_HEADER], _count_lost(content)
        if again[1] == 0 or again == found:
            return again[1]
        found = again
        time.sleep(_PAUSE)  # another process may have begun the log anew meanwhile
    return 0


def _count_lost(content: bytes) -> int:
    if len(content) <= _HEADER:
        return 0
    header = np.frombuffer(content[:_HEADER], ">u4")
    page, salts = int(header[2]), header[4:6].astype(np.uint32)
    if page not in {1 << power for power in range(9, 17)}:
        return 1
    order = "<u4" if header[0] == 0x377F0682 else ">u4"
    frames = np.frombuffer(content[_HEADER:], np.uint8)
    frames = frames[: len(frames) // (_FRAME + page) * (_FRAME + page)].reshape(-1, _FRAME + page)
    heads = frames[:, :_FRAME].copy().view(">u4").astype(np.uint32)
    differing = np.bitwise_count(heads[:, 2:4] ^ salts).sum(1)
    is_of_log, ends = differing <= 1, heads[:, 1] != 0  # one bit of a salt may be what is wrong
    whole = 0
    if tuple(_sums(np.frombuffer(content[:24], order).astype(np.uint32)[None], (0, 0))) == (tuple(header[6:8]),):
        stored = map(tuple, heads[:, 4:6].tolist())
        for sums, expected, other in zip(_page_sums(frames, order, header[6:8]), stored, differing, strict=False):
            if sums != expected or other:
                break
            whole += 1
    return int((is_of_log & ends)[whole:].sum())


def _page_sums(frames: NDArray[np.uint8], order: str, first: NDArray[np.uint32]) -> Iterator[tuple[int, int]]:
    sums = int(first[0]), int(first[1])
    for start in range(0, len(frames), _CHUNK):
        chunk = frames[start : start + _CHUNK]
        words = np.concatenate([chunk[:, :8], chunk[:, _FRAME:]], axis=1).view(order).astype(np.uint32)
        for each in _sums(words, sums):
            yield each
            sums = each


def _sums(words: NDArray[np.uint32], sums: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yield SQLite's running checksum after each row of words (N, 2 K), which begins with `sums`.

    For each two words x, y it is s0 += x + s1; s1 += y + s0, modulo 2^32: a linear map, so that all rows are summed up
    at once, by the powers of its matrix.
    """
    pairs = words.shape[1] // 2
    powers = np.empty((pairs + 1, 2, 2), np.uint32)
    powers[0] = np.eye(2)
    for number in range(pairs):
        powers[number + 1] = powers[number] @ np.array([[1, 1], [1, 2]], np.uint32)
    x, y = words[:, ::2], words[:, 1::2]
    weights = powers[pairs - 1 :: -1]
    parts = [
        (x * weights[:, row, 0] + (x + y) * weights[:, row, 1]).sum(1, dtype=np.uint32).tolist() for row in range(2)
    ]
    (a, b), (c, d) = powers[pairs].tolist()
    for first, second in zip(*parts, strict=True):
        sums = (a * sums[0] + b * sums[1] + first) & 0xFFFFFFFF, (c * sums[0] + d * sums[1] + second) & 0xFFFFFFFF
        yield sums
