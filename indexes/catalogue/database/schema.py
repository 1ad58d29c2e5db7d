"""The catalogue's tables and columns as statements name them; `migrations` creates them."""

from sqlalchemy import BigInteger, Boolean, Float, LargeBinary, String, column, table

SETTINGS = table("settings", column("name", String), column("value", String), column("checksum", BigInteger))
"""The store's values by name, such as the model's fingerprint or the generation."""

ROOTS = table(
    "roots",
    column("id", BigInteger),
    column("path", LargeBinary),
    *(column(name, BigInteger) for name in ("pictures", "missing", "checksum")),
)
"""Galleries' folders: absolute paths as the file system's bytes.

Triggers keep the numbers of their pictures, present and `missing`.
"""

PICTURES = table(
    "pictures",
    *(column(name, BigInteger) for name in ("id", "root_id", "size", "mtime", "ctime", "width", "height")),
    column("checksum", BigInteger),
    *(column(name, LargeBinary) for name in ("path", "hash")),
    *(column(name, String) for name in ("version", "label", "taken_at")),
    *(column(name, Float) for name in ("latitude", "longitude")),
    column("missing", Boolean),
)
"""Indexed files: `size` in bytes, `mtime` in nanoseconds; `missing` once a scan did not find the file.

`ctime` is when a local file was last changed, in nanoseconds; NULL if it was recorded before that was kept.

`version` identifies contents on an object store or a web server, such as an ETag; local files have none. An id is never
given twice: in an older index it never means another picture.
"""

DESCRIPTORS = table(
    "descriptors",
    *(column("picture_id", BigInteger), column("fingerprint", String), column("vector", LargeBinary)),
    column("checksum", BigInteger),
)
"""Pictures' descriptors under one model: C float16 numbers, little-endian."""

CHANGES = table("changes", column("position", BigInteger), column("picture_id", BigInteger))
"""Pictures that an index must take anew or drop; triggers write them, at rising positions."""

GENERATIONS = table("generations", column("name", String), column("position", BigInteger))
"""Generations of the catalogue, with the position of their last change."""

ARCHIVES = table("archives", column("path", LargeBinary), column("version", String))
"""Tars that were read to their ends, with their versions then: one of the same version need not be read again."""

FAILURES = table("failures", column("path", LargeBinary), column("reason", String))
"""Files that could not be indexed, and why."""

APPLIED = table("migrations", column("name", String))
"""The migrations that were applied to this database."""
