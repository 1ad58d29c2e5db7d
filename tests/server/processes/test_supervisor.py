import errno
import os
import signal
import socket
import sys
import time
from contextlib import closing
from functools import partial
from http.client import HTTPConnection
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from threading import Thread

import pytest
from starlette.types import Receive, Scope, Send

from retrieval.common.errors import RetrievalError
from retrieval.server.processes import uvicorn_server
from retrieval.server.processes.listening import SharedSocket
from retrieval.server.processes.supervisor import RestartPolicy, Supervisor, Task

NO_MORE = os.strerror(errno.EAGAIN)
QUICK = RestartPolicy(most=3, pause=0.01, stop_timeout=1.0)


def be_ready(pipe: Connection) -> None:
    pipe.send(None)
    time.sleep(60)


def ignore_sigterm(pipe: Connection) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    be_ready(pipe)


def refuse(pipe: Connection) -> None:
    pipe.send("the store is damaged: restore it")
    sys.exit(1)


def exit_silently(pipe: Connection) -> None:
    os._exit(3)


def die_once_ready(pipe: Connection) -> None:
    pipe.send(None)
    os.kill(os.getpid(), signal.SIGKILL)


def die_the_first_time(marks: Path, pipe: Connection) -> None:
    pipe.send(None)
    if not (marks / "died").exists():
        (marks / "died").touch()
        sys.exit(7)
    (marks / str(os.getpid())).touch()
    time.sleep(60)


def beat(pipe: Connection) -> None:
    while True:
        pipe.send(None)
        time.sleep(0.1)


def be_silent_then_beat(pipe: Connection) -> None:
    """Be silent for as long as a server is stopped, as its processes are then too."""
    pipe.send(None)
    time.sleep(2.7)
    beat(pipe)


def start_slowly_again(marks: Path, pipe: Connection) -> None:
    """Die, then take longer to start than a ready process may be silent."""
    if (marks / "died").exists():
        time.sleep(1.0)
        (marks / "ready").touch()
        beat(pipe)
    pipe.send(None)
    (marks / "died").touch()
    sys.exit(7)


def serve_requests(listener: socket.socket, pipe: Connection) -> None:
    """Answer requests with the process's id, by an event loop that hangs on POST."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if scope["method"] == "POST":
                time.sleep(60)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": str(os.getpid()).encode()})

    uvicorn_server._TICKS_PER_BEAT = 1
    shared = SharedSocket(fileno=listener.detach())
    uvicorn_server.run(app, shared, (signal.SIGTERM,), lambda: pipe.send(None), accepted_at_once=1)


def supervise(task: Task, count: int = 1, policy: RestartPolicy = QUICK) -> tuple[Supervisor, list[str]]:
    deaths: list[str] = []
    return Supervisor(count, task, lambda process, sentence: deaths.append(sentence), policy), deaths


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def stop_later(seconds: float) -> None:
    def sleep_then_stop() -> None:
        time.sleep(seconds)
        stop()

    Thread(target=sleep_then_stop, daemon=True).start()


def stop_once_there_are(folder: Path, files: int) -> None:
    deadline = time.monotonic() + 10
    while len(os.listdir(folder)) < files and time.monotonic() < deadline:
        time.sleep(0.01)
    stop()


def watch_starts(monkeypatch: pytest.MonkeyPatch, *failing: int) -> list[SpawnProcess]:
    """Return a list that grows by every process started; the `failing` attempts raise as if no more were allowed."""

    def start(self: SpawnProcess) -> None:
        attempts.append(self)
        if len(attempts) in failing:
            raise BlockingIOError(errno.EAGAIN, NO_MORE)
        real(self)

    attempts: list[SpawnProcess] = []
    real = SpawnProcess.start
    monkeypatch.setattr(SpawnProcess, "start", start)
    return attempts


def test_all_are_ready_and_end_on_sigterm() -> None:
    supervisor, deaths = supervise(be_ready, 2)
    before = signal.getsignal(signal.SIGTERM)
    supervisor.run(stop)
    assert deaths == []
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
def test_a_process_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    started = watch_starts(monkeypatch)
    began = time.monotonic()
    supervise(ignore_sigterm)[0].run(stop)
    assert time.monotonic() - began < 20
    assert [process.exitcode for process in started] == [-signal.SIGKILL]


@pytest.mark.parametrize(
    ("task", "message"),
    [(refuse, "^the store is damaged: restore it$"), (exit_silently, "ended with exit code 3 before")],
)
def test_a_process_that_cannot_begin_ends_all_with_its_sentence(task: Task, message: str) -> None:
    supervisor, deaths = supervise(task)
    with pytest.raises(RetrievalError, match=message):
        supervisor.run(lambda: pytest.fail("it is not ready"))
    assert deaths == []


@pytest.mark.slow
def test_a_process_that_died_is_restarted(tmp_path: Path) -> None:
    def report(process: int | None, sentence: str) -> None:
        deaths.append(sentence)
        Thread(target=stop_once_there_are, args=(tmp_path, 2), daemon=True).start()

    deaths: list[str] = []
    Supervisor(1, partial(die_the_first_time, tmp_path), report, QUICK).run(lambda: None)
    (sentence,) = deaths
    assert sentence.endswith("ended with exit code 7: another one takes its place")
    assert len(os.listdir(tmp_path)) == 2


@pytest.mark.slow
def test_deaths_in_a_row_end_it() -> None:
    supervisor, deaths = supervise(die_once_ready)
    with pytest.raises(
        RetrievalError, match=r"died 3 times in a row; the last time it was ended by SIGKILL: .*--processes"
    ):
        supervisor.run(lambda: None)
    assert len(deaths) == 2


@pytest.mark.slow
def test_a_process_whose_event_loop_hangs_is_replaced() -> None:
    """A request blocks the event loop; another process answers the next one."""

    def request(method: str) -> HTTPConnection:
        connection = HTTPConnection("127.0.0.1", listener.getsockname()[1], timeout=30)
        connection.request(method, "/")
        return connection

    def answer() -> int:
        with closing(request("GET")) as connection:
            return int(connection.getresponse().read())

    def hang_later() -> None:
        answered_by.append(answer())
        time.sleep(1.5)  # it beats: an idle process is no hung one
        hanging.append(request("POST"))

    def answer_then_stop() -> None:
        answered_by.append(answer())
        stop()

    def report(process: int | None, sentence: str) -> None:
        deaths.append((process, sentence))
        Thread(target=answer_then_stop, daemon=True).start()

    deaths: list[tuple[int | None, str]] = []
    answered_by: list[int] = []
    hanging: list[HTTPConnection] = []
    policy = RestartPolicy(pause=0.01, hung_after=1.0, stop_timeout=1.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        supervisor = Supervisor(1, partial(serve_requests, listener), report, policy)
        supervisor.run(lambda: Thread(target=hang_later, daemon=True).start())
    hanging[0].close()
    first, second = answered_by
    assert deaths == [(first, f"process {first} of the server did not answer for 1 s: another one takes its place")]
    assert second != first


@pytest.mark.slow
def test_a_process_that_starts_slowly_is_not_taken_for_hung(tmp_path: Path) -> None:
    supervisor, deaths = supervise(
        partial(start_slowly_again, tmp_path), policy=RestartPolicy(pause=0.01, hung_after=0.4, stop_timeout=1.0)
    )
    supervisor.run(lambda: Thread(target=stop_once_there_are, args=(tmp_path, 2), daemon=True).start())
    assert [sentence.partition("server ")[2] for sentence in deaths] == [
        "ended with exit code 7: another one takes its place"
    ]


@pytest.mark.slow
def test_a_server_that_was_stopped_takes_no_process_for_hung(monkeypatch: pytest.MonkeyPatch) -> None:
    """After Ctrl-Z and `fg` all processes have been silent for as long."""

    def sleep_once() -> None:
        time.sleep(2.5)
        stop_later(1.0)

    supervisor, deaths = supervise(be_silent_then_beat, policy=RestartPolicy(hung_after=1.5, stop_timeout=1.0))
    supervisor.run(sleep_once)
    assert deaths == []


@pytest.mark.slow
def test_a_process_that_the_system_does_not_start_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def report(process: int | None, sentence: str) -> None:
        deaths.append((process, sentence))
        if Path("/proc/self/fd").exists():
            files_open.append(len(os.listdir("/proc/self/fd")))
        if len(deaths) == 2:
            Thread(target=stop_once_there_are, args=(tmp_path, 2), daemon=True).start()

    deaths: list[tuple[int | None, str]] = []
    files_open: list[int] = []
    watch_starts(monkeypatch, 2)
    Supervisor(1, partial(die_the_first_time, tmp_path), report, QUICK).run(lambda: None)
    assert deaths[0][0] is not None
    assert deaths[1] == (None, f"a process of the server could not be started ({NO_MORE}): that is tried again")
    assert len(os.listdir(tmp_path)) == 2
    assert len(set(files_open)) <= 1


def test_a_process_that_is_not_started_again_and_again_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    watch_starts(monkeypatch, 2, 3, 4)
    supervisor, deaths = supervise(die_once_ready)
    with pytest.raises(
        RetrievalError, match=rf"died 3 times in a row; the last time it could not be started \({NO_MORE}\)"
    ):
        supervisor.run(lambda: None)
    assert len(deaths) == 2


def test_a_process_that_is_never_started_ends_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    started = watch_starts(monkeypatch, 2)
    supervisor, deaths = supervise(be_ready, 2)
    with pytest.raises(RetrievalError, match=rf"could not be started \({NO_MORE}\) before it could serve"):
        supervisor.run(lambda: pytest.fail("it is not ready"))
    assert deaths == []
    assert not started[0].is_alive()


def test_pauses_grow() -> None:
    assert [RestartPolicy().pause_after(deaths) for deaths in (1, 2, 3, 4, 10)] == [0, 0.5, 1, 2, 30]
