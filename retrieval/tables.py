"""What a terminal shows, as Rich renderables. Nothing here prints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import Counts
from indexes.vectors.index_address import FAISS
from indexes.vectors.storage import index_address
from retrieval.common.output_names import CONTACT_SHEET, CURVES, MATCHES
from retrieval.common.text import percent, safe_name
from retrieval.datasets.class_folders import LeftOut
from retrieval.datasets.crop import CropReport
from retrieval.datasets.crop_files import Whole
from retrieval.evaluation.ranking import Evaluation
from retrieval.evaluation.verdicts import Confusion, Confusions
from retrieval.explain.explanation import Explanation
from retrieval.explain.hit import Hit
from retrieval.model.bundle import Bundle
from retrieval.rendering.verification_text import HEADINGS, rows, told
from retrieval.sources.location import Address, Place, gallery_name, located, told_place
from retrieval.store.indexing.progress import UnderWay, read_under_way
from retrieval.store.indexing.run import IndexReport
from retrieval.store.maintenance.calibration import Calibration, in_use, read_calibration
from retrieval.store.maintenance.tuning import Tuning, read_tuning

if TYPE_CHECKING:  # only types here: whoever trains has loaded torch, whoever asks shall not
    from retrieval.training.prepared_data import Data
    from retrieval.training.train_bundle import Trained

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
    checked = [hit.explanation.verification if hit.explanation else None for hit in hits]
    if any(checked):
        table.add_column("heatmaps", no_wrap=True)
    for hit, verification in zip(hits, checked, strict=True):
        style = "green" if hit.verdict == "similar" else "yellow"
        table.add_row(
            str(hit.rank),
            Text.assemble(safe_name(from_here(hit.path)), (f" ({note})" if (note := _note(hit)) else "", "dim")),
            Text(safe_name(hit.label or "")),
            Text.assemble((f"{bar(hit.similarity)} " if bars else "", style), f"{percent(hit.similarity):>7}"),
            Text(hit.verdict, style),
            str(hit.index_rank),
            *([str(verification.support) if verification else ""] if any(checked) else []),
        )
    return Group(title, table)


def _note(hit: Hit) -> str | None:
    return hit.note or ("almost no evidence" if hit.explanation and hit.explanation.almost_none else None)


def from_here(path: Place) -> Place:
    """The path as seen from the working folder, where the picture lies below it."""
    if isinstance(path, Address):
        return told_place(path)
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
    elif explanation.almost_none:
        lines.insert(1, Text("almost no evidence in either picture", style="yellow"))
    if explanation.correspondence:
        matches = f"{safe_name(folder / MATCHES)}" if explanation.correspondence.matches else "none stands out"
        lines.append(Text(f"correspondences: {matches}"))
    if explanation.verification is None:
        return Group(*lines)
    table = Table(*HEADINGS, box=SIMPLE_HEAD, pad_edge=False)
    for row in rows(explanation.verification, ("A", "B")):
        table.add_row(*row)
    return Group(*lines, Text(told(explanation.verification)), table)


def status_lines(catalogue: Catalogue, most_failures: int) -> RenderableType:
    """What a store holds."""
    model, fingerprint = catalogue.setting("model"), catalogue.setting("fingerprint") or ""
    failures = [(safe_name(told_place(located(path))), reason) for path, reason in catalogue.failures()]
    shown = safe_name(f"model {model} ({fingerprint[:16]})") if model else "nothing is indexed yet"
    return Group(
        Text.assemble("store ", (safe_name(catalogue.folder), "bold")),
        Text(f"catalogue {safe_name(catalogue.address)}") if catalogue.address else Text(end=""),
        Text(shown),
        index_line(read_tuning(catalogue), index_address(catalogue)),
        _calibration_line(catalogue),
        galleries_table(catalogue.counts()),
        under_way_line(read_under_way(catalogue)),
        Text(f"{len(failures)} failed"),
        failures_lines(failures, most_failures),
    )


def under_way_line(found: UnderWay | None) -> Text:
    """How far an indexing is; nothing where none goes on."""
    if found is None:
        return Text(end="")
    total = f" of {found.total:,}" if found.total is not None else ""
    return Text(f"being indexed: {found.done:,}{total} files dealt with")


def index_line(tuning: Tuning | None, address: str = FAISS) -> Text:
    """What the index is and where it is, and how well it was measured to search."""
    where = "" if address == FAISS else f" at {safe_name(address)}"
    if tuning is None:
        return Text(f"no index yet{where}")
    if tuning.recall is None:
        return Text(f"index{where}: exact")
    return Text(
        f"index{where} {tuning.kind}, looks into {tuning.probes:,} of {tuning.lists:,} lists:"
        f" recall@10 {tuning.recall:.3f} against exact search, {tuning.milliseconds:.1f} ms a search"
        f" ({tuning.queries} of {tuning.pictures:,} pictures asked)"
    )


def _calibration_line(catalogue: Catalogue) -> Text:
    """Whether similarity is calibrated to the gallery, and what that gained."""
    calibration = read_calibration(catalogue)
    if calibration is None:
        return Text("similarity: the model's own, not calibrated to this gallery")
    if not in_use(calibration, catalogue):
        return Text(
            "similarity: the model's own; the calibration kept is of a head that the model does not have now: run"
            " `retrieve calibrate` again",
            style="yellow",
        )
    before, after = calibration.before.error, calibration.after.error
    return Text(f"similarity: calibrated to this gallery, calibration error {before:.3f} before and {after:.3f} after")


def calibration_lines(calibration: Calibration) -> RenderableType:
    """What a calibration rests on, and what it gained."""
    before, after = calibration.before, calibration.after
    table = Table("", box=SIMPLE_HEAD, pad_edge=False)
    for column in ("before", "after"):
        table.add_column(column, justify="right")
    table.add_row("calibration error", f"{before.error:.4f}", f"{after.error:.4f}")
    table.add_row("accuracy of verdicts", f"{before.accuracy:.4f}", f"{after.accuracy:.4f}")
    table.add_row("ROC AUC", *[f"{calibration.roc_auc:.4f}"] * 2)
    fitted = Text(
        f"similarity is calibrated to {calibration.pictures:,} pictures in {calibration.classes:,} classes; measured on"
        f" {calibration.unseen} that the fit has not seen"
    )
    if after.error < before.error:
        told = Text("the order of hits stays; `retrieve calibrate --reset` takes it back")
    else:
        told = Text("it gained nothing: `retrieve calibrate --reset` takes it back", style="yellow")
    return Group(fitted, table, told)


def tuning_lines(steps: Sequence[Tuning], wanted: float) -> RenderableType:
    """What a tuning has measured, and what it set."""
    if steps[-1].recall is None:
        return Text(f"the index of {steps[-1].pictures:,} pictures is exact: there is nothing to tune")
    table = Table("lists looked into", "recall@10", "ms a search", box=SIMPLE_HEAD, padding=(0, 1))
    for step in steps:
        table.add_row(f"{step.probes:,} of {step.lists:,}", f"{step.recall:.3f}", f"{step.milliseconds:.2f}")
    reached = (steps[-1].recall or 0) >= wanted
    told = "set to the last one" if reached else f"no setting reaches {wanted:g}: set to the last one, the best"
    return Group(table, Text(told, style="" if reached else "yellow"))


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
    lines += [Text(safe_name(note), style="yellow") for note in report.notes]
    return Group(*lines, failures_lines([(safe_name(told_place(path)), reason) for path, reason in report.failures]))


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
        table.add_row(Text(safe_name(gallery_name(count.root))), str(count.pictures), str(count.missing))
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


def evaluation_table(name: str, results: Mapping[str, Evaluation]) -> RenderableType:
    """One or two models, by name: the orders of index and head, the verdicts on pairs, and the first's confusions."""
    first = next(iter(results.values()))
    title = f"{name}: {first.pictures} pictures, {first.classes} classes, {first.queries} queries leaving one out"
    return Group(
        Text(title, style="bold"), _rankings_table(results), _pairs_table(results), *_confused_tables(first.confusions)
    )


def _rankings_table(results: Mapping[str, Evaluation]) -> Table:
    table = Table("", box=SIMPLE_HEAD, pad_edge=False)
    for name in results:
        for column in ("index", "rescored", "change"):
            table.add_column(Text(f"{safe_name(name)}\n{column}" if len(results) > 1 else column), justify="right")
    for field, shown in (("p_at_1", "P@1"), ("p_at_5", "P@5"), ("p_at_10", "P@10"), ("map_at_100", "mAP@100")):
        cells = []
        for result in results.values():
            before, after = getattr(result.index, field), getattr(result.rescored, field)
            cells += [f"{before:.4f}", f"{after:.4f}", f"{after - before:+.4f}"]
        table.add_row(shown, *cells)
    return table


def _pairs_table(results: Mapping[str, Evaluation]) -> Table:
    pairs = [result.pairs for result in results.values()]
    table = Table(f"{pairs[0].similar} similar + {pairs[0].different} different", box=SIMPLE_HEAD, pad_edge=False)
    for name in results:
        table.add_column(Text(safe_name(name) if len(results) > 1 else ""), justify="right")
    for field in ("accuracy", "roc_auc", "thresholded_auc", "precision", "recall", "macro_precision", "macro_recall"):
        table.add_row(_in_words(field), *(f"{getattr(each, field):.4f}" for each in pairs))
    table.add_row("calibration error", *(f"{each.calibration_error:.4f}" for each in pairs), end_section=True)
    for field in ("true_similar", "false_similar", "true_different", "false_different"):
        table.add_row(_in_words(field), *(str(getattr(each, field)) for each in pairs))
    return table


def _in_words(field: str) -> str:
    return field.replace("_", " ").replace("roc auc", "ROC AUC").replace("auc", "AUC")


def _confused_tables(confusions: Confusions) -> list[Table]:
    kinds = (
        ("of two classes", "said similar", confusions.across),
        ("of one class", "said different", confusions.within),
    )
    return [_confused_table(f"pairs {kind}", wrong, found) for kind, wrong, found in kinds if found]


def _confused_table(title: str, wrong: str, found: Sequence[Confusion]) -> Table:
    table = Table(title, box=SIMPLE_HEAD, pad_edge=False)
    for column in ("pairs", wrong):
        table.add_column(column, justify="right")
    for each in found:
        names = " and ".join(safe_name(name) for name in dict.fromkeys((each.first, each.second)))
        table.add_row(Text(names), str(each.pairs), percent(each.wrong))
    return table


def crop_lines(report: CropReport) -> RenderableType:
    """What became of a data set's pictures when it was cropped."""
    words = {
        Whole.below: f"not more than {percent(report.rules.similarity)} similar to their partners",
        Whole.held_out: "to validate and test on",
        Whole.unknown: "unknown to the model's split",
        Whole.alone: "alone in their classes",
        Whole.no_focus: "without a focus",
    }
    kept = "" if report.median_share is None else f" to a median of {percent(report.median_share)} of their area"
    whole = [f"{count:,} {words[why]}" for why, count in report.whole.items() if count]
    return Group(
        Text(f"{len(report.crops):,} of {report.pictures:,} pictures cropped{kept} in {report.seconds:.1f} s"),
        *([Text(f"kept whole: {', '.join(whole)}")] if whole else []),
        Text(f"data set: {safe_name(report.out)}{', with its split' if report.has_split else ''}"),
    )


def data_lines(data: Data) -> RenderableType:
    """What a training takes from a data set, and what it leaves out."""
    dataset, counts = data.dataset, data.counts
    parts = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    lines = [Text(f"{safe_name(dataset.folder)}: {len(dataset.classes)} classes, {parts} pictures")]
    if data.given:
        lines.append(Text("the parts are those of the data set's own split.json"))
    untested = [name for name in dataset.classes if name not in data.tested_classes]
    if untested:
        lines.append(Text(f"too few pictures to be measured on: {safe_name(', '.join(untested))}"))
    if not data.validates:
        lines.append(Text("too few pictures for a validation part: epochs are judged by the training part"))
    return Group(*lines, left_out_lines(dataset.left_out))


def left_out_lines(left_out: LeftOut, most: int = 20) -> RenderableType:
    """The files that are not used, with why; of very many the first ones."""
    said = [f"{safe_name(path)} {safe_name(reason)}" for path, reason in left_out[:most]]
    if len(left_out) > most:
        said.append(f"{len(left_out) - most:,} more files")
    return Group(*(Text.assemble(("left out: ", "yellow"), each) for each in said))


def trained_lines(trained: Trained) -> RenderableType:
    """What a training gave, and where it is."""
    best, folder = trained.history[trained.best_epoch - 1], safe_name(from_here(trained.bundle.folder))
    return Group(
        Text(
            f"{len(trained.history)} epochs in {sum(each.seconds for each in trained.history):.0f} s; the best is"
            f" epoch {best.epoch}, with a validation ROC AUC of {best.validation_auc:.4f}"
        ),
        _model_lines(trained.bundle),
        Text(f"curves: {folder}/{CURVES}; what it gets wrong: retrieve evaluate --model {folder} --html wrong.html"),
    )
