"""What a terminal shows, as Rich renderables. Nothing here prints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from indexes.catalogue import Catalogue
from indexes.records import Counts
from retrieval.bundle import Bundle
from retrieval.evaluate import Evaluation
from retrieval.explain import Explanation
from retrieval.indexing import IndexReport
from retrieval.names import CONTACT_SHEET, percent, safe_name
from retrieval.search import Hit

_BAR = 10  # characters of a full bar
_EIGHTHS = " ▏▎▍▌▋▊▉"


def hits_table(name: str, hits: Sequence[Hit], bars: bool = True) -> RenderableType:
    """A query's hits: rank, picture, label, similarity (with `bars` or as a number), verdict, rank before rescoring."""
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
    for hit in hits:
        style = "green" if hit.verdict == "similar" else "yellow"
        table.add_row(
            str(hit.rank),
            Text.assemble(safe_name(_from_here(hit.path)), (f" ({hit.note})" if hit.note else "", "dim")),
            Text(safe_name(hit.label or "")),
            Text.assemble((f"{bar(hit.similarity)} " if bars else "", style), f"{percent(hit.similarity):>7}"),
            Text(hit.verdict, style),
            str(hit.index_rank),
        )
    return Group(title, table)


def _from_here(path: Path) -> Path:
    """The path as seen from the working folder, where the picture lies below it."""
    try:
        here = Path.cwd()
    except FileNotFoundError:  # deleted under us
        return path
    return path.relative_to(here) if path.is_relative_to(here) else path


def bar(share: float) -> str:
    """A bar of 10 characters for a share from 0 to 1, in steps of an eighth of a character."""
    eighths = math.floor(share * _BAR * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(_BAR)


def seconds_line(seconds: dict[str, float]) -> Text:
    """How long each stage took."""
    parts = [f"{stage} {1000 * value:.0f} ms" for stage, value in seconds.items()]
    return Text(" · ".join(parts), style="dim")


def pair_lines(explanation: Explanation, folder: Path) -> RenderableType:
    """The answer of `retrieve explain`, and where its pictures are."""
    style = "green" if explanation.verdict == "similar" else "yellow"
    answer = Text.assemble(f"similarity {percent(explanation.similarity)}: ", (explanation.verdict, style))
    lines = [answer, Text(f"contact sheet: {safe_name(folder / CONTACT_SHEET)}")]
    if explanation.identical:
        lines.insert(1, Text("identical: nothing to explain"))
    return Group(*lines)


def status_lines(catalogue: Catalogue, most_failures: int) -> RenderableType:
    """What a store holds."""
    model, fingerprint = catalogue.setting("model"), catalogue.setting("fingerprint") or ""
    failures = [(safe_name(path), reason) for path, reason in catalogue.failures()]
    shown = safe_name(f"model {model} ({fingerprint[:16]})") if model else "nothing is indexed yet"
    return Group(
        Text.assemble("store ", (safe_name(catalogue.folder), "bold")),
        Text(shown),
        galleries_table(catalogue.counts()),
        Text(f"{len(failures)} failed"),
        failures_lines(failures, most_failures),
    )


def index_lines(report: IndexReport) -> RenderableType:
    """What a run of indexing did."""
    rate = f", {report.embedded / report.seconds:.0f} pictures/s" if report.embedded else ""
    lines = [
        Text(
            f"{report.added} added ({report.embedded} embedded, {report.reused} reused), {report.unchanged} unchanged,"
            f" {report.missing} missing, {report.failed} failed in {report.seconds:.1f} s{rate}"
        )
    ]
    for root in report.kept_roots:
        lines.append(
            Text(
                f"{safe_name(root)} is absent or holds no pictures now, so nothing of it was marked missing;"
                " to take it out: `retrieve remove` and the folder",
                style="yellow",
            )
        )
    if report.passed_over:
        endings = ", ".join(
            f"{count} {safe_name(ending) or 'without one'}" for ending, count in report.passed_over.items()
        )
        lines.append(Text(f"passed over, by the endings of their names: {endings}", style="dim"))
    return Group(*lines, failures_lines([(safe_name(path), reason) for path, reason in report.failures]))


def failures_lines(failures: Sequence[tuple[str, str]], most: int = 20) -> RenderableType:
    """The files that failed, each with its reason; the rest are counted."""
    lines = [Text.assemble("  ", (name, "bold"), f" {safe_name(reason)}") for name, reason in failures[:most]]
    if len(failures) > most:
        lines.append(Text(f"  … and {len(failures) - most} more: `retrieve status --failures` lists them"))
    return Group(*lines)


def galleries_table(counts: Sequence[Counts]) -> Table:
    """Each gallery with its pictures."""
    table = Table("gallery", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("pictures", justify="right")
    table.add_column("missing", justify="right")
    for count in counts:
        table.add_row(Text(safe_name(count.root)), str(count.pictures), str(count.missing))
    return table


def models_lines(bundles: Sequence[Bundle]) -> RenderableType:
    """Each model with its input size, what it was trained on, and its measured quality."""
    return Group(*(_model_lines(bundle) for bundle in bundles))


def _model_lines(bundle: Bundle) -> RenderableType:
    card, size = bundle.card, bundle.card.preprocessing.size
    facts = f": {safe_name(card.backbone)}, {size}x{size}, {card.units} units"
    heading = Text.assemble((safe_name(card.name), "bold"), facts)
    trained_on = Text(safe_name(f"trained on {card.provenance.get('trained_on', 'what was not recorded')}"))
    if not card.metrics:
        return Group(heading, trained_on, Text("not measured"))
    table = Table("measured on", box=SIMPLE_HEAD, pad_edge=False)
    for column in ("P@1", "mAP@100", "ROC AUC", "calibration error"):
        table.add_column(column, justify="right")
    for name, figures in card.metrics.items():
        wanted = ("p_at_1", "map_at_100", "roc_auc", "calibration_error")
        table.add_row(Text(safe_name(name)), *(f"{figures[key]:.3f}" if key in figures else "" for key in wanted))
    return Group(heading, trained_on, table)


def evaluation_table(name: str, result: Evaluation) -> RenderableType:
    """The order of the index and of the head side by side, and the verdicts on pairs."""
    title = f"{name}: {result.pictures} pictures, {result.classes} classes, {result.queries} queries leaving one out"
    ranking = Table("", box=SIMPLE_HEAD, pad_edge=False)
    for column in ("index", "rescored", "change"):
        ranking.add_column(column, justify="right")
    for field, shown in (("p_at_1", "P@1"), ("p_at_5", "P@5"), ("p_at_10", "P@10"), ("map_at_100", "mAP@100")):
        before, after = getattr(result.index, field), getattr(result.rescored, field)
        ranking.add_row(shown, f"{before:.4f}", f"{after:.4f}", f"{after - before:+.4f}")
    pairs = result.pairs
    figures = Table("", f"{pairs.similar} similar + {pairs.different} different", box=SIMPLE_HEAD, pad_edge=False)
    for field in ("accuracy", "roc_auc", "precision", "recall", "calibration_error"):
        figures.add_row(field.replace("_", " ").replace("roc auc", "ROC AUC"), f"{getattr(pairs, field):.4f}")
    return Group(Text(title, style="bold"), ranking, figures)
