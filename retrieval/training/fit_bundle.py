"""Model bundles with a fitted head: data sets are embedded by a backbone, a head is fitted to them and measured."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrieval.common.progress import SILENT, Progress
from retrieval.datasets.descriptors import DescribedGallery, describe_gallery
from retrieval.evaluation.ranking import card_metrics, evaluate_head
from retrieval.model.backbones import build_backbone
from retrieval.model.bundle import Bundle
from retrieval.model.bundle_export import save_bundle
from retrieval.model.encoder import Encoder
from retrieval.model.head import Head
from retrieval.training.head_fitting import LabelledDescriptors, fit_head


@dataclass(frozen=True)
class FitRecipe:
    """The settings of a fit. `labelled` are folders of class folders, `unlabelled` folders of any pictures.

    `tests` are folders of class folders to measure the model on; nothing is fitted to them.
    """

    backbone: str
    weights: Path | None
    labelled: tuple[Path, ...]
    unlabelled: tuple[Path, ...]
    tests: tuple[Path, ...]
    seed: int


def fit_bundle(recipe: FitRecipe, name: str, folder: Path, device: str = "auto", progress: Progress = SILENT) -> Bundle:
    """Fit, measure and write the bundle. Raises ModelError and GalleryError."""
    trunk = build_backbone(recipe.backbone, weights=recipe.weights)
    with tempfile.TemporaryDirectory(prefix="retrieve-") as work:
        no_head = Head(np.zeros((1, trunk.channels), np.float32), np.zeros(1, np.float32), 1.0, 0.0, normalize=False)
        encoder = Encoder(save_bundle(trunk, no_head, Path(work), name, {}, {}), device, progress)
        encoder.load()
        labelled = [describe_gallery(dataset, encoder, progress) for dataset in recipe.labelled]
        unlabelled = [describe_gallery(dataset, encoder, progress) for dataset in recipe.unlabelled]
        tests = {dataset.name: describe_gallery(dataset, encoder, progress) for dataset in recipe.tests}
    pooled = np.concatenate([data.descriptors for data in unlabelled or labelled])
    head = fit_head([_encode_labels(data) for data in labelled], pooled, recipe.seed)
    metrics = {test: card_metrics(evaluate_head(head, *data.labelled())) for test, data in tests.items()}
    provenance = _provenance(recipe, [len(data.labels) for data in (*labelled, *unlabelled)])
    return save_bundle(trunk, head, folder, name, provenance, metrics)


def _encode_labels(data: DescribedGallery) -> LabelledDescriptors:
    descriptors, labels = data.labelled()
    return LabelledDescriptors(descriptors, np.unique(np.array(labels), return_inverse=True)[1])


def _provenance(recipe: FitRecipe, counts: Sequence[int]) -> dict[str, object]:
    names = [dataset.name for dataset in (*recipe.labelled, *recipe.unlabelled)]
    labels = " + ".join(dataset.name for dataset in recipe.labelled)
    others = " + ".join(dataset.name for dataset in recipe.unlabelled)
    return {
        "trained_on": labels + (f"; {others} without labels" if others else ""),
        "backbone_weights": recipe.weights.name if recipe.weights else "ImageNet",
        "pictures": dict(zip(names, counts, strict=True)),
        "seed": recipe.seed,
        "recipe": "retrieve fit",
    }
