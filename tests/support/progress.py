"""Progress that records what is reported."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from retrieval.common.progress import Progress, Total, WorkStage


@dataclass
class RecordedStage(WorkStage):
    """A stage as it was reported."""

    title: str = ""
    total: int | None = None
    advances: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def advance(self, count: int = 1) -> None:
        self.advances.append(count)

    def expect(self, total: Total) -> None:
        self.total = total() if callable(total) else total

    def note(self, text: str) -> None:
        self.notes.append(text)

    @property
    def done(self) -> int:
        """How many items were reported."""
        return sum(self.advances)


class RecordedProgress(Progress):
    """The stages and messages of a piece of work."""

    def __init__(self) -> None:
        self.stages: list[RecordedStage] = []
        self.messages: list[str] = []

    @contextmanager
    def stage(self, title: str, total: Total = None, announce: bool = False) -> Iterator[WorkStage]:
        stage = RecordedStage(title)
        stage.expect(total)
        self.stages.append(stage)
        yield stage

    def message(self, sentence: str) -> None:
        self.messages.append(sentence)

    @property
    def titles(self) -> list[str]:
        """The titles of the stages, in their order."""
        return [stage.title for stage in self.stages]

    @property
    def totals(self) -> list[tuple[str, int | None]]:
        """The titles of the stages and how many items each expected."""
        return [(stage.title, stage.total) for stage in self.stages]
