"""Which tars a scan has read to their ends, with all of their pictures in the catalogue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from threading import Lock
from typing import TypeVar

from indexes.catalogue import Catalogue
from retrieval.walk import Closed, Found, Opened, Unreadable

T = TypeVar("T", Found, Unreadable)


class TarsRead:
    """Told as a scan goes: what tar is open, what was given on, and, from any thread, what is recorded."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._open: Opened | None = None
        self._closed: dict[bytes, str] = {}  # their versions, until all is recorded
        self._given: dict[bytes, bytes] = {}  # the tars of members that are not recorded yet
        self._left: Counter[bytes] = Counter()  # how many those are, by tar
        self._lock = Lock()

    def open(self, tar: Opened) -> None:
        """What is given from now on is a member of this tar."""
        self._open = tar

    def given(self, member: T) -> T:
        """A member is on its way to the catalogue."""
        if self._open is not None:
            with self._lock:
                self._given[member.path] = self._open.path
                self._left[self._open.path] += 1
        return member

    def close(self, tar: Closed) -> None:
        """All members of the tar were given."""
        assert self._open is not None
        with self._lock:
            if self._open.version:
                self._closed[tar.path] = self._open.version
        self._open = None
        self._keep(tar.path)

    def done(self, paths: Iterable[bytes]) -> None:
        """These are recorded."""
        with self._lock:
            tars = [tar for path in paths if (tar := self._given.pop(path, None)) is not None]
            self._left.subtract(tars)
        for tar in set(tars):
            self._keep(tar)

    def _keep(self, tar: bytes) -> None:
        with self._lock:
            version = self._closed.pop(tar, None) if self._left[tar] == 0 else None
        if version is not None:
            self._catalogue.keep_archive(tar, version)
