"""Tracking of the tars that a scan has read to their ends, with all their pictures in the catalogue."""

from collections import Counter
from collections.abc import Iterable
from threading import Lock

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import FailedFile
from retrieval.common.settings import installed_version, max_pixels
from retrieval.sources.entries import PictureFile, TarEnd, TarStart, Unreadable


class TarTracker:
    """The tars of one scan: one thread reports the tars and members that it walks to, another what is recorded.

    A tar with failed members is read again if they may succeed: each time after a transient failure, else by another
    release of this program or with another limit of pixels.
    """

    def __init__(self, catalogue: Catalogue, gallery: bytes) -> None:
        self._catalogue = catalogue
        self._read = catalogue.scans.finished_archives(gallery)
        release = installed_version("retrieve-explain")
        self._version_suffix = f" as release {release} reads it, up to {max_pixels()} pixels"
        self._open: TarStart | None = None
        self._closed: dict[bytes, str] = {}  # versions by tar, until all of its members are recorded
        self._pending: dict[bytes, bytes] = {}  # tars by member that is not recorded yet
        self._left: Counter[bytes] = Counter()  # how many those are, by tar
        self._failed_tars: set[bytes] = set()  # with members that failed
        self._transient_tars: set[bytes] = set()  # with members that failed for a time
        self._lock = Lock()

    def is_read(self, tar: bytes, version: str) -> bool:
        """Return whether the tar with this path and version need not be read again."""
        return bool(version) and self._read.get(tar) in (version, version + self._version_suffix)

    def open(self, tar: TarStart) -> None:
        """Take the files that follow as members of this tar, and forget that it was read before."""
        self._open = tar
        if tar.path in self._read:
            self._catalogue.scans.forget_archive(tar.path)

    def add_pending(self, member: PictureFile | Unreadable) -> None:
        """Wait for a member of the open tar, if there is one, to be recorded."""
        if self._open is not None:
            with self._lock:
                self._pending[member.path] = self._open.path
                self._left[self._open.path] += 1

    def close(self, tar: TarEnd) -> None:
        """Take the open tar's members as complete."""
        assert self._open is not None
        with self._lock:
            if self._open.version and tar.is_complete:
                self._closed[tar.path] = self._open.version
        self._open = None
        self._record_if_done(tar.path)

    def mark_recorded(self, pictures: Iterable[bytes], failures: Iterable[FailedFile]) -> None:
        """Take these as recorded; a tar whose last members they are is recorded as read."""
        with self._lock:
            tars = [tar for path in pictures if (tar := self._pending.pop(path, None)) is not None]
            for failed in failures:
                tar = self._pending.pop(failed.path, None)
                if tar is not None:
                    tars.append(tar)
                    (self._transient_tars if failed.is_transient else self._failed_tars).add(tar)
            self._left.subtract(tars)
        for tar in set(tars):
            self._record_if_done(tar)

    def _record_if_done(self, tar: bytes) -> None:
        with self._lock:
            version = self._closed.pop(tar, None) if self._left[tar] == 0 else None
        if version is not None and tar not in self._transient_tars:
            self._catalogue.scans.record_archive(
                tar, version + self._version_suffix if tar in self._failed_tars else version
            )
