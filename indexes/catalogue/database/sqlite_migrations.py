"""The statements of each migration for SQLite."""

FIRST = (
    "CREATE TABLE settings (name VARCHAR PRIMARY KEY, value VARCHAR NOT NULL)",
    "CREATE TABLE roots (id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE)",
    "CREATE TABLE pictures (id INTEGER PRIMARY KEY AUTOINCREMENT, root_id INTEGER NOT NULL REFERENCES roots (id),"
    " path BLOB NOT NULL UNIQUE, size INTEGER NOT NULL, mtime INTEGER NOT NULL, hash BLOB NOT NULL,"
    " width INTEGER NOT NULL, height INTEGER NOT NULL, label VARCHAR, taken_at VARCHAR,"
    " latitude FLOAT, longitude FLOAT, missing BOOLEAN NOT NULL)",
    "CREATE INDEX pictures_by_hash ON pictures (hash)",
    "CREATE INDEX pictures_by_label ON pictures (label, missing)",
    "CREATE INDEX pictures_scan ON pictures (path, size, mtime, missing)",
    "CREATE TABLE descriptors (picture_id INTEGER NOT NULL REFERENCES pictures (id) ON DELETE CASCADE,"
    " fingerprint VARCHAR NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (picture_id, fingerprint))",
    "CREATE TABLE failures (path BLOB PRIMARY KEY, reason VARCHAR NOT NULL)",
)
"""The tables as they were at first, written out, so that later changes of the classes do not affect them."""

COUNTERS = (
    "ALTER TABLE roots ADD COLUMN pictures INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE roots ADD COLUMN missing INTEGER NOT NULL DEFAULT 0",
    "UPDATE roots SET (pictures, missing) = (SELECT count(*) - total(missing), total(missing)"
    " FROM pictures WHERE root_id = roots.id)",
    "CREATE TRIGGER pictures_come AFTER INSERT ON pictures BEGIN"
    " UPDATE roots SET pictures = pictures + 1 - NEW.missing, missing = missing + NEW.missing"
    " WHERE id = NEW.root_id; END",
    "CREATE TRIGGER pictures_go AFTER DELETE ON pictures BEGIN"
    " UPDATE roots SET pictures = pictures - 1 + OLD.missing, missing = missing - OLD.missing"
    " WHERE id = OLD.root_id; END",
    "CREATE TRIGGER pictures_move AFTER UPDATE OF root_id, missing ON pictures"
    " WHEN OLD.root_id <> NEW.root_id OR OLD.missing <> NEW.missing BEGIN"
    " UPDATE roots SET pictures = pictures - 1 + OLD.missing, missing = missing - OLD.missing"
    " WHERE id = OLD.root_id;"
    " UPDATE roots SET pictures = pictures + 1 - NEW.missing, missing = missing + NEW.missing"
    " WHERE id = NEW.root_id; END",
)
"""The number of each gallery's pictures, kept by triggers, so that status never counts a million rows."""

JOURNAL = (
    "CREATE TABLE changes (position INTEGER PRIMARY KEY AUTOINCREMENT, picture_id INTEGER NOT NULL)",
    "CREATE TABLE generations (name VARCHAR PRIMARY KEY, position INTEGER NOT NULL)",
    "INSERT INTO generations SELECT value, 0 FROM settings WHERE name = 'generation'",  # its index is updated
    "CREATE TRIGGER descriptors_come AFTER INSERT ON descriptors BEGIN"
    " INSERT INTO changes (picture_id) VALUES (NEW.picture_id); END",
    "CREATE TRIGGER descriptors_go AFTER DELETE ON descriptors BEGIN"
    " INSERT INTO changes (picture_id) VALUES (OLD.picture_id); END",
    "CREATE TRIGGER pictures_missing AFTER UPDATE OF missing ON pictures WHEN OLD.missing <> NEW.missing BEGIN"
    " INSERT INTO changes (picture_id) VALUES (NEW.id); END",
)
"""The journal of changes since a generation, by which an index is updated and not rebuilt."""

VERSIONS = (
    "ALTER TABLE pictures ADD COLUMN version VARCHAR",
    "DROP INDEX pictures_scan",
    "CREATE INDEX pictures_scan ON pictures (path, size, mtime, version, missing)",
    "CREATE TABLE archives (path BLOB PRIMARY KEY, version VARCHAR NOT NULL)",
)
"""The version of what is not a local file, which a scan compares; and the tars that were read to their ends."""

APPLICATION_ID = 0x72747276
"""Marks a file of SQLite as a catalogue: `rtrv`."""

COVERED = ("path", "size", "mtime", "version", "hash", "width", "height", "label", "taken_at", "latitude", "longitude")

CHECKSUMS = (
    f"PRAGMA application_id = {APPLICATION_ID}",
    *(f"ALTER TABLE {name} ADD COLUMN checksum INTEGER" for name in ("settings", "roots", "pictures", "descriptors")),
    "CREATE INDEX pictures_unchecked ON pictures (id) WHERE checksum IS NULL",
    f"CREATE TRIGGER pictures_change AFTER UPDATE OF {', '.join(COVERED)} ON pictures"
    f" WHEN NEW.checksum IS OLD.checksum AND ({' OR '.join(f'NEW.{name} IS NOT OLD.{name}' for name in COVERED)})"
    " BEGIN UPDATE pictures SET checksum = NULL WHERE id = NEW.id; END",
)
"""Checksums of rows. A picture that is changed without its checksum loses that, until the next indexing."""

CHANGE_TIMES = ("ALTER TABLE pictures ADD COLUMN ctime INTEGER",)
"""When a local file was last changed by the system's own account, which no program can set back."""
