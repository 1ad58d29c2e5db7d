"""Training from class folders to a bundle: pictures decoded once, a split, epochs, the best one written."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from retrieval.common.atomic_files import write_atomically
from retrieval.common.errors import SettingError
from retrieval.common.output_names import CURVES
from retrieval.common.progress import SILENT, Progress
from retrieval.common.settings import DEFAULT_MODEL
from retrieval.datasets.class_folders import check_outside
from retrieval.datasets.pair_sampling import can_make_pairs
from retrieval.datasets.split import TEST, TRAIN, VALIDATION, record_split
from retrieval.evaluation.measure import EvaluatedModel, EvaluationOptions, evaluate_models
from retrieval.evaluation.ranking import card_metrics
from retrieval.model.backbones import Backbone, build_backbone
from retrieval.model.bundle import Bundle, find_bundle
from retrieval.model.bundle_export import save_bundle
from retrieval.model.encoder import Encoder
from retrieval.model.head import Head
from retrieval.model.inference import torch_device
from retrieval.model.preprocessing import Pixels
from retrieval.model.siamese import to_input
from retrieval.training.logs import plot_curves
from retrieval.training.losses import build_loss
from retrieval.training.prepared_data import PLAN, PreparedData, Recipe, prepare_data
from retrieval.training.presets import Preset
from retrieval.training.trainer import Epoch, Trainer, best_epoch

WORK = "training"
METRICS = "metrics.jsonl"
_CHECKPOINT = "checkpoint.safetensors"

_SHIFT_SAMPLE = 8  # pictures that show whether descriptors can be negative


@dataclass(frozen=True)
class TrainedBundle:
    """A trained bundle and its epochs."""

    bundle: Bundle
    history: list[Epoch]

    @property
    def best_epoch(self) -> int:
        """The number of the epoch whose weights the bundle has."""
        return best_epoch(self.history)


def train_bundle(
    recipe: Recipe,
    folder: Path,
    resume: bool = False,
    device: str = "auto",
    progress: Progress = SILENT,
    on_data: Callable[[PreparedData], None] = lambda data: None,
    on_epoch: Callable[[list[Epoch]], None] = lambda history: None,
) -> TrainedBundle:
    """Train, and write the bundle: `model.json`, `weights.safetensors`, `split.json`, `metrics.jsonl`, `curves.png`.

    `on_data` is called with the data before the first epoch, `on_epoch` with the history after each. The state of an
    unfinished training is in the folder's `training`; `resume` continues it, and returns a finished one as it is.
    Raises GalleryError, SettingError.
    """
    check_outside(recipe.dataset, folder)
    if (folder / "model.json").exists():
        return _load_finished(recipe, folder, resume)
    work = folder / WORK
    if (work / PLAN).exists() and not resume:
        raise SettingError(f"{folder} holds an unfinished training: add --resume, or give another folder")
    build_loss(recipe.preset.loss, class_count=2, units=2)  # refuse a wrong name before pictures are read
    trunk = build_backbone(recipe.preset.backbone, weights=recipe.weights)
    if recipe.preset.input_size:
        trunk = replace(trunk, preprocessing=replace(trunk.preprocessing, size=recipe.preset.input_size))
    head, device = _initial_head(recipe.preset), torch_device(device)

    def record_epoch(history: list[Epoch]) -> None:
        write_atomically(folder / METRICS, "".join(json.dumps(asdict(epoch)) + "\n" for epoch in history))
        write_atomically(folder / CURVES, plot_curves(history))
        on_epoch(history)

    with progress.one_line():
        data = prepare_data(recipe, work, trunk.preprocessing.size, progress)
        on_data(data)
        parts = data.subset(TRAIN), data.subset(VALIDATION if data.can_validate else TRAIN)
        preset = replace(recipe.preset, shift=_usable_shift(recipe.preset, trunk, data.pixels))
        checkpoint = work / _CHECKPOINT
        training = Trainer(
            trunk, preset, data.pixels, parts, recipe.seed, checkpoint, head, device, progress, record_epoch
        )
        training.run()
        bundle = _write(recipe, data, trunk, training, folder)
    trained = TrainedBundle(bundle, training.history)
    del data, training  # which map the pixels: Windows deletes no file that is mapped
    shutil.rmtree(work, ignore_errors=True)
    return trained


def _load_finished(recipe: Recipe, folder: Path, resume: bool) -> TrainedBundle:
    if not resume or not (folder / METRICS).exists():
        raise SettingError(f"{folder} holds a model already: give another folder, or remove that one")
    bundle = find_bundle(os.path.abspath(folder))
    if other := _changed_settings(recipe, bundle.card.provenance.get("recipe", {})):
        raise SettingError(
            f"{folder} was trained with another {' and another '.join(other)}: give that, or another folder"
        )
    shutil.rmtree(folder / WORK, ignore_errors=True)
    history = [Epoch(**json.loads(line)) for line in (folder / METRICS).read_text("utf-8").splitlines()]
    return TrainedBundle(bundle, history)


def _changed_settings(recipe: Recipe, known: dict[str, Any]) -> list[str]:
    """Return the settings that a finished training had otherwise; those that it did not know yet are not compared."""
    values = recipe.as_json()
    preset, known_preset = values.pop("preset"), known.get("preset", {})
    changed = [name for name, value in values.items() if known.get(name) != value]
    return changed + [name for name, value in preset.items() if known_preset.get(name, value) != value]


def _usable_shift(preset: Preset, backbone: Backbone, pixels: Pixels) -> float | None:
    """Return the preset's shift, or None for a backbone without a final ReLU: negative descriptors have no root."""
    if preset.shift is None:
        return None
    pictures = torch.tensor(pixels[:_SHIFT_SAMPLE]).permute(0, 3, 1, 2)
    with torch.inference_mode():
        descriptors = backbone.module(to_input(pictures, backbone.preprocessing)).mean((2, 3))
    return preset.shift if descriptors.min() >= 0 else None


def _initial_head(preset: Preset) -> Head | None:
    if not preset.keep_general:
        return None
    bundle = find_bundle(DEFAULT_MODEL)
    if bundle.card.backbone != preset.backbone:
        raise SettingError(f"--keep-general starts from the head of {bundle.card.backbone}: leave --backbone out")
    return bundle.head


def _write(recipe: Recipe, data: PreparedData, backbone: Backbone, training: Trainer, folder: Path) -> Bundle:
    """Write the best epoch as a bundle, measured; `model.json` comes last, as it marks the bundle as complete."""
    head, best = training.export_head(), replace(backbone, module=training.best.network.backbone)
    name, dataset_name = folder.resolve().name, recipe.dataset.resolve().name
    provenance = {
        "trained_on": dataset_name,
        "backbone_weights": recipe.weights.name if recipe.weights else "ImageNet",
        "classes": data.dataset.classes,
        "pictures": data.counts,
        "seed": recipe.seed,
        "epochs": len(training.history),
        "best_epoch": best_epoch(training.history),
        "recipe": recipe.as_json(),
    }
    metrics, test = {}, data.subset(TEST)
    if can_make_pairs(test.codes):
        unmeasured = save_bundle(best, head, folder / WORK / "bundle", name, provenance, {})
        unseen = replace(data.dataset, samples=tuple(data.dataset.samples[row] for row in test.rows))
        model = EvaluatedModel(name, Encoder(unmeasured, training.device), None)
        measured = evaluate_models(unseen, [model], EvaluationOptions(), training.progress)
        metrics[f"{dataset_name}, unseen part"] = card_metrics(measured.results[name])
    record_split(data.dataset, data.parts, recipe.seed, data.given_split).write(folder)
    return save_bundle(best, head, folder, name, provenance, metrics)
