"""The progress bar: what it says of how far a work is."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from retrieval.commands.shared.progress import ProgressBar


@pytest.mark.parametrize(("total", "told"), [(None, "3/?"), (7, "3/7")])
def test_a_total_that_is_not_known_is_not_made_up(total: int | None, told: str) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with ProgressBar(console, "Indexing") as bar:
        bar.start(lambda: 50)
        bar.restart("Again", lambda: total)
        bar.advance(3)
        assert "".join(column.render(bar._progress.tasks[0]).plain for column in bar._progress.columns[2:3]) == told  # type: ignore[union-attr]
