"""The statements that differ between SQLite and PostgreSQL, side by side.

Those that are plain text run on the driver itself: they are needed for every file of a scan, or for every query.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, TextClause, text

from indexes.catalogue.database.checksums import CHECKED

T = TypeVar("T")

_VARIABLES = 30_000  # SQLite takes at most 32,766 values in a statement


@dataclass(frozen=True)
class Dialect:
    """A database's statements. `encode_ids` makes one value of several numbers."""

    setting: str
    known_contents: Callable[[Sequence[bytes], str], tuple[str, list[Any]]]
    known_files: str
    chunk_of_vectors: str
    vectors_by_id: str
    candidates: str
    content_hashes: str
    first_path: str
    encode_ids: Callable[[list[int]], Any]
    labels: TextClause
    last_change: TextClause
    is_direct_child: TextClause


_LABELS = (  # steps from each label to the next by the index on (label, missing), not through all its rows
    "WITH RECURSIVE each (label) AS (SELECT min(label) FROM pictures UNION ALL"
    " SELECT (SELECT min(label) FROM pictures WHERE label > each.label) FROM each WHERE each.label IS NOT NULL)"
    " SELECT label FROM each WHERE label IS NOT NULL"
    " AND EXISTS (SELECT 1 FROM pictures p WHERE p.label = each.label AND {there}) ORDER BY label"
)

_CHECK = "p.checksum, " + ", ".join(f"p.{name}" for name in CHECKED)

_KNOWN_CONTENTS = (  # of each content one picture, the first that has a descriptor: there may be thousands of copies
    "WITH w (hash) AS ({contents})"
    f" SELECT w.hash, p.id, d.vector, d.checksum, {_CHECK} FROM w CROSS JOIN pictures p"
    " JOIN descriptors d ON d.picture_id = p.id AND d.fingerprint = {value}"
    " WHERE p.id = (SELECT q.id FROM pictures q JOIN descriptors e ON e.picture_id = q.id AND e.fingerprint = {value}"
    " WHERE q.hash = w.hash ORDER BY q.id LIMIT 1)"
)

SQLITE = Dialect(
    setting="SELECT value, checksum FROM settings WHERE name = ?",
    known_contents=lambda contents, fingerprint: (
        _KNOWN_CONTENTS.format(contents="VALUES " + ", ".join(["(?)"] * len(contents)), value="?"),
        [*contents, fingerprint, fingerprint],
    ),
    known_files="SELECT id, path, size, mtime, version, missing, label, ctime FROM pictures WHERE path > ? AND path < ?"
    " ORDER BY path LIMIT ?",
    chunk_of_vectors="SELECT p.id, d.vector, d.checksum FROM pictures p JOIN descriptors d ON d.picture_id = p.id"
    " WHERE p.id > ? AND NOT p.missing AND d.fingerprint = ? ORDER BY p.id LIMIT ?",
    vectors_by_id="SELECT p.id, d.vector, d.checksum FROM json_each(?) w CROSS JOIN pictures p ON p.id = w.value"
    " JOIN descriptors d ON d.picture_id = p.id WHERE NOT p.missing AND d.fingerprint = ?",
    candidates=f"SELECT p.id, p.path, r.path, p.label, p.width, p.height, {_CHECK} FROM json_each(?) w"
    " CROSS JOIN pictures p ON p.id = w.value JOIN roots r ON r.id = p.root_id WHERE NOT p.missing",
    content_hashes=f"SELECT p.id, p.hash, {_CHECK} FROM pictures p WHERE p.id > ? AND NOT p.missing"
    " ORDER BY p.id LIMIT ?",
    first_path="SELECT path FROM pictures WHERE path >= ? ORDER BY path LIMIT 1",
    encode_ids=json.dumps,
    labels=text(_LABELS.format(there="p.missing = 0")),
    last_change=text("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'changes'"),
    is_direct_child=text("instr(substr(path, :start), x'2F') = 0"),
)

POSTGRES = Dialect(
    setting=SQLITE.setting.replace("?", "%s"),
    known_contents=lambda contents, fingerprint: (
        _KNOWN_CONTENTS.format(contents="SELECT unnest(%s::bytea[])", value="%s"),
        [list(contents), fingerprint, fingerprint],
    ),
    known_files=SQLITE.known_files.replace("?", "%s"),
    chunk_of_vectors=SQLITE.chunk_of_vectors.replace("?", "%s"),
    vectors_by_id="SELECT p.id, d.vector, d.checksum FROM unnest(%s::bigint[]) WITH ORDINALITY w (value, place)"
    " JOIN pictures p ON p.id = w.value JOIN descriptors d ON d.picture_id = p.id"
    " WHERE NOT p.missing AND d.fingerprint = %s ORDER BY w.place",
    candidates=f"SELECT p.id, p.path, r.path, p.label, p.width, p.height, {_CHECK}"
    " FROM unnest(%s::bigint[]) WITH ORDINALITY w (value, place)"
    " JOIN pictures p ON p.id = w.value JOIN roots r ON r.id = p.root_id WHERE NOT p.missing ORDER BY w.place",
    content_hashes=SQLITE.content_hashes.replace("?", "%s"),
    first_path=SQLITE.first_path.replace("?", "%s"),
    encode_ids=list,
    labels=text(_LABELS.format(there="NOT p.missing")),
    last_change=text(  # a sequence's own value would count what was rolled back too
        "SELECT greatest((SELECT coalesce(max(position), 0) FROM changes),"
        " (SELECT coalesce(max(position), 0) FROM generations))"
    ),
    is_direct_child=text("position('\\x2f'::bytea in substr(path, :start)) = 0"),
)


def dialect_of(connection: Connection) -> Dialect:
    """Return the dialect of a connection's database."""
    return POSTGRES if connection.dialect.name == "postgresql" else SQLITE


def chunked(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield the values in parts, each as long as a statement allows."""
    return (values[start : start + _VARIABLES] for start in range(0, len(values), _VARIABLES))
