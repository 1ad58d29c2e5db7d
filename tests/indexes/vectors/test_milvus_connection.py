"""The connection to a Milvus: what is retried and what is not, and the messages of failures."""

import builtins
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from indexes.errors import StoreError
from indexes.vectors import milvus_connection
from indexes.vectors.milvus_connection import MilvusConnection, _SingleAttempt, shared_connection
from indexes.vectors.milvus_index import MilvusCollection, MilvusIndex
from tests.support.milvus import address_of, need_milvus

need_milvus()
import grpc  # noqa: E402
from pymilvus import MilvusException  # noqa: E402

ADDRESS = "milvus://milvus.invalid:19530/tests"


class Broken(grpc.RpcError):  # type: ignore[misc]
    """An error as gRPC raises it."""

    def __init__(self, name: str, details: str = "details") -> None:
        super().__init__(details)
        self._name = name

    def code(self) -> grpc.StatusCode:
        return getattr(grpc.StatusCode, self._name)


class Client:
    """A client that fails in these ways before it answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls: list[dict[str, Any]] = []

    def search(self, **more: Any) -> str:
        self.calls.append(more)
        if self.errors:
            error = self.errors.pop(0)
            raise error from error  # as pymilvus does
        return "answer"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MilvusConnection:
    monkeypatch.setattr(milvus_connection, "_FIRST_PAUSE", 0.001)
    return MilvusConnection(address_of(ADDRESS), tmp_path)


def run_failing(
    server: MilvusConnection, monkeypatch: pytest.MonkeyPatch, *errors: Exception
) -> tuple[list[bool], Client]:
    client, repeats = Client(*errors), list[bool]()
    monkeypatch.setattr(server, "_client", client)

    def work(once: Any, again: bool) -> Any:
        repeats.append(again)
        return once.search()

    assert server.run(work) == "answer"
    return repeats, client


def coded(code: Any, **more: Any) -> MilvusException:
    return MilvusException(code=code, message="said", **more)


@pytest.mark.parametrize(
    "error",
    [
        Broken("UNAVAILABLE"),
        Broken("DEADLINE_EXCEEDED"),
        Broken("ABORTED"),
        Broken("RESOURCE_EXHAUSTED", "rate limit exceeded"),
        coded(8),
        coded(2),
        coded(65535, retriable=True),
        coded(grpc.StatusCode.UNAVAILABLE),
    ],
)
def test_transient_errors_are_retried(
    server: MilvusConnection, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    repeats, client = run_failing(server, monkeypatch, error, error)
    assert repeats == [False, True, True]
    assert client.calls == [{"retry_times": 0}] * 3  # pymilvus itself repeats nothing


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Broken("UNAUTHENTICATED"), "refuses the token: set RETRIEVE_MILVUS_TOKEN"),
        (Broken("PERMISSION_DENIED"), "refuses the token: set RETRIEVE_MILVUS_TOKEN"),
        (Broken("INVALID_ARGUMENT", "a\nb"), "fails, as Milvus says: a b"),
        (Broken("UNIMPLEMENTED"), "fails, as Milvus says: details"),
        (Broken("RESOURCE_EXHAUSTED", "Received message larger than max (9 vs. 4)"), "fails, as Milvus says: Received"),
        (coded(1), "fails, as Milvus says: said"),
        (coded(1100), "fails, as Milvus says: said"),
        (ValueError("odd"), "fails, as Milvus says: odd"),
    ],
)
def test_permanent_errors_are_reported_at_once(
    server: MilvusConnection, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    client = Client(error)
    monkeypatch.setattr(server, "_client", client)
    with pytest.raises(StoreError) as raised:
        server.run(lambda once, again: once.search())
    assert str(raised.value).startswith(f"{ADDRESS} {said}")
    assert "\n" not in str(raised.value)
    assert len(client.calls) == 1


@pytest.mark.parametrize(
    ("name", "said"), [("UNAVAILABLE", "cannot be reached"), ("DEADLINE_EXCEEDED", "does not answer in time")]
)
def test_retries_end(server: MilvusConnection, monkeypatch: pytest.MonkeyPatch, name: str, said: str) -> None:
    client = Client(*[Broken(name)] * 1000)
    monkeypatch.setattr(server, "_client", client)
    with pytest.raises(StoreError, match=f"{ADDRESS} {said}: check that it runs there"):
        server.run(lambda once, again: once.search(), patience=0.1)
    assert 2 < len(client.calls) < 100


def test_a_call_that_fails_late_is_retried_all_the_same(
    server: MilvusConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bool] = []

    def slow(client: object, again: bool) -> str:
        calls.append(again)
        if not again:
            time.sleep(0.5)
            raise Broken("DEADLINE_EXCEEDED")
        return "answer"

    monkeypatch.setattr(server, "_client", Client())
    assert server.run(slow, patience=0.4) == "answer"
    assert calls == [False, True]


def test_a_connection_is_shared_until_the_last_user_releases_it(tmp_path: Path) -> None:
    first, second = shared_connection(address_of(ADDRESS), tmp_path), shared_connection(address_of(ADDRESS), tmp_path)
    assert first is second
    first.release()
    assert shared_connection(address_of(ADDRESS), tmp_path) is first
    first.release()
    first.release()
    assert shared_connection(address_of(ADDRESS), tmp_path) is not first


def test_users_are_counted_under_the_registrys_lock(tmp_path: Path) -> None:
    locked: list[bool] = []

    class Watched(MilvusConnection):
        def __setattr__(self, name: str, value: object) -> None:
            if name == "users":
                locked.append(milvus_connection._REGISTRY_LOCK.locked())
            super().__setattr__(name, value)

    connection = Watched(address_of(ADDRESS), tmp_path)
    locked.clear()
    indexes = [MilvusIndex(connection, MilvusCollection("tests", 4, 0), lambda ids: {}, lambda: None) for _ in range(2)]
    for index in indexes:
        index.close()
    assert (locked, connection.users) == ([True] * 4, 0)


def test_the_token_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []

    def connected(uri: str, **more: Any) -> Client:
        given.append({"uri": uri, **more})
        return Client()

    monkeypatch.setattr("pymilvus.MilvusClient", connected)
    for written, token in ((ADDRESS, "user:word"), (ADDRESS.replace("milvus:", "milvus+tls:"), "")):
        monkeypatch.setenv("RETRIEVE_MILVUS_TOKEN", token)
        assert MilvusConnection(address_of(written), tmp_path).run(lambda once, again: once.search()) == "answer"
    assert [(each["uri"], each["token"]) for each in given] == [
        ("http://milvus.invalid:19530", "user:word"),
        ("https://milvus.invalid:19530", ""),
    ]


@pytest.mark.parametrize(("written", "missing"), [(ADDRESS, "pymilvus"), ("milvus:./x.db", "milvus_lite")])
def test_missing_packages_are_reported_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, missing: str
) -> None:
    real: Callable[..., Any] = builtins.__import__

    def absent(name: str, *arguments: Any, **more: Any) -> Any:
        if name.partition(".")[0] == missing:
            raise ModuleNotFoundError(name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(StoreError) as raised:
        MilvusConnection(address_of(written), tmp_path).check()
    monkeypatch.undo()
    install = "an index on Milvus needs more packages: pip install '.[milvus]'"
    assert str(raised.value) == f"{written}: {install}"


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/x\.db cannot be made \(.*\): give another --index"):
        MilvusConnection(address_of("milvus:./file/x.db"), tmp_path).run(lambda once, again: once.list_collections())


def test_a_file_that_is_not_milvus_is_reported(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("no database")
    with pytest.raises(StoreError, match=r"x\.db cannot be opened: it cannot be written or is damaged"):
        MilvusConnection(address_of("milvus:./x.db"), tmp_path).run(lambda once, again: once.list_collections())


def test_a_call_is_one_attempt() -> None:
    client = Client()
    assert _SingleAttempt(client).search(data=1) == "answer"
    assert client.calls == [{"data": 1, "retry_times": 0}]
