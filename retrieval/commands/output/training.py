"""Models, data sets and trainings in a terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from retrieval.commands.output.formats import JsonObject, figures_table, files_json, first_lines, pick
from retrieval.commands.output.query import model_json, relative_to_cwd
from retrieval.commands.output.tables import NamedReason, name_line
from retrieval.common.output_names import CURVES
from retrieval.common.text import percent, safe_name
from retrieval.datasets.class_folders import LeftOut
from retrieval.datasets.crop import CropReport
from retrieval.datasets.crop_files import UncroppedReason
from retrieval.model.bundle import Bundle

if TYPE_CHECKING:  # their modules load torch
    from retrieval.training.prepared_data import PreparedData
    from retrieval.training.train_bundle import TrainedBundle


_CARD_METRICS = {
    "p_at_1": "P@1",
    "map_at_100": "mAP@100",
    "roc_auc": "ROC AUC",
    "calibration_error": "calibration error",
}


def models_lines(bundles: Sequence[Bundle]) -> RenderableType:
    """Return each model with its input size, its training data, and its measured quality."""
    return Group(*(_model_lines(bundle) for bundle in bundles))


def _model_lines(bundle: Bundle) -> RenderableType:
    card, size = bundle.card, bundle.card.preprocessing.size
    facts = f": {safe_name(card.backbone)}, {size}x{size}, {card.units} units"
    heading = Text.assemble((safe_name(card.name), "bold"), facts)
    trained_on = Text(safe_name(f"trained on {card.provenance.get('trained_on', 'what was not recorded')}"))
    if not card.metrics:
        return Group(heading, trained_on, Text("not measured"))
    table = figures_table("measured on", _CARD_METRICS.values())
    for name, figures in card.metrics.items():
        cells = (f"{figures[metric]:.3f}" if metric in figures else "" for metric in _CARD_METRICS)
        table.add_row(Text(safe_name(name)), *cells)
    return Group(heading, trained_on, table)


def crop_lines(report: CropReport) -> RenderableType:
    """Return how many pictures were cropped, and why the others were not."""
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
        name_line(f"data set: {safe_name(report.out)}{', with its split' if report.has_split else ''}"),
    )


def data_lines(data: PreparedData) -> RenderableType:
    """Return the parts of a data set to train on, and what is left out."""
    dataset, counts = data.dataset, data.counts
    parts = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    lines = [name_line(f"{safe_name(dataset.folder)}: {len(dataset.classes)} classes, {parts} pictures")]
    if dataset.folder_parts:
        lines.append(Text("the parts are those of its folders"))
    elif data.given_split:
        lines.append(Text("the parts are those of the data set's own split.json"))
    untested = [name for name in dataset.classes if name not in data.tested_classes]
    if untested:
        lines.append(Text(f"too few pictures to be measured on: {safe_name(', '.join(untested))}"))
    if not data.can_validate:
        lines.append(Text("too few pictures for a validation part: epochs are judged by the training part"))
    return Group(*lines, left_out_lines(dataset.left_out))


def left_out_lines(left_out: LeftOut) -> RenderableType:
    """Return the files that are not used, each with the reason; of very many the first ones."""
    lines = (NamedReason(path, reason, Text("left out: ", "yellow"), style="") for path, reason in left_out)
    return Group(*first_lines(lines, len(left_out), "left out: {} more files"))


def trained_lines(trained: TrainedBundle) -> RenderableType:
    """Return the best epoch of a training, the model's quality, and where it is."""
    best, folder = trained.history[trained.best_epoch - 1], safe_name(relative_to_cwd(trained.bundle.folder))
    return Group(
        Text(
            f"{len(trained.history)} epochs in {sum(each.seconds for each in trained.history):.0f} s; the best is"
            f" epoch {best.epoch}, with a validation ROC AUC of {best.validation_auc:.4f}"
        ),
        _model_lines(trained.bundle),
        name_line(
            f"curves: {folder}/{CURVES}; what it gets wrong: retrieve evaluate --model {folder} --html wrong.html"
        ),
    )


def training_json(trained: TrainedBundle) -> JsonObject:
    """Return a trained model, its epochs, and the number of the one that it holds."""
    bundle = trained.bundle
    return {
        "model": model_json(bundle) | {"folder": bundle.folder},
        "best_epoch": trained.best_epoch,
        "epochs": trained.history,
        **pick(bundle.card, "provenance", "metrics"),
    }


def models_json(bundles: Iterable[Bundle]) -> JsonObject:
    """Return the cards of models, without the checksums of their parts."""
    cards = [vars(bundle.card) | {"fingerprint": bundle.fingerprint} for bundle in bundles]
    return {"models": [{name: value for name, value in card.items() if name != "digests"} for card in cards]}


def crop_json(model: str, report: CropReport) -> JsonObject:
    """Return the crops of a data set, and how many pictures were left whole, by reason."""
    return {
        "model": model,
        **pick(report, "dataset", "out"),
        **vars(report.rules),
        "pictures": report.picture_count,
        "cropped": len(report.crops),
        **{str(reason): count for reason, count in report.uncropped.items()},
        "left_out": files_json(report.left_out),
        "median_share": report.median_share,
        "split": report.has_split,
        "seconds": report.seconds,
        "crops": [crop.values() for crop in report.crops],
    }
