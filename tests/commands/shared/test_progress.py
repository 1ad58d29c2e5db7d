"""The progress bars: what they show of how far the work is."""

import io

import pytest
from rich.console import Console

from retrieval.commands.shared.progress import ConsoleProgress, _Bar
from retrieval.common.progress import Total, WorkStage


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=100)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(("total", "expected"), [(None, "3/?"), (7, "3/7"), (lambda: 9, "3/9")])
def test_a_total_that_is_not_known_is_not_made_up(total: Total, expected: str) -> None:
    progress = ConsoleProgress(terminal())
    with progress.one_line():
        with progress.stage("Indexing", 50):
            pass
        with progress.stage("Again", total) as bar:
            bar.advance(3)
            assert isinstance(bar, _Bar)
            assert "".join(column.render(bar.bars.tasks[0]).plain for column in bar.bars.columns[2:3]) == expected  # type: ignore[union-attr]


def test_each_stage_has_a_line_unless_they_share_one() -> None:
    console = terminal()
    progress = ConsoleProgress(console)
    for title in ("Reading", "Writing"):
        with progress.stage(title, 2) as bar:
            bar.note("a note")
    lines = [line for line in shown(console).splitlines() if "2/2" in line]
    assert [word for line in lines for word in ("Reading", "Writing") if word in line] == ["Reading", "Writing"]
    assert all("a note" in line for line in lines)

    console = terminal()
    progress = ConsoleProgress(console)
    with progress.one_line():
        for title in ("Reading", "Writing"):
            with progress.stage(title, 2):
                pass
    assert [line for line in shown(console).splitlines() if "2/2" in line and "Reading" in line] == []


def test_a_stage_that_fails_is_not_shown_as_complete() -> None:
    def fail(bar: WorkStage) -> None:
        bar.advance()
        raise KeyboardInterrupt

    console = terminal()
    with pytest.raises(KeyboardInterrupt), ConsoleProgress(console).stage("Reading", 2) as bar:
        fail(bar)
    assert "1/2" in shown(console)
    assert "2/2" not in shown(console)


def test_without_a_terminal_only_announced_stages_are_shown_and_nothing_is_counted() -> None:
    def count() -> int:
        raise AssertionError("nobody sees the total")

    console = Console(file=io.StringIO(), width=100)
    progress = ConsoleProgress(console)
    with progress.one_line(), progress.stage("Reading", count) as stage:
        stage.advance()
    with progress.stage("Preparing", 4, announce=True):
        pass
    assert shown(console) == "Preparing\n"


def test_a_bar_does_not_pass_its_end() -> None:
    console = terminal()
    with ConsoleProgress(console).stage("Reading", 864) as bar:
        for _ in range(3):
            bar.advance(576)
    assert "864/864" in shown(console)
    assert "1152/864" not in shown(console)
    assert "1728/864" not in shown(console)
