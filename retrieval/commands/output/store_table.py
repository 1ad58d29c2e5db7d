"""A store in a terminal: its status, and what indexing, tuning and calibration did."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from indexes.catalogue.records import RootCounts
from indexes.vectors.index_address import FAISS
from retrieval.commands.output.tables import failure_line, figures_table, first_lines
from retrieval.common.text import safe_name
from retrieval.sources.location import display_location, gallery_name, parse_location
from retrieval.store.indexing.progress import IndexingProgress
from retrieval.store.indexing.run import IndexReport
from retrieval.store.maintenance.calibration import Calibration
from retrieval.store.maintenance.tuning import Tuning
from retrieval.store.status import StoreStatus


def status_lines(status: StoreStatus, failures: Sequence[tuple[bytes, str]], most: int) -> RenderableType:
    """Return what a store holds, with the first `most` of the files that failed."""
    fingerprint = (status.fingerprint or "")[:16]
    return Group(
        Text.assemble("store ", (safe_name(status.folder), "bold")),
        Text(f"catalogue {safe_name(status.address)}") if status.address else Text(end=""),
        Text(safe_name(f"model {status.model} ({fingerprint})") if status.model else "nothing is indexed yet"),
        index_line(status.tuning, status.index_address),
        _calibration_line(status),
        galleries_table(status.galleries),
        indexing_line(status.progress),
        Text(f"{len(failures)} failed"),
        failures_lines(
            [(safe_name(display_location(parse_location(path))), reason) for path, reason in failures], most
        ),
    )


def indexing_line(progress: IndexingProgress | None) -> Text:
    """Return how far a running indexing is; nothing if none is running."""
    if progress is None:
        return Text(end="")
    total = f" of {progress.total:,}" if progress.total is not None else ""
    return Text(f"being indexed: {progress.done:,}{total} files dealt with")


def index_line(tuning: Tuning | None, address: str) -> Text:
    """Return the kind of the index, where it is, and its measured recall and speed."""
    where = "" if address == FAISS else f" at {safe_name(address)}"
    if tuning is None:
        return Text(f"no index yet{where}")
    if tuning.recall is None:
        return Text(f"index{where}: exact")
    return Text(
        f"index{where} {tuning.kind}, looks into {tuning.probes:,} of {tuning.lists:,} lists:"
        f" recall@10 {tuning.recall:.3f} against exact search, {tuning.milliseconds:.1f} ms a search"
        f" ({tuning.queries} of {tuning.pictures:,} pictures queried)"
    )


def _calibration_line(status: StoreStatus) -> Text:
    """Return whether similarity is calibrated to the gallery, and what that gained."""
    calibration = status.calibration
    if calibration is None:
        return Text("similarity: the model's own, not calibrated to this gallery")
    if not status.is_calibrated:
        return Text(
            "similarity: the model's own; the calibration kept is of a head that the model does not have now: run"
            " `retrieve calibrate` again",
            style="yellow",
        )
    before, after = calibration.before.error, calibration.after.error
    return Text(f"similarity: calibrated to this gallery, calibration error {before:.3f} before and {after:.3f} after")


def calibration_lines(calibration: Calibration) -> RenderableType:
    """Return what a calibration was fitted to, and what it gained."""
    before, after = calibration.before, calibration.after
    table = figures_table("", ("before", "after"))
    table.add_row("calibration error", f"{before.error:.4f}", f"{after.error:.4f}")
    table.add_row("accuracy of verdicts", f"{before.accuracy:.4f}", f"{after.accuracy:.4f}")
    table.add_row("ROC AUC", *[f"{calibration.roc_auc:.4f}"] * 2)
    fitted = Text(
        f"similarity is calibrated to {calibration.pictures:,} pictures in {calibration.classes:,} classes; measured on"
        f" {calibration.unseen} that the fit has not seen"
    )
    if after.error < before.error:
        advice = Text("the order of hits stays; `retrieve calibrate --reset` takes it back")
    else:
        advice = Text("it gained nothing: `retrieve calibrate --reset` takes it back", style="yellow")
    return Group(fitted, table, advice)


def tuning_lines(steps: Sequence[Tuning], target: float) -> RenderableType:
    """Return what a tuning measured at each step, and what it set."""
    if steps[-1].recall is None:
        return Text(f"the index of {steps[-1].pictures:,} pictures is exact: there is nothing to tune")
    table = Table("lists looked into", "recall@10", "ms a search", box=SIMPLE_HEAD, padding=(0, 1))
    for step in steps:
        table.add_row(f"{step.probes:,} of {step.lists:,}", f"{step.recall:.3f}", f"{step.milliseconds:.2f}")
    reached = (steps[-1].recall or 0) >= target
    outcome = "set to the last one" if reached else f"no setting reaches {target:g}: set to the last one, the best"
    return Group(table, Text(outcome, style="" if reached else "yellow"))


def index_lines(report: IndexReport) -> RenderableType:
    """Return what an indexing run did."""
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
    lines += [Text(safe_name(note), style="yellow") for note in report.notes]
    return Group(
        *lines, failures_lines([(safe_name(display_location(path)), reason) for path, reason in report.failures])
    )


def failures_lines(failures: Sequence[tuple[str, str]], limit: int = 20) -> RenderableType:
    """Return the files that failed, each with its reason; the rest are counted. Names must be safe to print."""
    rest = "  … and {} more: `retrieve status --failures` lists them"
    return Group(*first_lines(failures, lambda each: failure_line(each[0], safe_name(each[1])), rest, limit))


def galleries_table(counts: Sequence[RootCounts]) -> Table:
    """Return each gallery with its pictures."""
    table = figures_table("gallery", ("pictures", "missing"))
    for count in counts:
        table.add_row(Text(safe_name(gallery_name(count.root))), str(count.pictures), str(count.missing))
    return table
