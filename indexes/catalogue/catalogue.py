"""The catalogue, the truth of a store: which pictures are indexed, with their descriptors, and which files failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from sqlalchemy import Connection, delete, insert, select, text, update

from indexes.catalogue.database.dialects import chunked, dialect_of
from indexes.catalogue.database.retry import retry_lost
from indexes.catalogue.database.schema import Archive, Change, Failure, Picture, Root, Setting
from indexes.catalogue.journal import forget_changes, has_changed, new_generation
from indexes.catalogue.labels import folder_label
from indexes.catalogue.lookups import CatalogueReader
from indexes.catalogue.paths import contains, folder_prefix, is_below, parents
from indexes.catalogue.recording import record_pictures
from indexes.catalogue.records import FailedFile, NewPicture, RemovedCounts

_UPSERT_SETTING = text(
    "INSERT INTO settings (name, value) VALUES (:name, :value) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)
_UPSERT_ARCHIVE = text(
    "INSERT INTO archives (path, version) VALUES (:path, :version)"
    " ON CONFLICT (path) DO UPDATE SET version = excluded.version"
)
_UPSERT_FAILURE = text(
    "INSERT INTO failures (path, reason) VALUES (:path, :reason)"
    " ON CONFLICT (path) DO UPDATE SET reason = excluded.reason"
)


class Catalogue(CatalogueReader):
    """One store's catalogue, looked through and written. Every method is one transaction; each raises StoreError."""

    @retry_lost
    def set_settings(self, **values: str) -> None:
        """Keep values of the store."""
        with self._database.write(exclusive=False) as connection:
            for name, value in values.items():
                connection.execute(_UPSERT_SETTING, {"name": name, "value": value})

    @retry_lost
    def set_defaults(self, **values: str) -> None:
        """Keep values of the store where there are none, all by one of those who try at once."""
        with self._database.write() as connection:
            kept = set(connection.scalars(select(Setting.name).where(Setting.name.in_(values), Setting.value != "")))
            for name, value in values.items():
                if name not in kept:
                    connection.execute(_UPSERT_SETTING, {"name": name, "value": value})

    def index_lock(self, blocking: bool) -> AbstractContextManager[bool]:
        """While it is held nobody else has it, on whatever machine; False where another does, unless `must_wait`.

        For what is made from the catalogue and changed where it lies. Raises StoreError where it cannot be had.
        """
        return self._database.index_lock(blocking)

    @retry_lost
    def forget_changes(self, generation: str) -> None:
        """Drop what led to a generation, once an index of it is kept."""
        with self._database.write() as connection:
            forget_changes(connection, generation)

    # --- galleries

    @retry_lost
    def ensure_root(self, folder: bytes) -> bytes:
        """The root that a scan of this folder belongs to: one that holds it, else itself, taking in those it holds."""
        with self._database.write() as connection:
            return _ensure_root(connection, folder)[1]

    # --- a scan

    @retry_lost
    def record(
        self,
        folder: bytes,
        fingerprint: str,
        pictures: Sequence[NewPicture],
        failures: Sequence[FailedFile] = (),
    ) -> None:
        """Record a batch of a folder's scan, good and bad, in one transaction.

        A failed file's earlier picture becomes missing, unless what it failed by passes. The folder's root is looked up
        anew: another process may have removed it, or taken it in, since the scan began.
        """
        with self._database.write() as connection:
            root_id, root = _ensure_root(connection, folder)
            if pictures:
                record_pictures(connection, root_id, root, fingerprint, pictures)
            _delete_failures(connection, [picture.path for picture in pictures])
            for path, reason, passes in failures:
                connection.execute(_UPSERT_FAILURE, {"path": path, "reason": reason and reason.replace("\0", " ")})
                if not passes:
                    connection.execute(update(Picture).where(Picture.path == path).values(missing=True))
            _bump_generation(connection)

    @retry_lost
    def set_missing(self, ids: Sequence[int], missing: bool) -> None:
        """Mark pictures as missing, or as back."""
        with self._database.write() as connection:
            for some in chunked(ids):
                connection.execute(update(Picture).where(Picture.id.in_(some)).values(missing=missing))
            _bump_generation(connection)

    @retry_lost
    def prune_failures(
        self, folder: bytes, keep: set[bytes], matches: Callable[[bytes], bool] = lambda path: True
    ) -> None:
        """Forget the failures of a folder and what a walk of it meets, but for these; only `among` some, if given."""
        with self._database.write() as connection:
            at_or_below = (Failure.path == folder) | is_below(Failure.path, folder)
            old = connection.scalars(select(Failure.path).where(at_or_below))
            met = [path for path in old if path == folder or contains(folder, path)]
            _delete_failures(connection, [path for path in met if path not in keep and matches(path)])

    @retry_lost
    def record_archive(self, path: bytes, version: str) -> None:
        """Remember that a tar of this version was read to its end."""
        with self._database.write(exclusive=False) as connection:
            connection.execute(_UPSERT_ARCHIVE, {"path": path, "version": version})

    @retry_lost
    def forget_archive(self, path: bytes) -> None:
        """Count a tar as not read: it is another one, of which pictures are going to be recorded."""
        with self._database.write(exclusive=False) as connection:
            connection.execute(delete(Archive).where(Archive.path == path))

    def remove(self, path: bytes) -> RemovedCounts:
        """Take a picture or a failed file, or all below a folder and the folder itself, out of the catalogue."""
        with self._database.write() as connection:
            pictures, failures, roots, _ = (
                connection.execute(delete(table).where((table.path == path) | is_below(table.path, path))).rowcount
                for table in (Picture, Failure, Root, Archive)
            )
            connection.execute(delete(Archive).where(Archive.path.in_(parents(path))))  # it is read again
            removed = RemovedCounts(pictures, failures, roots)
            if removed:
                _bump_generation(connection)
            return removed


def _ensure_root(connection: Connection, folder: bytes) -> tuple[int, bytes]:
    roots = {path: id_ for id_, path in connection.execute(select(Root.id, Root.path))}
    for path, id_ in roots.items():
        if folder == path or contains(path, folder):
            return id_, path
    root_id: int = connection.execute(insert(Root).values(path=folder).returning(Root.id)).scalar_one()
    for path, id_ in roots.items():
        if contains(folder, path):
            directly = dialect_of(connection).is_direct_child.bindparams(start=len(folder_prefix(path)) + 1)
            label = folder_label(path + b"/", folder)
            labelled = (Picture.root_id == id_) & Picture.label.is_(None) & directly
            told = select(Picture.id).where(labelled)
            connection.execute(insert(Change).from_select(["picture_id"], told))  # an index may keep labels
            connection.execute(update(Picture).where(labelled).values(label=label))
            connection.execute(update(Picture).where(Picture.root_id == id_).values(root_id=root_id))
            connection.execute(delete(Root).where(Root.id == id_))
            _bump_generation(connection)
    return root_id, folder


def _bump_generation(connection: Connection) -> None:
    now = connection.scalar(select(Setting.value).where(Setting.name == "generation"))
    if has_changed(connection, now or ""):
        connection.execute(_UPSERT_SETTING, {"name": "generation", "value": new_generation(connection)})


def _delete_failures(connection: Connection, paths: Sequence[bytes]) -> None:
    for some in chunked(paths):
        connection.execute(delete(Failure).where(Failure.path.in_(some)))
