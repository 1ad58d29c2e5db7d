"""The hits of a query, and the explanation of a pair, in a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Column
from rich.text import Text

from retrieval.commands.output.tables import simple_table
from retrieval.common.output_names import CONTACT_SHEET, MATCHES
from retrieval.common.text import percent, safe_name
from retrieval.explain.explanation import Explanation
from retrieval.explain.hit import Hit
from retrieval.rendering.verification_text import VERIFICATION_HEADINGS, describe_support, verification_rows
from retrieval.sources.location import PictureAddress, PictureLocation, display_location

if TYPE_CHECKING:
    from retrieval.store.query import QueryResult

_BAR = 10  # characters of a full bar
_WIDE = 100  # columns from which a table has room for bars beside the paths
_EIGHTHS = " ▏▎▍▌▋▊▉"


def query_lines(
    title: str, result: QueryResult, seconds: Mapping[str, float], confidence: float, width: int
) -> RenderableType:
    """Return a query's hits, a note if none is confidently similar, and how long each stage took."""
    from retrieval.rendering.presentation import low_confidence_note

    note = low_confidence_note([hit.similarity for hit in result.hits], confidence)
    stages = " · ".join(f"{stage} {1000 * value:.0f} ms" for stage, value in seconds.items())
    table = hits_table(safe_name(title), result.hits, width >= _WIDE)
    return Group(table, *([Text(note, style="yellow")] if note else []), Text(stages, style="dim"))


def hits_table(name: str, hits: Sequence[Hit], bars: bool = True) -> RenderableType:
    """Return a query's hits: rank, picture, label, similarity (with `bars`), verdict, rank before rescoring."""
    title = Text.assemble("Most similar to ", (name, "bold"))
    if not hits:
        return Group(title, Text("  nothing found", style="yellow"))
    checked = [hit.explanation.verification if hit.explanation else None for hit in hits]
    table = simple_table(
        Column("#", justify="right"),
        *(Column(name, overflow="fold") for name in ("picture", "label")),
        *(Column(name, no_wrap=True) for name in ("similarity", "verdict")),
        Column("index rank", justify="right", no_wrap=bars),
        *([Column("heatmaps", no_wrap=True)] if any(checked) else []),
    )
    for hit, verification in zip(hits, checked, strict=True):
        style, note = _style(hit), _hit_note(hit)
        table.add_row(
            str(hit.rank),
            Text.assemble(safe_name(relative_to_cwd(hit.path)), (f" ({note})" if note else "", "dim")),
            Text(safe_name(hit.label or "")),
            Text.assemble((f"{text_bar(hit.similarity)} " if bars else "", style), f"{percent(hit.similarity):>7}"),
            Text(hit.verdict, style),
            str(hit.index_rank),
            *([str(verification.support) if verification else ""] if any(checked) else []),
        )
    return Group(title, table)


def _style(compared: Hit | Explanation) -> str:
    return "green" if compared.verdict == "similar" else "yellow"


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
    full, rest = divmod(math.floor(share * _BAR * 8), 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(_BAR)


def pair_lines(explanation: Explanation, folder: Path) -> RenderableType:
    """Return the similarity of a pair, and where its pictures are."""
    answer = Text.assemble(
        f"similarity {percent(explanation.similarity)}: ", (explanation.verdict, _style(explanation))
    )
    lines = [answer, Text(f"contact sheet: {safe_name(folder / CONTACT_SHEET)}")]
    if explanation.identical:
        lines.insert(1, Text("identical: nothing to explain"))
    elif explanation.has_little_evidence:
        lines.insert(1, Text("almost no evidence in either picture", style="yellow"))
    if explanation.correspondence:
        matches = safe_name(folder / MATCHES) if explanation.correspondence.matches else "none stands out"
        lines.append(Text(f"correspondences: {matches}"))
    if explanation.verification is None:
        return Group(*lines)
    table = simple_table(*VERIFICATION_HEADINGS, rows=verification_rows(explanation.verification, ("A", "B")))
    return Group(*lines, Text(describe_support(explanation.verification)), table)
