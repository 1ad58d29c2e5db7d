from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread

import pytest

from retrieval.errors import RetrievalError
from retrieval.serving.keeper import Keeper, Patience, Task

QUICK = Patience(most=3, pause=0.01, ending=1.0)


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


def kept(task: Task, count: int = 1) -> tuple[Keeper, list[str]]:
    deaths: list[str] = []
    return Keeper(count, task, lambda process, sentence: deaths.append(sentence), QUICK), deaths


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_all_are_ready_and_end_when_it_is_told_to() -> None:
    keeper, deaths = kept(ready, 2)
    before = signal.getsignal(signal.SIGTERM)
    keeper.run(stop)
    assert deaths == []
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_does_not_end_is_killed() -> None:
    began = time.monotonic()
    keeper, _ = kept(stubborn)
    keeper.run(stop)
    assert time.monotonic() - began < 20
    assert [each.process.exitcode for each in keeper._kept if each.process] == [-signal.SIGKILL]


def failing_starts(monkeypatch: pytest.MonkeyPatch, which: Callable[[int], bool]) -> list[int]:
    """Some starts, counted from 1, fail as where the machine has no memory left."""
    starts: list[int] = []
    start = multiprocessing.context.SpawnProcess.start

    def failing(process: multiprocessing.context.SpawnProcess) -> None:
        starts.append(len(starts) + 1)
        if which(starts[-1]):
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        start(process)

    monkeypatch.setattr(multiprocessing.context.SpawnProcess, "start", failing)
    return starts


def test_a_process_that_cannot_be_started_again_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starts = failing_starts(monkeypatch, lambda number: number == 3)
    keeper, deaths = kept(partial(once_short_lived, tmp_path), 2)

    def wait() -> None:
        while len(list(tmp_path.iterdir())) < 3:
            time.sleep(0.01)
        stop()

    keeper.run(lambda: Thread(target=wait).start())
    assert starts == [1, 2, 3, 4]
    assert deaths[-1] == "a process of the server could not be started (Cannot allocate memory): it is tried again"


def test_a_process_that_can_never_be_started_again_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    failing_starts(monkeypatch, lambda number: number > 1)
    keeper, _ = kept(short_lived)
    with pytest.raises(RetrievalError, match=r"died 3 times in a row, as it could not be started \(Cannot allocate"):
        keeper.run(lambda: None)


def test_a_first_process_that_cannot_be_started_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    failing_starts(monkeypatch, lambda number: number == 2)
    keeper, _ = kept(ready, 2)
    with pytest.raises(RetrievalError, match=r"could not be started .*: give fewer --processes"):
        keeper.run(lambda: None)
    assert not any(each.process and each.process.is_alive() for each in keeper._kept)


def test_a_signal_that_is_ignored_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        keeper, _ = kept(ready)

        def hang_up() -> None:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            stop()

        keeper.run(hang_up)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


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
        Thread(target=stop_once, daemon=True).start()

    def stop_once() -> None:
        waited = time.monotonic() + 10
        while len(os.listdir(tmp_path)) < 2 and time.monotonic() < waited:
            time.sleep(0.01)
        stop()

    deaths: list[str] = []
    Keeper(1, partial(once_short_lived, tmp_path), died, QUICK).run(lambda: None)
    (sentence,) = deaths
    assert sentence.endswith("ended with exit code 7: another one takes its place")
    assert len(os.listdir(tmp_path)) == 2


def test_deaths_in_a_row_end_it() -> None:
    keeper, deaths = kept(short_lived)
    with pytest.raises(RetrievalError, match=r"died 3 times in a row, as it was ended by SIGKILL: .*--processes"):
        keeper.run(lambda: None)
    assert len(deaths) == 2


def test_pauses_grow() -> None:
    assert [Patience().after(deaths) for deaths in (1, 2, 3, 4, 10)] == [0, 0.5, 1, 2, 30]
