"""What a terminal shows: no text from a bundle or a decoder reaches it as a command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.console import Console, RenderableType

from retrieval.bundle import Bundle
from retrieval.tables import failures_lines, models_lines

EVIL = "\x1b]0;evil\x07"


def printed(renderable: RenderableType) -> str:
    console = Console(width=300, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_a_bundle_s_words_are_safe(tiny_bundle: Bundle) -> None:
    card = replace(
        tiny_bundle.card,
        name=EVIL,
        backbone=EVIL,
        provenance={"trained_on": EVIL},
        metrics={EVIL: {"p_at_1": 0.5}},
    )
    for metrics in (card.metrics, {}):
        shown = printed(models_lines([Bundle(Path("x"), replace(card, metrics=metrics))]))
        assert "\x1b" not in shown
        assert "\x07" not in shown
        assert shown.count("\\x1b]0;evil\\x07") == 3 + len(metrics)


def test_reasons_of_failures_are_safe() -> None:
    assert printed(failures_lines([("name", f"is {EVIL}")])) == "  name is \\x1b]0;evil\\x07\n"
