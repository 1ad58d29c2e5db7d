"""The loop for what is tried again."""

import time
from itertools import count

import pytest

from indexes.retry import NEVER, retry


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the pauses, by a clock that only they move."""
    made: list[float] = []
    monkeypatch.setattr(time, "sleep", made.append)
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0 + sum(made))
    return made


def test_work_that_succeeds_is_done_once(pauses: list[float]) -> None:
    assert retry(lambda is_repeat: is_repeat, lambda error, since: NEVER, 1, 1) is False
    assert pauses == []


def test_work_is_repeated_until_it_succeeds(pauses: list[float]) -> None:
    repeats: list[bool] = []

    def work(is_repeat: bool) -> str:
        repeats.append(is_repeat)
        if len(repeats) < 3:
            raise OSError
        return "done"

    assert retry(work, lambda error, since: since + 100, 1, 8) == "done"
    assert repeats == [False, True, True]
    assert len(pauses) == 2


def test_pauses_double_and_are_drawn_at_random(pauses: list[float]) -> None:
    numbers = count()

    def work(is_repeat: bool) -> None:
        if next(numbers) < 12:
            raise OSError

    retry(work, lambda error, since: since + 100, 0.1, 4.0)
    longest = [min(0.1 * 2**number, 4.0) for number in range(12)]
    assert all(most / 2 <= pause <= most for pause, most in zip(pauses, longest, strict=True))
    assert len(set(pauses)) == 12


def test_the_last_error_is_raised_at_the_deadline_which_counts_from_the_first_failure(pauses: list[float]) -> None:
    numbers, failures = count(), list[float]()

    def work(is_repeat: bool) -> None:
        raise OSError(next(numbers))

    def deadline(error: Exception, since: float) -> float:
        failures.append(since)
        return since + 10

    with pytest.raises(OSError, match=r"^\d+$") as raised:
        retry(work, deadline, 1, 2)
    assert set(failures) == {1000.0}
    assert str(raised.value) == str(len(pauses))
    assert sum(pauses) == pytest.approx(10)


def test_a_permanent_error_is_raised_at_once(pauses: list[float]) -> None:
    def work(is_repeat: bool) -> None:
        raise ValueError("odd")

    with pytest.raises(ValueError, match="odd"):
        retry(work, lambda error, since: NEVER, 1, 1)
    assert pauses == []


def test_an_interruption_is_not_retried(pauses: list[float]) -> None:
    def work(is_repeat: bool) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        retry(work, lambda error, since: since + 100, 1, 1)
    assert pauses == []
