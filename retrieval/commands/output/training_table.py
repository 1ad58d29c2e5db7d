"""Models, data sets and trainings in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from retrieval.common.output_names import CURVES
from retrieval.common.text import percent, safe_name
from retrieval.datasets.class_folders import LeftOut
from retrieval.datasets.crop import CropReport
from retrieval.datasets.crop_files import UncroppedReason
from retrieval.model.bundle import Bundle

if TYPE_CHECKING:  # only types here: whoever trains has loaded torch, whoever asks shall not
    from retrieval.training.prepared_data import PreparedData
    from retrieval.training.train_bundle import TrainedBundle
from retrieval.commands.output.query_table import relative_to_cwd


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


def crop_lines(report: CropReport) -> RenderableType:
    """What became of a data set's pictures when it was cropped."""
    words = {
        UncroppedReason.below_similarity: f"not more than {percent(report.rules.similarity)} similar to their partners",
        UncroppedReason.held_out: "to validate and test on",
        UncroppedReason.unknown: "unknown to the model's split",
        UncroppedReason.alone: "alone in their classes",
        UncroppedReason.no_focus: "without a focus",
    }
    kept = "" if report.median_share is None else f" to a median of {percent(report.median_share)} of their area"
    whole = [f"{count:,} {words[why]}" for why, count in report.uncropped.items() if count]
    return Group(
        Text(f"{len(report.crops):,} of {report.picture_count:,} pictures cropped{kept} in {report.seconds:.1f} s"),
        *([Text(f"kept whole: {', '.join(whole)}")] if whole else []),
        Text(f"data set: {safe_name(report.out)}{', with its split' if report.has_split else ''}"),
    )


def data_lines(data: PreparedData) -> RenderableType:
    """What a training takes from a data set, and what it leaves out."""
    dataset, counts = data.dataset, data.counts
    parts = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    lines = [Text(f"{safe_name(dataset.folder)}: {len(dataset.classes)} classes, {parts} pictures")]
    if data.given_split:
        lines.append(Text("the parts are those of the data set's own split.json"))
    untested = [name for name in dataset.classes if name not in data.tested_classes]
    if untested:
        lines.append(Text(f"too few pictures to be measured on: {safe_name(', '.join(untested))}"))
    if not data.can_validate:
        lines.append(Text("too few pictures for a validation part: epochs are judged by the training part"))
    return Group(*lines, left_out_lines(dataset.left_out))


def left_out_lines(left_out: LeftOut, limit: int = 20) -> RenderableType:
    """The files that are not used, with why; of very many the first ones."""
    said = [f"{safe_name(path)} {safe_name(reason)}" for path, reason in left_out[:limit]]
    if len(left_out) > limit:
        said.append(f"{len(left_out) - limit:,} more files")
    return Group(*(Text.assemble(("left out: ", "yellow"), each) for each in said))


def trained_lines(trained: TrainedBundle) -> RenderableType:
    """What a training gave, and where it is."""
    best, folder = trained.history[trained.best_epoch - 1], safe_name(relative_to_cwd(trained.bundle.folder))
    return Group(
        Text(
            f"{len(trained.history)} epochs in {sum(each.seconds for each in trained.history):.0f} s; the best is"
            f" epoch {best.epoch}, with a validation ROC AUC of {best.validation_auc:.4f}"
        ),
        _model_lines(trained.bundle),
        Text(f"curves: {folder}/{CURVES}; what it gets wrong: retrieve evaluate --model {folder} --html wrong.html"),
    )
