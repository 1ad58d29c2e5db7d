"""Reproductions as values for `to_json`, with stable keys and paths relative to the reproduction's folder."""

import os
from pathlib import Path
from typing import Any

from retrieval.common.settings import installed_version
from retrieval.datasets.class_folders import Sample
from retrieval.datasets.crop_files import Crop
from retrieval.evaluation.ranking import Evaluation
from retrieval.explain.illustrated import HEATMAP_KINDS
from retrieval.rendering.presentation import SideView, side_views
from retrieval.training.paper.results import (
    PAPER_CROP_PAIR,
    PAPER_CROPPED,
    PAPER_ORIGINAL,
    CropPair,
    ModelSummary,
    PairView,
    Plan,
    SeedRun,
    Study,
    StudyResult,
    TableResult,
    study_of_kind,
)

PaperJson = dict[str, Any]


def results_json(result: StudyResult | TableResult) -> PaperJson:
    """Return everything that the page shows, and its settings."""
    plan = result.plan
    settings = {
        "case": plan.case,
        "command": plan.command,
        "dataset": os.path.relpath(plan.dataset, plan.out),
        "preset": plan.preset,
        "weights": os.path.relpath(plan.weights, plan.out) if plan.weights else None,
        "seeds": plan.all_seeds,
        "pairs_wanted": plan.pairs,
        "device": plan.device,
        "versions": package_versions(),
    }
    return settings | (_table_json(result) if isinstance(result, TableResult) else _study_json(result))


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that make a reproduction."""
    return {name: installed_version(name) for name in ("retrieve-explain", "torch")}


def _study_json(result: StudyResult) -> PaperJson:
    plan, study = result.plan, result.plan.study
    return {
        "paper": _paper_json(study) | {"figures": study.row},
        "model": _model_json(result.model, plan),
        "unseen": _unseen_json(result.unseen),
        "figures": result.results,
        "pairs": [_pair_json(pair, plan) for pair in result.pairs],
    }


def _table_json(result: TableResult) -> PaperJson:
    plan = result.plan
    return {
        "paper": {"original": PAPER_ORIGINAL, "cropped": PAPER_CROPPED, "figure_6": PAPER_CROP_PAIR},
        "figures": result.comparisons,
        "runs": [_run_json(run, plan) for run in result.runs],
        "figure_5": [_crop_json(crop, plan) for crop in result.crops],
        "figure_6": [_crop_pair_json(pair, plan) for pair in result.crop_pairs],
    }


def _paper_json(study: Study) -> PaperJson:
    names = ("section", "figure", "kind", "labels", "distance")
    return {"dataset": study.title} | {name: getattr(study, name) for name in names}


def _model_json(model: ModelSummary, plan: Plan) -> PaperJson:
    return {**vars(model), "folder": _relative(model.folder, plan)}


def _unseen_json(evaluation: Evaluation) -> PaperJson:
    return {"pictures": evaluation.pictures, "classes": evaluation.classes, "pairs": evaluation.pairs.similar}


def _pair_json(pair: PairView, plan: Plan) -> PaperJson:
    first, second = side_views(pair.view, pair.hit)
    return {
        "kind": pair.kind,
        "paper": _paper_json(study_of_kind(pair.kind)),
        "first": _sample_json(pair.samples[0], plan) | _side_json(first),
        "second": _sample_json(pair.samples[1], plan) | _side_json(second),
        "distance": pair.distance,
        "similarity": pair.hit.similarity,
        "verdict": pair.hit.verdict,
    }


def _sample_json(sample: Sample, plan: Plan) -> PaperJson:
    return {"path": _relative(sample.path, plan), "label": sample.label}


def _side_json(side: SideView) -> PaperJson:
    """Return how strong a picture's heatmaps are: in words, as on the page, and the greatest value in log-odds."""
    words = {str(kind): side.strength_word(kind) for kind in HEATMAP_KINDS} if side.heatmaps else None
    return {"evidence": words, "magnitude": side.heatmaps.magnitude if side.heatmaps else 0.0}


def _run_json(run: SeedRun, plan: Plan) -> PaperJson:
    original, cropped = run.scores
    return {
        "seed": run.seed,
        "unseen": _unseen_json(run.evaluations[0]),
        "original": {"model": _model_json(run.original, plan), "figures": original},
        "cropped": {"model": _model_json(run.cropped, plan), "figures": cropped},
        "crops": {
            "folder": _relative(run.crops.out, plan),
            "rules": run.crops.rules,
            "cropped": len(run.crops.crops),
            "share_of_training": run.share_cropped,
            "median_share": run.crops.median_share,
        },
    }


def _crop_json(crop: Crop, plan: Plan) -> PaperJson:
    paths = {"source": _relative(crop.source, plan), "partner": _relative(crop.partner, plan)}
    return crop.values() | paths | {"share": crop.share}


def _crop_pair_json(pair: CropPair, plan: Plan) -> PaperJson:
    return {
        "label": pair.label,
        "pictures": [_crop_json(crop, plan) for crop in pair.crops],
        "original": pair.original,
        "cropped": pair.cropped,
    }


def _relative(path: Path, plan: Plan) -> str:
    return os.path.relpath(path, plan.out)
