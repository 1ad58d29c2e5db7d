"""`retrieve serve` as a user starts and stops it."""

import json
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from http.client import HTTPResponse
from pathlib import Path

import pytest

from tests.support.command import retrieve, sentence
from tests.support.served import served, started
from tests.support.store import Indexed


def get(address: str, **headers: str) -> HTTPResponse:
    answer = urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=30)
    assert isinstance(answer, HTTPResponse)
    return answer


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_serves_until_a_stop_signal(indexed: Indexed, stop: signal.Signals) -> None:
    with served(indexed.store, stop=stop) as address:
        assert address.startswith("http://127.0.0.1:")
        assert json.load(get(address + "health")) == {"status": "ok"}
        assert b"static/main.js" in get(address).read()


@pytest.mark.parametrize("more", [[], ["--processes", "2"]])
def test_it_outlives_the_terminal_under_nohup(indexed: Indexed, more: list[str]) -> None:
    ignored = (signal.SIGHUP, signal.SIGINT)  # as `nohup retrieve serve &` begins in a script
    with started(indexed.store, *more, ignored=ignored) as (address, process):
        assert json.load(get(address + "health")) == {"status": "ok"}
        for each in ignored:
            process.send_signal(each)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=1)
        assert json.load(get(address + "health")) == {"status": "ok"}
        process.terminate()
        assert process.wait(timeout=30) == 0


@pytest.mark.parametrize("more", [["--host", "0.0.0.0"], ["--host", "0.0.0.0", "--token", ""], ["--allow-host", "a.b"]])
def test_serving_others_needs_a_token_which_is_printed(indexed: Indexed, more: list[str]) -> None:
    with served(indexed.store, *more) as address:
        base, _, token = address.partition("?token=")
        assert len(token) >= 20
        local = base.replace("0.0.0.0", "127.0.0.1")
        with pytest.raises(urllib.error.HTTPError, match="401"):
            get(local + "api/status")
        assert json.load(get(local + "api/status", Authorization=f"Bearer {token}"))["pictures"] == 16


def test_a_token_may_come_from_the_environment(indexed: Indexed, monkeypatch: pytest.MonkeyPatch) -> None:
    token = "0123456789abcdef" * 4
    monkeypatch.setenv("RETRIEVE_TOKEN", token)
    monkeypatch.setenv("COLUMNS", "40")
    with served(indexed.store) as address:
        assert address.endswith(f"/?token={token}")
        with pytest.raises(urllib.error.HTTPError, match="401"):
            get(address.partition("?")[0] + "api/status")


def test_a_port_in_use_is_reported(indexed: Indexed) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        message = sentence(retrieve("serve", "--port", port, "--store", indexed.store))
    assert port in message
    assert "--port" in message


def test_an_unknown_host_is_reported(indexed: Indexed) -> None:
    assert "cannot be served" in sentence(retrieve("serve", "--host", "no.such.host.invalid", "--store", indexed.store))


@pytest.mark.parametrize("more", [[], ["--processes", "2"]])
def test_a_folder_that_cannot_keep_uploads_is_reported_before_the_address(
    indexed: Indexed, tmp_path: Path, more: list[str]
) -> None:
    (tmp_path / "file").touch()
    message = sentence(
        retrieve("serve", "--port", "0", "--store", indexed.store, "--uploads", tmp_path / "file", *more)
    )
    assert str(tmp_path / "file") in message
    assert "--uploads" in message


def test_the_folder_of_a_killed_server_is_deleted_by_the_next(
    indexed: Indexed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with started(indexed.store) as (address, process):
        sent = urllib.request.Request(f"{address}api/uploads", indexed.picture.read_bytes())
        urllib.request.urlopen(sent, timeout=30).close()
        process.kill()
        process.wait()
    (orphaned,) = tmp_path.glob("retrieve-serve-*")
    with served(indexed.store) as address:
        assert json.load(get(address + "health")) == {"status": "ok"}
        (alive,) = tmp_path.glob("retrieve-serve-*")
        assert alive != orphaned
    assert list(tmp_path.glob("retrieve-serve-*")) == []


def test_slow_pictures_keep_nobody_waiting(indexed: Indexed) -> None:
    head = b"POST /api/query HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 50000000\r\n\r\n"
    with served(indexed.store, "--queue", "2") as address, ExitStack() as held:
        port = int(address.rstrip("/").rpartition(":")[2])
        for _ in range(30):
            held.enter_context(socket.create_connection(("127.0.0.1", port))).sendall(head + b"slow")
        for number in range(6):
            content = indexed.picture.read_bytes() + bytes([number])
            sent = urllib.request.Request(f"{address}api/query?top=1&explain=false", content)
            assert len(json.load(urllib.request.urlopen(sent, timeout=30))["hits"]) == 1


def test_it_ends_quietly_with_work_in_hand(indexed: Indexed) -> None:
    request = b"GET /api/query?picture=1&top=12&verify=true&stream=%s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with started(indexed.store) as (address, process), ExitStack() as held:
        port = int(address.rstrip("/").rpartition(":")[2])
        for number in range(8):
            connection = held.enter_context(socket.create_connection(("127.0.0.1", port)))
            connection.sendall(request % (b"true" if number % 2 else b"false"))
        time.sleep(0.5)
        process.terminate()
        _, said = process.communicate(timeout=15)
        assert (process.returncode, said) == (0, b"")


def test_clients_that_disconnect_release_their_slots(indexed: Indexed) -> None:
    content = indexed.picture.read_bytes()
    head = b"POST /api/query?top=12&verify=true&stream=true HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n"
    with served(indexed.store, "--queue", "2") as address:
        port = int(address.rstrip("/").rpartition(":")[2])
        for sent in (content[:100], content, content[:100], content):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(head % len(content) + sent)
                time.sleep(0.1)
        deadline = time.monotonic() + 30
        while b"retrieve_requests_in_work 0.0" not in get(address + "metrics").read():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        metrics = get(address + "metrics").read().decode()
    assert 'status="500"' not in metrics
