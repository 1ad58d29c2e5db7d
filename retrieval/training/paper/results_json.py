"""What a reproduction answers to machines: plain values for JSON, with stable keys and paths relative to its folder."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from retrieval.common.settings import release_of
from retrieval.datasets.class_folders import Sample
from retrieval.datasets.crop_files import Crop
from retrieval.rendering.presentation import KINDS, Side, sides
from retrieval.training.paper.results import (
    CROPPED,
    ORIGINAL,
    TWIN_DISTANCES,
    Model,
    Plan,
    Scores,
    SeedRun,
    ShownPair,
    Study,
    StudyResult,
    TableResult,
    Twins,
    study_of_kind,
)

Values = dict[str, Any]

_PACKAGES = ("retrieve-explain", "torch")


def reproduced_json(result: StudyResult | TableResult) -> Values:
    """Everything that the page shows, and with what it was made."""
    own = _table_json(result) if isinstance(result, TableResult) else _study_json(result)
    return plan_json(result.plan) | own


def plan_json(plan: Plan) -> Values:
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
        "versions": {name: release_of(name) for name in _PACKAGES},
    }


def _study_json(result: StudyResult) -> Values:
    plan, study = result.plan, result.plan.study
    return {
        "paper": _paper_json(study) | {"figures": asdict(study.row) if study.row else None},
        "model": _model_json(result.model, plan),
        "unseen": asdict(result.unseen),
        "figures": {name: asdict(evaluation) for name, evaluation in result.results.items()},
        "pairs": [_pair_json(pair, plan) for pair in result.pairs],
    }


def _table_json(result: TableResult) -> Values:
    plan = result.plan
    return {
        "paper": {"original": asdict(ORIGINAL), "cropped": asdict(CROPPED), "figure_6": list(TWIN_DISTANCES)},
        "figures": {name: asdict(contrast) for name, contrast in result.contrasts.items()},
        "runs": [_run_json(run, plan) for run in result.runs],
        "figure_5": [_crop_json(crop, plan) for crop in result.crops],
        "figure_6": [_twins_json(twins, plan) for twins in result.twins],
    }


def _paper_json(study: Study) -> Values:
    return {
        "section": study.section,
        "figure": study.figure,
        "dataset": study.title,
        "kind": str(study.kind),
        "labels": list(study.labels),
        "distance": study.distance,
    }


def _model_json(model: Model, plan: Plan) -> Values:
    return asdict(model) | {"folder": _relative(model.folder, plan)}


def _pair_json(pair: ShownPair, plan: Plan) -> Values:
    first, second = sides(pair.shown, pair.hit)
    return {
        "kind": str(pair.kind),
        "paper": _paper_json(study_of_kind(pair.kind)),
        "first": _sample_json(pair.samples[0], plan) | _side_json(first),
        "second": _sample_json(pair.samples[1], plan) | _side_json(second),
        "distance": pair.distance,
        "similarity": pair.hit.similarity,
        "verdict": pair.hit.verdict,
    }


def _sample_json(sample: Sample, plan: Plan) -> Values:
    return {"path": _relative(sample.path, plan), "label": sample.label}


def _side_json(side: Side) -> Values:
    """How strong a picture's heatmaps are: in words, as the page has them, and the strongest place in log-odds."""
    words = {str(kind): side.evidence(kind) for kind in KINDS} if side.heatmaps else None
    return {"evidence": words, "magnitude": side.heatmaps.magnitude if side.heatmaps else 0.0}


def _run_json(run: SeedRun, plan: Plan) -> Values:
    def trained(model: Model, figures: Scores) -> Values:
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


def _crop_json(crop: Crop, plan: Plan) -> Values:
    paths = {"source": _relative(crop.source, plan), "partner": _relative(crop.partner, plan)}
    return crop.values() | paths | {"share": crop.share}


def _twins_json(twins: Twins, plan: Plan) -> Values:
    return {
        "label": twins.label,
        "pictures": [_crop_json(crop, plan) for crop in twins.crops],
        "original": twins.original,
        "cropped": twins.cropped,
    }


def _relative(path: Path, plan: Plan) -> str:
    return os.path.relpath(path, plan.out)
