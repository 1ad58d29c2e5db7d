"""What a scan of a gallery reads from the catalogue and records in it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, text, update

from indexes.catalogue.database.base import CatalogueDatabase, retry_lost
from indexes.catalogue.database.checksums import CHECKED, descriptor_checksum, holds, row_checksum
from indexes.catalogue.database.dialects import chunked, dialect_of
from indexes.catalogue.database.schema import ARCHIVES, CHANGES, FAILURES, PICTURES, ROOTS
from indexes.catalogue.descriptors import decode_vectors
from indexes.catalogue.journal import update_generation
from indexes.catalogue.labels import folder_label
from indexes.catalogue.paths import contains, folder_prefix, is_below, path_range
from indexes.catalogue.recording import record_pictures
from indexes.catalogue.records import FailedFile, KnownContent, KnownFile, NewPicture, RootCounts

_PAGE = 2000  # rows read at once
_OF_CONTENT = ("width", "height", "taken_at", "latitude", "longitude")

_UPSERT_ARCHIVE = text(
    "INSERT INTO archives (path, version) VALUES (:path, :version)"
    " ON CONFLICT (path) DO UPDATE SET version = excluded.version"
)
_SET_CTIME = text("UPDATE pictures SET ctime = :ctime WHERE id = :row")
_UPSERT_FAILURE = text(
    "INSERT INTO failures (path, reason) VALUES (:path, :reason)"
    " ON CONFLICT (path) DO UPDATE SET reason = excluded.reason"
)


class ScanRecords:
    """Galleries, their files, failures and tars. Every method is one transaction and raises StoreError."""

    def __init__(self, database: CatalogueDatabase) -> None:
        self._database = database

    # --- galleries

    @retry_lost
    def ensure_root(self, folder: bytes) -> bytes:
        """Return the gallery that a folder belongs to: one that contains it, else the folder itself, recorded now.

        A new gallery takes over the pictures of those that it contains.
        """
        with self._database.write() as connection:
            return _ensure_root(connection, folder)[1]

    def roots(self) -> list[bytes]:
        """Return the galleries' folders, in order."""
        return [counts.root for counts in self.root_counts()]

    def root_counts(self) -> list[RootCounts]:
        """Return the galleries with the numbers of their pictures, in order."""
        query = select(*ROOTS.c["path", "pictures", "missing", "checksum"]).order_by(ROOTS.c.path)
        rows = self._database.rows(query)
        for path, *_, checksum in rows:
            if not holds(checksum, row_checksum((path,))):
                raise self._database.damaged("the path of a gallery")
        return [RootCounts(*row[:3]) for row in rows]

    # --- pictures

    def known_files(self, folder: bytes) -> Iterator[KnownFile]:
        """Yield every file recorded below a folder by the bytes of its path, missing ones too, a page at a time."""
        start, end = path_range(folder)
        while page := self._database.fetch(self._database.dialect.known_files, (start, end, _PAGE)):
            for id_, path, size, mtime, version, missing, label, ctime in page:
                yield KnownFile(id_, path, size, mtime, version, missing != 0, label, ctime)
            start = path

    def find_by_content(self, contents: Sequence[bytes], fingerprint: str) -> dict[bytes, KnownContent]:
        """Return, by content hash, what is known of a picture of that content, with its descriptor of this model.

        What is not as it was written is not known: the file is embedded anew.
        """
        rows = [
            row
            for part in chunked(list(dict.fromkeys(contents)))
            for row in self._database.fetch(*self._database.dialect.known_contents(part, fingerprint))
        ]
        return {row[0]: _known_content(*row[2:]) for row in rows if _holds(fingerprint, *row)}

    @retry_lost
    def record(
        self, folder: bytes, fingerprint: str, pictures: Sequence[NewPicture], failures: Sequence[FailedFile] = ()
    ) -> None:
        """Record a batch of a folder's scan, good and bad, in one transaction.

        A failed file's earlier picture becomes missing, unless the error is transient. The folder's gallery is looked
        up again: another process may have removed it, or put it into a larger one, since the scan began.
        """
        with self._database.write() as connection:
            root_id, root = _ensure_root(connection, folder)
            if pictures:
                record_pictures(connection, root_id, root, fingerprint, pictures)
            _delete_failures(connection, [picture.path for picture in pictures])
            for path, reason, is_transient in failures:
                connection.execute(_UPSERT_FAILURE, {"path": path, "reason": reason and reason.replace("\0", " ")})
                if not is_transient:
                    connection.execute(update(PICTURES).where(PICTURES.c.path == path).values(missing=True))
            update_generation(connection)

    @retry_lost
    def set_missing(self, ids: Sequence[int], missing: bool) -> None:
        """Mark pictures as missing, or as present again."""
        with self._database.write() as connection:
            for part in chunked(ids):
                connection.execute(update(PICTURES).where(PICTURES.c.id.in_(part)).values(missing=missing))
            update_generation(connection)

    @retry_lost
    def set_change_times(self, times: Mapping[int, int]) -> None:
        """Record when files were last changed, in nanoseconds, by their pictures' ids."""
        if times:
            with self._database.write(exclusive=False) as connection:
                connection.execute(_SET_CTIME, [{"row": id_, "ctime": time} for id_, time in times.items()])

    # --- failures

    def failures(self) -> list[tuple[bytes, str]]:
        """Return the files that could not be indexed, in order, each with the reason."""
        rows = self._database.rows(select(FAILURES.c.path, FAILURES.c.reason).order_by(FAILURES.c.path))
        return [(path, reason) for path, reason in rows]

    def count_failures(self) -> int:
        """Count the files that could not be indexed."""
        return int(self._database.scalars(select(func.count()).select_from(FAILURES))[0])

    @retry_lost
    def prune_failures(self, folder: bytes, keep: set[bytes], matches: Callable[[bytes], bool] | None = None) -> None:
        """Delete the failures at or below a folder, except those to keep.

        Only paths that `matches` are deleted; by default those that a walk of the folder reaches.
        """
        with self._database.write() as connection:
            at_or_below = (FAILURES.c.path == folder) | is_below(FAILURES.c.path, folder)
            paths = set(connection.scalars(select(FAILURES.c.path).where(at_or_below))) - keep
            matches = matches or (lambda path: path == folder or contains(folder, path))
            _delete_failures(connection, [path for path in paths if matches(path)])

    # --- tars

    def finished_archives(self, folder: bytes) -> dict[bytes, str]:
        """Return the tars at or below a folder that were read to their ends, with their versions."""
        at_or_below = (ARCHIVES.c.path == folder) | is_below(ARCHIVES.c.path, folder)
        return dict(self._database.rows(select(ARCHIVES.c.path, ARCHIVES.c.version).where(at_or_below)))

    @retry_lost
    def record_archive(self, path: bytes, version: str) -> None:
        """Record that a tar of this version was read to its end."""
        with self._database.write(exclusive=False) as connection:
            connection.execute(_UPSERT_ARCHIVE, {"path": path, "version": version})

    @retry_lost
    def forget_archive(self, path: bytes) -> None:
        """Record that a tar was not read to its end, before pictures of a new version of it are recorded."""
        with self._database.write(exclusive=False) as connection:
            connection.execute(delete(ARCHIVES).where(ARCHIVES.c.path == path))


def _holds(
    fingerprint: str, content: bytes, id_: int, vector: bytes, checksum: int | None, own: int | None, *values: object
) -> bool:
    """Return whether a row of `known_contents` is as it was written."""
    return holds(checksum, descriptor_checksum(id_, fingerprint, vector)) and holds(own, row_checksum(values))


def _known_content(vector: bytes, checksum: int | None, own: int | None, *values: Any) -> KnownContent:
    return KnownContent(decode_vectors([vector])[0], *(values[CHECKED.index(name)] for name in _OF_CONTENT))


def _ensure_root(connection: Connection, folder: bytes) -> tuple[int, bytes]:
    roots = {path: id_ for id_, path in connection.execute(select(ROOTS.c.id, ROOTS.c.path))}
    for path, id_ in roots.items():
        if folder == path or contains(path, folder):
            return id_, path
    values = {"path": folder, "checksum": row_checksum((folder,))}
    root_id: int = connection.execute(insert(ROOTS).values(values).returning(ROOTS.c.id)).scalar_one()
    for path, id_ in roots.items():
        if contains(folder, path):
            is_direct = dialect_of(connection).is_direct_child.bindparams(start=len(folder_prefix(path)) + 1)
            relabelled = (PICTURES.c.root_id == id_) & PICTURES.c.label.is_(None) & is_direct
            changed = select(PICTURES.c.id).where(relabelled)
            connection.execute(insert(CHANGES).from_select(["picture_id"], changed))  # an index may keep labels
            connection.execute(update(PICTURES).where(relabelled).values(label=folder_label(path + b"/", folder)))
            connection.execute(update(PICTURES).where(PICTURES.c.root_id == id_).values(root_id=root_id))
            connection.execute(delete(ROOTS).where(ROOTS.c.id == id_))
            update_generation(connection)
    return root_id, folder


def _delete_failures(connection: Connection, paths: Sequence[bytes]) -> None:
    for part in chunked(paths):
        connection.execute(delete(FAILURES).where(FAILURES.c.path.in_(part)))
