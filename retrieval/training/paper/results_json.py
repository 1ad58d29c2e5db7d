"""What a reproduction answers to machines: plain values for JSON, with stable keys and paths relative to its folder."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from retrieval.common.settings import installed_version
from retrieval.datasets.class_folders import Sample
from retrieval.datasets.crop_files import Crop
from retrieval.rendering.presentation import HEATMAP_KINDS, SideView, side_views
from retrieval.training.paper.results import (
    PAPER_CROP_PAIR,
    PAPER_CROPPED,
    PAPER_ORIGINAL,
    CropPair,
    ModelSummary,
    PairView,
    Plan,
    Scores,
    SeedRun,
    Study,
    StudyResult,
    TableResult,
    study_of_kind,
)

PaperJson = dict[str, Any]

_PACKAGES = ("retrieve-explain", "torch")


def results_json(result: StudyResult | TableResult) -> PaperJson:
    """Everything that the page shows, and with what it was made."""
    own = _table_json(result) if isinstance(result, TableResult) else _study_json(result)
    return plan_json(result.plan) | own


def plan_json(plan: Plan) -> PaperJson:
    """What was asked for, and the versions that did it."""
    return {
        "case": str(plan.case),
        "command": plan.command,
        "dataset": os.path.relpath(plan.dataset, plan.out),
        "preset": asdict(plan.preset),
        "weights": os.path.relpath(plan.weights, plan.out) if plan.weights else None,
        "seeds": list(plan.all_seeds),
        "pairs_wanted": plan.pairs,
        "device": str(plan.device),
        "versions": {name: installed_version(name) for name in _PACKAGES},
    }


def _study_json(result: StudyResult) -> PaperJson:
    plan, study = result.plan, result.plan.study
    return {
        "paper": _paper_json(study) | {"figures": asdict(study.row) if study.row else None},
        "model": _model_json(result.model, plan),
        "unseen": asdict(result.unseen),
        "figures": {name: asdict(evaluation) for name, evaluation in result.results.items()},
        "pairs": [_pair_json(pair, plan) for pair in result.pairs],
    }


def _table_json(result: TableResult) -> PaperJson:
    plan = result.plan
    return {
        "paper": {
            "original": asdict(PAPER_ORIGINAL),
            "cropped": asdict(PAPER_CROPPED),
            "figure_6": list(PAPER_CROP_PAIR),
        },
        "figures": {name: asdict(contrast) for name, contrast in result.comparisons.items()},
        "runs": [_run_json(run, plan) for run in result.runs],
        "figure_5": [_crop_json(crop, plan) for crop in result.crops],
        "figure_6": [_crop_pair_json(twins, plan) for twins in result.crop_pairs],
    }


def _paper_json(study: Study) -> PaperJson:
    return {
        "section": study.section,
        "figure": study.figure,
        "dataset": study.title,
        "kind": str(study.kind),
        "labels": list(study.labels),
        "distance": study.distance,
    }


def _model_json(model: ModelSummary, plan: Plan) -> PaperJson:
    return asdict(model) | {"folder": _relative(model.folder, plan)}


def _pair_json(pair: PairView, plan: Plan) -> PaperJson:
    first, second = side_views(pair.view, pair.hit)
    return {
        "kind": str(pair.kind),
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
    """How strong a picture's heatmaps are: in words, as the page has them, and the strongest place in log-odds."""
    words = {str(kind): side.strength_word(kind) for kind in HEATMAP_KINDS} if side.heatmaps else None
    return {"evidence": words, "magnitude": side.heatmaps.magnitude if side.heatmaps else 0.0}


def _run_json(run: SeedRun, plan: Plan) -> PaperJson:
    def trained(model: ModelSummary, figures: Scores) -> PaperJson:
        return {"model": _model_json(model, plan), "figures": asdict(figures)}

    return {
        "seed": run.seed,
        "unseen": asdict(run.unseen),
        "original": trained(run.original, run.original_scores),
        "cropped": trained(run.cropped, run.cropped_scores),
        "crops": {
            "folder": _relative(run.crops.out, plan),
            "rules": asdict(run.crops.rules),
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
