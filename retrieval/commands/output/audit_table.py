"""An audit in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from retrieval.commands.output.tables import figures_table, first_lines, simple_table
from retrieval.common.text import percent, safe_name, whole_percent
from retrieval.evaluation.audit.attention import AttentionShares, Corner
from retrieval.evaluation.audit.findings import Advice, Audit, Example, PartFindings, Severity

_STYLES = {Severity.serious: "bold red", Severity.moderate: "yellow", Severity.minor: "dim"}
_EXAMPLES = 3  # paths shown of each recommendation; --json and --html have all
_CLASSES = 20  # rows of a table


def audit_lines(audit: Audit) -> RenderableType:
    """Return the verdicts of each part, where the model looks, and the recommendations."""
    findings = audit.findings
    title = f"{safe_name(audit.dataset)}: {sum(findings.sizes.values()):,} pictures, {len(findings.sizes):,} classes"
    pairs = sum(part.explained_pairs for part in findings.parts)
    return Group(
        Text.assemble((title, "bold"), f", {pairs:,} pairs explained in {audit.seconds:.0f} s"),
        parts_table(findings.parts),
        attention_table(findings.main),
        *(Padding(advice_lines(rank, each), (0, 0, 1, 0)) for rank, each in enumerate(audit.advice, 1)),
    )


def parts_table(parts: Sequence[PartFindings]) -> Table:
    """Return the figures of what the model has learnt from beside those of what it has not."""
    overall = [part.overall for part in parts]
    rows = (
        ("pictures", [f"{part.pictures:,}" for part in parts]),
        ("accuracy of verdicts on pairs", [f"{part.verdicts.accuracy:.4f}" for part in parts]),
        ("ROC AUC", [f"{part.verdicts.roc_auc:.4f}" for part in parts]),
        ("evidence at the border", [_with_area(each.attention.border, each.uniform.border) for each in overall]),
        ("evidence outside the focus", [_with_area(each.attention.outside, each.uniform.outside) for each in overall]),
        ("half of the evidence lies in", [percent(each.attention.spread) for each in overall]),
    )
    return figures_table("", (part.name for part in parts), ((name, *cells) for name, cells in rows))


def attention_table(part: PartFindings) -> RenderableType:
    """Return the shares of the evidence by class, most in a corner first; the last row is the area's."""
    shown = sorted(part.classes, key=lambda each: -max(each.attention.corners.values()))[:_CLASSES]
    names = ("pictures", "border", *Corner, "outside focus", "half in")
    table = simple_table(
        Column(f"where it looks ({part.name})", overflow="fold"),
        *(Column(name.replace(" ", "\n"), justify="right", no_wrap=True) for name in names),
        rows=((Text(safe_name(each.label)), str(each.explained_pictures), *_cells(each.attention)) for each in shown),
    )
    table.add_section()
    table.add_row("share of the area", "", *_cells(part.overall.uniform))
    if len(part.classes) > len(shown):
        return Group(table, Text(f"  … and {len(part.classes) - len(shown)} more classes: --json has all", style="dim"))
    return table


def advice_lines(rank: int, advice: Advice) -> RenderableType:
    """Return a recommendation: the finding, the remedy, and some of the pictures that show it."""
    head = Text.assemble(f"{rank}. ", (advice.severity.value, _STYLES[advice.severity]), " ", safe_name(advice.finding))

    def line(example: Example) -> Text:
        return Text.assemble("   ", safe_name(example.path), (f"  {safe_name(example.note)}", "dim"))

    examples = first_lines(advice.examples, line, "   … and {} more: --json has all", _EXAMPLES)
    return Group(head, Text(f"   {safe_name(advice.remedy)}"), *examples)


def _cells(attention: AttentionShares) -> list[str]:
    shares = (attention.border, *attention.corners.values(), attention.outside, attention.spread)
    return [whole_percent(share) for share in shares]


def _with_area(share: float, area: float) -> str:
    return f"{percent(share)} (of {percent(area)} of the area)"
