"""The address of a catalogue on PostgreSQL, which the store's folder keeps in `store.toml`."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from indexes.atomic_files import replace_file
from indexes.errors import StoreError

CONFIG_FILE = "store.toml"
URL_VARIABLE = "RETRIEVE_CATALOGUE"
"""The environment variable for an address with its password, which the file does not keep."""

_PUBLIC = "public"
_DRIVERS = ("postgresql+psycopg", "postgresql", "postgres")
_SECRETS = ["password", "sslpassword", "oauth_client_secret"]  # of libpq
_LONGEST_NAME = 63  # bytes that PostgreSQL keeps of a name
_HINT = "write it as postgresql://user@host/database"


@dataclass(frozen=True)
class DatabaseUrl:
    """A catalogue's address, with the password if one was given, and the schema of its tables."""

    url: URL
    named_schema: str | None = None

    @property
    def schema(self) -> str:
        return self.named_schema or _PUBLIC

    @property
    def has_secret(self) -> bool:
        """Whether the address has a password or another secret."""
        return self.url.password is not None or not self.url.query.keys().isdisjoint(_SECRETS)

    @property
    def base_url(self) -> str:
        """The address without secrets and schema."""
        url = self.url.difference_update_query(_SECRETS)._replace(password=None, drivername="postgresql")
        return url.render_as_string(hide_password=False)

    def __str__(self) -> str:
        """Return the address without its secrets, as it can be given again."""
        if self.schema == _PUBLIC:
            return self.base_url
        return f"{self.base_url}{'&' if self.url.query else '?'}schema={self.schema}"

    def matches(self, other: DatabaseUrl) -> bool:
        """Return whether this is another address, perhaps without its schema."""
        same_schema = self.named_schema is None or self.schema == other.schema
        mine, others = (url.base_url.replace(":5432/", "/") for url in (self, other))  # the port if none is given
        return same_schema and mine == others


def parse_url(address: str, source: str = "the catalogue's address") -> DatabaseUrl:
    """Parse an address such as `postgresql://user@host/database?schema=name`. Raises StoreError."""
    try:
        url = make_url(address)
    except (ArgumentError, ValueError) as error:  # not shown, as it may have a password
        raise StoreError(f"{source} cannot be read: {_HINT}") from error
    if url.drivername not in _DRIVERS:
        raise StoreError(f"{source} is of {url.drivername}, but a catalogue is on PostgreSQL: {_HINT}")
    schema = url.query.get("schema")
    if not isinstance(schema, str | None):
        raise StoreError(f"{source} names two schemas: name one")
    if len((schema or "").encode()) > _LONGEST_NAME:
        raise StoreError(f"{source} names a schema of more than {_LONGEST_NAME} bytes: give a shorter one")
    return DatabaseUrl(url.difference_update_query(["schema"]).set(drivername=_DRIVERS[0]), schema)


def read_url(folder: Path) -> DatabaseUrl | None:
    """Return the address that a store keeps, with the password from the environment; None if it keeps none.

    Raises StoreError if the environment has another address.
    """
    file = folder / CONFIG_FILE
    values = _read_config(file)
    if values is None or "catalogue" not in values:
        return None
    address, schema = values["catalogue"], values.get("schema")
    if not isinstance(address, str) or not isinstance(schema, str | None):
        raise StoreError(f"{file} has a catalogue or schema that is not text: {_HINT}")
    url = parse_url(address, str(file))
    url = replace(url, named_schema=schema or url.named_schema)
    given = os.environ.get(URL_VARIABLE)
    if not given:
        return url
    return _reconcile(url, parse_url(given, URL_VARIABLE), f"{file} has {url}, and {URL_VARIABLE} another address")


def reconcile_url(folder: Path, stored: DatabaseUrl | None, address: str) -> DatabaseUrl:
    """Parse an address, which must be the one that the store keeps, if any. Raises StoreError."""
    given = parse_url(address)
    return given if stored is None else _reconcile(stored, given, f"{folder} has its catalogue at {stored}, not there")


def write_url(folder: Path, url: DatabaseUrl) -> None:
    """Write the address without its secrets above what the file has, unless it has one already. Raises StoreError."""
    file = folder / CONFIG_FILE
    lines = f"catalogue = {json.dumps(url.base_url)}\nschema = {json.dumps(url.schema)}\n"
    try:
        with _locked(folder):
            stored = read_url(folder)
            if stored is not None:  # another process came first
                _reconcile(stored, url, f"{folder} has its catalogue at {stored}, not there")
                return
            rest = file.read_text("utf-8") if file.exists() else ""
            with replace_file(file) as part:
                part.write_text(lines + rest, "utf-8")
                part.chmod(0o644)
    except OSError as error:
        raise StoreError(f"{file} cannot be written ({error.strerror}): choose another with --store") from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock out other processes that write the file; leave no file of the lock behind."""
    from filelock import FileLock

    lock = folder / f".{CONFIG_FILE}.lock"
    with FileLock(lock):
        try:
            yield
        finally:  # a process that waits for it finds what was written here, and writes nothing
            with suppress(PermissionError):  # Windows deletes no open file; there the lock does that itself
                lock.unlink(missing_ok=True)


def _reconcile(stored: DatabaseUrl, given: DatabaseUrl, otherwise: str) -> DatabaseUrl:
    if not given.matches(stored):
        raise StoreError(f"{otherwise}: leave that out, or choose another store with --store")
    return replace(given if given.has_secret else stored, named_schema=stored.schema)


def _read_config(file: Path) -> dict[str, object] | None:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if not os.path.lexists(file):  # the folder is closed, which is reported when it is entered
            return None
        raise StoreError(f"{file} cannot be opened ({error.strerror}): choose another with --store") from error
    except ValueError as error:
        raise StoreError(f"{file} is damaged ({error}): restore it from a copy") from error
