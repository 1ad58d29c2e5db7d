"""The hits of a query, and the explanation of a pair, in a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from retrieval.common.output_names import CONTACT_SHEET, MATCHES
from retrieval.common.text import percent, safe_name
from retrieval.explain.explanation import Explanation
from retrieval.explain.hit import Hit
from retrieval.rendering.verification_text import VERIFICATION_HEADINGS, describe_support, verification_rows
from retrieval.sources.location import PictureAddress, PictureLocation, display_location

_BAR = 10  # characters of a full bar
_EIGHTHS = " ▏▎▍▌▋▊▉"


def hits_table(name: str, hits: Sequence[Hit], bars: bool = True) -> RenderableType:
    """Return a query's hits: rank, picture, label, similarity (with `bars`), verdict, rank before rescoring."""
    title = Text.assemble("Most similar to ", (name, "bold"))
    if not hits:
        return Group(title, Text("  nothing found", style="yellow"))
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("#", justify="right")
    for column in ("picture", "label"):
        table.add_column(column, overflow="fold")
    table.add_column("similarity", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("index rank", justify="right", no_wrap=bars)
    checked = [hit.explanation.verification if hit.explanation else None for hit in hits]
    if any(checked):
        table.add_column("heatmaps", no_wrap=True)
    for hit, verification in zip(hits, checked, strict=True):
        style = "green" if hit.verdict == "similar" else "yellow"
        table.add_row(
            str(hit.rank),
            Text.assemble(
                safe_name(relative_to_cwd(hit.path)), (f" ({note})" if (note := _hit_note(hit)) else "", "dim")
            ),
            Text(safe_name(hit.label or "")),
            Text.assemble((f"{text_bar(hit.similarity)} " if bars else "", style), f"{percent(hit.similarity):>7}"),
            Text(hit.verdict, style),
            str(hit.index_rank),
            *([str(verification.support) if verification else ""] if any(checked) else []),
        )
    return Group(title, table)


def _hit_note(hit: Hit) -> str | None:
    return hit.note or ("almost no evidence" if hit.explanation and hit.explanation.has_little_evidence else None)


def relative_to_cwd(path: PictureLocation) -> PictureLocation:
    """Return the path relative to the working folder, if the picture lies below it."""
    if isinstance(path, PictureAddress):
        return display_location(path)
    try:
        here = Path.cwd()
    except FileNotFoundError:  # it was deleted
        return path
    return path.relative_to(here) if path.is_relative_to(here) else path


def text_bar(share: float) -> str:
    """Return a bar of 10 characters for a share from 0 to 1, in steps of an eighth of a character."""
    eighths = math.floor(share * _BAR * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(_BAR)


def seconds_line(seconds: dict[str, float]) -> Text:
    """Return how long each stage took."""
    parts = [f"{stage} {1000 * value:.0f} ms" for stage, value in seconds.items()]
    return Text(" · ".join(parts), style="dim")


def pair_lines(explanation: Explanation, folder: Path) -> RenderableType:
    """Return the similarity of a pair, and where its pictures are."""
    style = "green" if explanation.verdict == "similar" else "yellow"
    answer = Text.assemble(f"similarity {percent(explanation.similarity)}: ", (explanation.verdict, style))
    lines = [answer, Text(f"contact sheet: {safe_name(folder / CONTACT_SHEET)}")]
    if explanation.identical:
        lines.insert(1, Text("identical: nothing to explain"))
    elif explanation.has_little_evidence:
        lines.insert(1, Text("almost no evidence in either picture", style="yellow"))
    if explanation.correspondence:
        matches = f"{safe_name(folder / MATCHES)}" if explanation.correspondence.matches else "none stands out"
        lines.append(Text(f"correspondences: {matches}"))
    if explanation.verification is None:
        return Group(*lines)
    table = Table(*VERIFICATION_HEADINGS, box=SIMPLE_HEAD, pad_edge=False)
    for row in verification_rows(explanation.verification, ("A", "B")):
        table.add_row(*row)
    return Group(*lines, Text(describe_support(explanation.verification)), table)
