"""Where a store's catalogue lies, if not in the store's folder: its address on PostgreSQL, kept in `store.toml`."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from indexes.atomic_files import replace_file
from indexes.errors import StoreError

CONFIG_FILE = "store.toml"
URL_VARIABLE = "RETRIEVE_CATALOGUE"
"""Holds an address with its password, which is not kept in the file."""

_PUBLIC = "public"
_DRIVERS = ("postgresql+psycopg", "postgresql", "postgres")
_SECRETS = ["password", "sslpassword", "oauth_client_secret"]  # of libpq
_LONGEST_NAME = 63  # bytes that PostgreSQL keeps of one
_HINT = "write it as postgresql://user@host/database"


@dataclass(frozen=True)
class DatabaseUrl:
    """A catalogue's address, with the password where one was given, and the schema of its tables."""

    url: URL
    named_schema: str | None = None

    @property
    def schema(self) -> str:
        return self.named_schema or _PUBLIC

    @property
    def has_secret(self) -> bool:
        """Whether a password is in it, or another secret."""
        return self.url.password is not None or not self.url.query.keys().isdisjoint(_SECRETS)

    @property
    def base_url(self) -> str:
        """The address without its secrets and schema."""
        shown = self.url.difference_update_query(_SECRETS)._replace(password=None, drivername="postgresql")
        return shown.render_as_string(hide_password=False)

    def __str__(self) -> str:
        """The address without its password, as it can be given again."""
        if self.schema == _PUBLIC:
            return self.base_url
        return f"{self.base_url}{'&' if self.url.query else '?'}schema={self.schema}"

    def matches(self, other: DatabaseUrl) -> bool:
        """Whether this names that place, perhaps without its schema."""
        same_schema = self.named_schema is None or self.schema == other.schema
        return same_schema and _without_port(self.base_url) == _without_port(other.base_url)


def parse_url(address: str, source: str = "the catalogue's address") -> DatabaseUrl:
    """What an address such as `postgresql://user@host/database?schema=name` names. Raises StoreError."""
    try:
        url = make_url(address)
    except (ArgumentError, ValueError) as error:  # it is not shown, as it may hold a password
        raise StoreError(f"{source} cannot be read: {_HINT}") from error
    if url.drivername not in _DRIVERS:
        raise StoreError(f"{source} is one of {url.drivername}, and a catalogue lies on PostgreSQL: {_HINT}")
    schema = url.query.get("schema")
    if not isinstance(schema, str | None):
        raise StoreError(f"{source} names two schemas: name one")
    if len((schema or "").encode()) > _LONGEST_NAME:
        raise StoreError(f"{source} names a schema of more than {_LONGEST_NAME} bytes: give a shorter one")
    return DatabaseUrl(url.difference_update_query(["schema"]).set(drivername=_DRIVERS[0]), schema)


def read_url(folder: Path) -> DatabaseUrl | None:
    """The place that a store keeps, with the password from the environment; None where it has none.

    Raises StoreError where the environment names another place.
    """
    file = folder / CONFIG_FILE
    values = _read_config(file)
    if values is None or "catalogue" not in values:
        return None
    address, schema = values["catalogue"], values.get("schema")
    if not isinstance(address, str) or not isinstance(schema, str | None):
        raise StoreError(f"{file} has a catalogue or schema that is no text: {_HINT}")
    place = parse_url(address, str(file))
    place = replace(place, named_schema=schema or place.named_schema)
    told = os.environ.get(URL_VARIABLE)
    return (
        _reconcile(place, parse_url(told, URL_VARIABLE), f"{file} says {place}, and {URL_VARIABLE} another")
        if told
        else place
    )


def reconcile_url(folder: Path, stored: DatabaseUrl | None, address: str) -> DatabaseUrl:
    """The place that an address names, which must be the one that is kept, if any. Raises StoreError."""
    given = parse_url(address)
    return given if stored is None else _reconcile(stored, given, f"{folder} has its catalogue at {stored}, not there")


def write_url(folder: Path, url: DatabaseUrl) -> None:
    """Write where the catalogue lies, without a password, above what the file may hold; once. Raises StoreError."""
    file = folder / CONFIG_FILE
    lines = f"catalogue = {json.dumps(url.base_url)}\nschema = {json.dumps(url.schema)}\n"
    try:
        with _locked(folder):
            kept = read_url(folder)
            if kept is not None:  # another process came first
                _reconcile(kept, url, f"{folder} has its catalogue at {kept}, not there")
                return
            held = file.read_text("utf-8") if file.exists() else ""
            with replace_file(file) as part:
                part.write_text(lines + held, "utf-8")
                part.chmod(0o644)
    except OSError as error:
        raise StoreError(f"{file} cannot be written ({error.strerror}): choose another with --store") from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock out other processes that write the file; nothing of the lock is left behind."""
    from filelock import FileLock

    lock = folder / f".{CONFIG_FILE}.lock"
    with FileLock(lock):
        try:
            yield
        finally:  # whoever waits for it finds what was written here, and writes nothing
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
        if not os.path.lexists(file):  # the folder is closed, which is told where it is entered
            return None
        raise StoreError(f"{file} cannot be opened ({error.strerror}): choose another with --store") from error
    except ValueError as error:
        raise StoreError(f"{file} is damaged ({error}): restore it from a copy") from error


def _without_port(plain: str) -> str:
    return plain.replace(":5432/", "/")
