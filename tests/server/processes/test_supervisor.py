from __future__ import annotations

import errno
import os
import signal
import sys
import time
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from threading import Thread

import pytest

from retrieval.common.errors import RetrievalError
from retrieval.server.processes.supervisor import RestartPolicy, Supervisor, Task

NO_MORE = os.strerror(errno.EAGAIN)
QUICK = RestartPolicy(most=3, pause=0.01, stop_timeout=1.0)


def ready(line: Connection) -> None:
    line.send(None)
    time.sleep(60)


def stubborn(line: Connection) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ready(line)


def unable(line: Connection) -> None:
    line.send("the store is damaged: restore it")
    sys.exit(1)


def mute(line: Connection) -> None:
    os._exit(3)


def short_lived(line: Connection) -> None:
    line.send(None)
    os.kill(os.getpid(), signal.SIGKILL)


def once_short_lived(marks: Path, line: Connection) -> None:
    line.send(None)
    if not (marks / "died").exists():
        (marks / "died").touch()
        sys.exit(7)
    (marks / str(os.getpid())).touch()
    time.sleep(60)


def kept(task: Task, count: int = 1) -> tuple[Supervisor, list[str]]:
    deaths: list[str] = []
    return Supervisor(count, task, lambda process, sentence: deaths.append(sentence), QUICK), deaths


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def stop_once_there_are(folder: Path, files: int) -> None:
    waited = time.monotonic() + 10
    while len(os.listdir(folder)) < files and time.monotonic() < waited:
        time.sleep(0.01)
    stop()


def watch_starts(monkeypatch: pytest.MonkeyPatch, *which: int) -> list[SpawnProcess]:
    """All that are started come in this list; of these attempts each fails, as it does where no more may be."""

    def start(self: SpawnProcess) -> None:
        tried.append(self)
        if len(tried) in which:
            raise BlockingIOError(errno.EAGAIN, NO_MORE)
        real(self)

    tried: list[SpawnProcess] = []
    real = SpawnProcess.start
    monkeypatch.setattr(SpawnProcess, "start", start)
    return tried


def test_all_are_ready_and_end_when_it_is_told_to() -> None:
    keeper, deaths = kept(ready, 2)
    before = signal.getsignal(signal.SIGTERM)
    keeper.run(stop)
    assert deaths == []
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    started = watch_starts(monkeypatch)
    began = time.monotonic()
    kept(stubborn)[0].run(stop)
    assert time.monotonic() - began < 20
    assert [process.exitcode for process in started] == [-signal.SIGKILL]


@pytest.mark.parametrize(
    ("task", "said"), [(unable, "^the store is damaged: restore it$"), (mute, "ended with exit code 3 before")]
)
def test_what_cannot_begin_ends_all_with_its_sentence(task: Task, said: str) -> None:
    keeper, deaths = kept(task)
    with pytest.raises(RetrievalError, match=said):
        keeper.run(lambda: pytest.fail("it is not ready"))
    assert deaths == []


def test_one_that_died_is_started_again(tmp_path: Path) -> None:
    def died(process: int | None, sentence: str) -> None:
        deaths.append(sentence)
        Thread(target=stop_once_there_are, args=(tmp_path, 2), daemon=True).start()

    deaths: list[str] = []
    Supervisor(1, partial(once_short_lived, tmp_path), died, QUICK).run(lambda: None)
    (sentence,) = deaths
    assert sentence.endswith("ended with exit code 7: another one takes its place")
    assert len(os.listdir(tmp_path)) == 2


def test_deaths_in_a_row_end_it() -> None:
    keeper, deaths = kept(short_lived)
    with pytest.raises(RetrievalError, match=r"died 3 times in a row, as it was ended by SIGKILL: .*--processes"):
        keeper.run(lambda: None)
    assert len(deaths) == 2


def test_one_that_the_system_does_not_start_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def died(process: int | None, sentence: str) -> None:
        deaths.append((process, sentence))
        if Path("/proc/self/fd").exists():
            files_open.append(len(os.listdir("/proc/self/fd")))
        if len(deaths) == 2:
            Thread(target=stop_once_there_are, args=(tmp_path, 2), daemon=True).start()

    deaths: list[tuple[int | None, str]] = []
    files_open: list[int] = []
    watch_starts(monkeypatch, 2)
    Supervisor(1, partial(once_short_lived, tmp_path), died, QUICK).run(lambda: None)
    assert deaths[0][0] is not None
    assert deaths[1] == (None, f"a process of the server could not be started ({NO_MORE}): that is tried again")
    assert len(os.listdir(tmp_path)) == 2
    assert len(set(files_open)) <= 1


def test_what_is_not_started_again_and_again_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    watch_starts(monkeypatch, 2, 3, 4)
    keeper, deaths = kept(short_lived)
    with pytest.raises(RetrievalError, match=rf"died 3 times in a row, as it could not be started \({NO_MORE}\)"):
        keeper.run(lambda: None)
    assert len(deaths) == 2


def test_one_that_is_never_started_ends_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    started = watch_starts(monkeypatch, 2)
    keeper, deaths = kept(ready, 2)
    with pytest.raises(RetrievalError, match=rf"could not be started \({NO_MORE}\) before it could serve"):
        keeper.run(lambda: pytest.fail("it is not ready"))
    assert deaths == []
    assert not started[0].is_alive()


def test_pauses_grow() -> None:
    assert [RestartPolicy().pause_after(deaths) for deaths in (1, 2, 3, 4, 10)] == [0, 0.5, 1, 2, 30]
