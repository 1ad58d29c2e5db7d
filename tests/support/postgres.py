"""A PostgreSQL server of the tests' own: in a temporary folder, on a port of this machine, gone in the end."""

import glob
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

AddressOf = Callable[[Path], str | None]

_OTHER_USER = "postgres"
_PASSWORD = "s3cret/@: word"
_UNSAFE = "-c fsync=off -c full_page_writes=off -c max_connections=60"  # a crash of the machine may lose all


@dataclass(frozen=True)
class Server:
    """A server that runs: its programs, its folder, its port, and the password of its user `tester`."""

    programs: Path
    folder: Path
    port: int
    password: str = _PASSWORD

    def address(self, schema: str | Path = "public", database: str = "pictures", password: bool = True) -> str:
        """Return the address of a schema, or of one for the store in this folder."""
        if isinstance(schema, Path):
            schema = "s" + hashlib.sha256(os.fsencode(schema)).hexdigest()[:16]
        secret = ":s3cret%2F%40%3A%20word" if password else ""
        return f"postgresql://tester{secret}@127.0.0.1:{self.port}/{database}?schema={schema}"

    def control(self, *arguments: str) -> None:
        """Run pg_ctl."""
        log, data = self.folder / "log", self.folder / "data"
        run(self.programs / "pg_ctl", "-D", data, "-l", log, "-w", "-o", f"{_UNSAFE} {self._place}", *arguments)

    def restart(self) -> None:
        """As after a crash: connections are cut, and what was not committed is gone."""
        self.control("restart", "-m", "immediate")

    def sql(self, statement: str, database: str = "pictures") -> list[tuple[object, ...]]:
        """Return the rows of a statement, run as the server's owner."""
        import psycopg

        place = f"host=127.0.0.1 port={self.port} user=owner dbname={database}"
        with psycopg.connect(place, password=self.password, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    @property
    def _place(self) -> str:
        return f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories={self.folder}"


def run(*command: str | Path) -> None:
    """Run a program of the server, as another user where the tests run as root, which the server refuses."""
    other = _OTHER_USER if os.geteuid() == 0 else None
    subprocess.run([*map(str, command)], user=other, cwd="/", check=True, capture_output=True, timeout=120)


def programs() -> Path | None:
    """Return the folder of the server's programs: that of PATH, or Debian's newest."""
    found = shutil.which("initdb")
    if found and (Path(found).resolve().parent / "pg_ctl").exists():
        return Path(found).resolve().parent
    folders = glob.glob("/usr/lib/postgresql/*/bin/initdb")
    newest = max(folders, key=lambda name: int(Path(name).parts[-3]), default=None)
    return Path(newest).parent if newest else None


def _lacking() -> str | None:
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "no driver: pip install '.[postgres]'"
    if programs() is None:
        return "no PostgreSQL server here: install Debian's `postgresql`"
    if os.geteuid() == 0:
        import pwd  # which Windows lacks

        try:
            pwd.getpwnam(_OTHER_USER)
        except KeyError:
            return f"PostgreSQL does not run as root, and there is no user {_OTHER_USER}"
    return None


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def _started(folder: Path) -> Server:
    found = programs()
    assert found is not None
    (folder / "secret").write_text(_PASSWORD)
    if os.geteuid() == 0:
        for place in (folder, folder / "secret"):
            shutil.chown(place, _OTHER_USER)
    secret = ("-A", "scram-sha-256", "--pwfile", folder / "secret")
    run(found / "initdb", "-D", folder / "data", "-U", "owner", *secret, "-E", "UTF8", "--no-locale", "-N")
    server = Server(found, folder, _free_port())
    server.control("start")
    server.sql(f"CREATE ROLE tester LOGIN PASSWORD '{_PASSWORD}'", "postgres")
    server.sql("CREATE DATABASE pictures OWNER tester", "postgres")
    return server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """Run the server that all tests share, each with its own schemas; skip if there is none."""
    if (lacking := _lacking()) is not None:
        pytest.skip(lacking)
    folder = Path(tempfile.mkdtemp(prefix="retrieve-"))  # pytest's own folders are closed to other users
    try:
        server = _started(folder)
        yield server
        server.control("stop", "-m", "immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def address_of(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AddressOf:
    """Where the catalogue of the store in a folder lies: with each kind of catalogue in turn."""
    if request.param == "sqlite":
        return lambda folder: None
    server: Server = request.getfixturevalue("postgres")
    monkeypatch.setenv("PGPASSWORD", server.password)
    return server.address
