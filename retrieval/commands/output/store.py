"""A store in a terminal and as JSON: its status, and what indexing, tuning and calibration did."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from indexes.vectors.index_address import FAISS
from retrieval.commands.output.formats import JsonObject, failures_lines, figures_table, files_json, pick, simple_table
from retrieval.commands.output.tables import name_line
from retrieval.common.text import safe_name
from retrieval.sources.entries import passed_over_words
from retrieval.sources.location import gallery_name, parse_location
from retrieval.store.indexing.report import IndexReport
from retrieval.store.maintenance.calibration import Calibration
from retrieval.store.maintenance.coverage import COVERAGE
from retrieval.store.maintenance.tuning import Tuning
from retrieval.store.status import StoreStatus, is_present


def status_lines(
    status: StoreStatus, failures: Sequence[tuple[bytes, str]], most: int, configuration: Iterable[Path]
) -> RenderableType:
    """Return what a store holds, with the first `most` of the files that failed, and the files of defaults."""
    fingerprint, progress = (status.fingerprint or "")[:16], status.progress
    galleries = (
        (Text(safe_name(gallery_name(count.root))) + _absence(count.root), str(count.pictures), str(count.missing))
        for count in status.galleries
    )
    total = f" of {progress.total:,}" if progress and progress.total is not None else ""
    return Group(
        name_line("store ", (safe_name(status.folder), "bold")),
        *([name_line(f"catalogue {safe_name(status.address)}")] if status.address else []),
        Text(safe_name(f"model {status.model} ({fingerprint})") if status.model else "nothing is indexed yet"),
        _index_line(status.tuning, status.index_address),
        *([_similarity_line(status)] if status.model else []),
        *(name_line(f"defaults of options: {safe_name(file)}") for file in configuration),
        figures_table("gallery", ("pictures", "missing"), galleries),
        *([Text(f"being indexed: {progress.done:,}{total} files dealt with")] if progress else []),
        *(name_line(safe_name(words), style="dim") for words in passed_over_words(status.passed_over)),
        Text(f"{len(failures)} failed"),
        *failures_lines([(parse_location(path), reason) for path, reason in failures], limit=most),
    )


def _absence(gallery: bytes) -> Text:
    return Text(" (not there now)" if is_present(gallery) is False else "", "yellow")


def _index_line(tuning: Tuning | None, address: str) -> Text:
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


def _similarity_line(status: StoreStatus) -> Text:
    """Return what judges pairs, whether that is calibrated to class folders, and what the calibration gained."""
    calibration = status.calibration
    line = f"similarity: {status.similarity.description if status.similarity else 'unknown without the model'}; "
    if calibration is None:
        return Text(f"{line}not calibrated to class folders")
    if not status.is_calibrated:
        return Text(
            f"{line}the calibration kept is of another similarity, or of a head that the model does not have now: run"
            " `retrieve calibrate` again to use one",
            style="yellow",
        )
    before, after = calibration.before.error, calibration.after.error
    outdated = "" if calibration.hits else "; hits are not calibrated yet: run `retrieve calibrate` again"
    return Text(
        f"{line}calibrated to class folders, calibration error {before:.3f} before and {after:.3f} after{outdated}"
    )


def calibration_lines(calibration: Calibration) -> RenderableType:
    """Return what a calibration was fitted to, and what it gained."""
    before, after, hits = calibration.before, calibration.after, calibration.hits
    rows = [
        ("calibration error of pairs", before.error, after.error),
        *([("calibration error of the first five hits", hits.before, hits.after)] if hits else []),
        ("accuracy of verdicts", before.accuracy, after.accuracy),
        ("ROC AUC", calibration.roc_auc, calibration.roc_auc),
    ]
    table = figures_table("", ("before", "after"), ((name, f"{old:.4f}", f"{new:.4f}") for name, old, new in rows))
    fitted = Text(
        f"similarity is calibrated to {calibration.pictures:,} pictures in {calibration.classes:,} classes; measured on"
        f" {calibration.unseen} that the fit has not seen"
    )
    if after.error < before.error:
        advice = Text("the order of hits stays; `retrieve calibrate --reset` takes it back")
    else:
        advice = Text("it gained nothing: `retrieve calibrate --reset` takes it back", style="yellow")
    coverage = "how many hits are needed (`--coverage`) the labels do not tell"
    if hits and hits.needed:
        coverage = f"`retrieve query --coverage {COVERAGE:g}` shows {hits.needed:.1f} hits on average"
    return Group(fitted, table, Text(coverage), advice)


def tuning_lines(steps: Sequence[Tuning], target: float) -> RenderableType:
    """Return what a tuning measured at each step, and what it set."""
    if steps[-1].recall is None:
        return Text(f"the index of {steps[-1].pictures:,} pictures is exact: there is nothing to tune")
    rows = (
        (f"{each.probes:,} of {each.lists:,}", f"{each.recall:.3f}", f"{each.milliseconds:.2f}", str(each.step))
        for each in steps
    )
    table = simple_table("lists looked into", "recall@10", "ms a search", "rescored for ten hits", rows=rows)
    reached = (steps[-1].recall or 0) >= target
    outcome = "set to the last one" if reached else f"no setting reaches {target:g}: set to the last one, the best"
    return Group(table, Text(outcome, style="" if reached else "yellow"))


def index_lines(report: IndexReport) -> RenderableType:
    """Return what an indexing run did."""
    rate = f", {report.embedded / report.seconds:.0f} pictures/s" if report.embedded else ""
    summary = Text(
        f"{report.added} added ({report.embedded} embedded, {report.reused} reused), {report.unchanged} unchanged,"
        f" {report.missing} missing, {report.failed} failed in {report.seconds:.1f} s{rate}"
    )
    notes = [
        f"{safe_name(root)} is absent or holds no pictures now, so nothing of it was marked missing;"
        " to take it out: `retrieve remove` and the folder"
        for root in report.kept_roots
    ]
    notes += [f"{safe_name(root)} holds no pictures" for root in report.empty_roots]
    return Group(
        summary,
        *(name_line(note, style="yellow") for note in notes),
        *(name_line(safe_name(words), style="dim") for words in passed_over_words(report.passed_over)),
        *(name_line(safe_name(note), style="yellow") for note in report.notes),
        *failures_lines(report.failures),
    )


def index_json(report: IndexReport) -> JsonObject:
    """Return the counts of an indexing run, and each failure with its reason."""
    return {
        **pick(report, "added", "reused", "embedded", "unchanged", "missing", "failed", "seconds"),
        "failures": files_json(report.failures),
        **pick(report, "kept_roots", "empty_roots", "passed_over", "notes"),
    }


def status_json(status: StoreStatus, failures: Iterable[tuple[bytes, str]]) -> JsonObject:
    """Return what a store holds, and the files that failed."""
    calibration, similarity = status.calibration, status.similarity
    reason = similarity and similarity.reason
    return {
        "store": status.folder,
        "catalogue": status.address,
        "model": {"name": status.model, "fingerprint": status.fingerprint},
        "generation": status.generation,
        "indexing": pick(status.progress, "done", "total") if status.progress else None,
        "index": status.tuning,
        "index_at": status.index_address,
        "similarity": similarity and {"by": similarity.by, "reason": reason and reason.name},
        "calibration": vars(calibration) | {"in_use": status.is_calibrated} if calibration else None,
        "galleries": [
            {
                "path": gallery_name(count.root),
                **pick(count, "pictures", "missing"),
                "present": is_present(count.root),
            }
            for count in status.galleries
        ],
        "labels": status.labels,
        "passed_over": status.passed_over,
        "failures": files_json((parse_location(path), reason) for path, reason in failures),
    }
