"""The catalogue, the truth of a store: which pictures are indexed, with their descriptors, and which files failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from sqlalchemy import Connection, delete, insert, select, text, update

from indexes.catalogue.database.dialects import dialect_of, portions
from indexes.catalogue.database.retry import again
from indexes.catalogue.database.schema import Archive, Change, Failure, Picture, Root, Setting
from indexes.catalogue.journal import forget_changes, has_changed, new_generation
from indexes.catalogue.labels import label_of
from indexes.catalogue.lookups import Lookups
from indexes.catalogue.paths import below, holds, inside, parents
from indexes.catalogue.recording import record_pictures
from indexes.catalogue.records import Failed, NewPicture, Removed

_SET = text(
    "INSERT INTO settings (name, value) VALUES (:name, :value) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)
_READ = text(
    "INSERT INTO archives (path, version) VALUES (:path, :version)"
    " ON CONFLICT (path) DO UPDATE SET version = excluded.version"
)
_FAIL = text(
    "INSERT INTO failures (path, reason) VALUES (:path, :reason)"
    " ON CONFLICT (path) DO UPDATE SET reason = excluded.reason"
)


class Catalogue(Lookups):
    """One store's catalogue, looked through and written. Every method is one transaction; each raises StoreError."""

    @again
    def set_settings(self, **values: str) -> None:
        """Keep values of the store."""
        with self._database.write(alone=False) as connection:
            for name, value in values.items():
                connection.execute(_SET, {"name": name, "value": value})

    @again
    def settle(self, **values: str) -> None:
        """Keep values of the store where there are none, all by one of those who try at once."""
        with self._database.write() as connection:
            kept = set(connection.scalars(select(Setting.name).where(Setting.name.in_(values), Setting.value != "")))
            for name, value in values.items():
                if name not in kept:
                    connection.execute(_SET, {"name": name, "value": value})

    def turn(self, must_wait: bool) -> AbstractContextManager[bool]:
        """While it is held nobody else has it, on whatever machine; False where another does, unless `must_wait`.

        For what is made from the catalogue and changed where it lies. Raises StoreError where it cannot be had.
        """
        return self._database.turn(must_wait)

    @again
    def forget_changes(self, generation: str) -> None:
        """Drop what led to a generation, once an index of it is kept."""
        with self._database.write() as connection:
            forget_changes(connection, generation)

    # --- galleries

    @again
    def root_of(self, folder: bytes) -> bytes:
        """The root that a scan of this folder belongs to: one that holds it, else itself, taking in those it holds."""
        with self._database.write() as connection:
            return _root_of(connection, folder)[1]

    # --- a scan

    @again
    def record(
        self,
        folder: bytes,
        fingerprint: str,
        pictures: Sequence[NewPicture],
        failures: Sequence[Failed] = (),
    ) -> None:
        """Record a batch of a folder's scan, good and bad, in one transaction.

        A failed file's earlier picture becomes missing, unless what it failed by passes. The folder's root is looked up
        anew: another process may have removed it, or taken it in, since the scan began.
        """
        with self._database.write() as connection:
            root_id, root = _root_of(connection, folder)
            if pictures:
                record_pictures(connection, root_id, root, fingerprint, pictures)
            _delete_paths(connection, [picture.path for picture in pictures])
            for path, reason, passes in failures:
                connection.execute(_FAIL, {"path": path, "reason": reason and reason.replace("\0", " ")})
                if not passes:
                    connection.execute(update(Picture).where(Picture.path == path).values(missing=True))
            _grow(connection)

    @again
    def set_missing(self, ids: Sequence[int], missing: bool) -> None:
        """Mark pictures as missing, or as back."""
        with self._database.write() as connection:
            for some in portions(ids):
                connection.execute(update(Picture).where(Picture.id.in_(some)).values(missing=missing))
            _grow(connection)

    @again
    def keep_failures(
        self, folder: bytes, paths: set[bytes], among: Callable[[bytes], bool] = lambda path: True
    ) -> None:
        """Forget the failures of a folder and what a walk of it meets, but for these; only `among` some, if given."""
        with self._database.write() as connection:
            at_or_below = (Failure.path == folder) | below(Failure.path, folder)
            old = connection.scalars(select(Failure.path).where(at_or_below))
            met = [path for path in old if path == folder or holds(folder, path)]
            _delete_paths(connection, [path for path in met if path not in paths and among(path)])

    @again
    def keep_archive(self, path: bytes, version: str) -> None:
        """Remember that a tar of this version was read to its end."""
        with self._database.write(alone=False) as connection:
            connection.execute(_READ, {"path": path, "version": version})

    @again
    def forget_archive(self, path: bytes) -> None:
        """Count a tar as not read: it is another one, of which pictures are going to be recorded."""
        with self._database.write(alone=False) as connection:
            connection.execute(delete(Archive).where(Archive.path == path))

    def remove(self, path: bytes) -> Removed:
        """Take a picture or a failed file, or all below a folder and the folder itself, out of the catalogue."""
        with self._database.write() as connection:
            pictures, failures, roots, _ = (
                connection.execute(delete(table).where((table.path == path) | below(table.path, path))).rowcount
                for table in (Picture, Failure, Root, Archive)
            )
            connection.execute(delete(Archive).where(Archive.path.in_(parents(path))))  # it is read again
            removed = Removed(pictures, failures, roots)
            if removed:
                _grow(connection)
            return removed


def _root_of(connection: Connection, folder: bytes) -> tuple[int, bytes]:
    roots = {path: id_ for id_, path in connection.execute(select(Root.id, Root.path))}
    for path, id_ in roots.items():
        if folder == path or holds(path, folder):
            return id_, path
    root_id: int = connection.execute(insert(Root).values(path=folder).returning(Root.id)).scalar_one()
    for path, id_ in roots.items():
        if holds(folder, path):
            directly = dialect_of(connection).lies_directly.bindparams(start=len(inside(path)) + 1)
            label = label_of(path + b"/", folder)
            labelled = (Picture.root_id == id_) & Picture.label.is_(None) & directly
            told = select(Picture.id).where(labelled)
            connection.execute(insert(Change).from_select(["picture_id"], told))  # an index may keep labels
            connection.execute(update(Picture).where(labelled).values(label=label))
            connection.execute(update(Picture).where(Picture.root_id == id_).values(root_id=root_id))
            connection.execute(delete(Root).where(Root.id == id_))
            _grow(connection)
    return root_id, folder


def _grow(connection: Connection) -> None:
    now = connection.scalar(select(Setting.value).where(Setting.name == "generation"))
    if has_changed(connection, now or ""):
        connection.execute(_SET, {"name": "generation", "value": new_generation(connection)})


def _delete_paths(connection: Connection, paths: Sequence[bytes]) -> None:
    for some in portions(paths):
        connection.execute(delete(Failure).where(Failure.path.in_(some)))
