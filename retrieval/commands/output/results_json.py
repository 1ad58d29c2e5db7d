"""What commands answer to machines: plain values for JSON, with stable keys."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexes.catalogue.catalogue import Catalogue
from indexes.vectors.storage import index_address
from retrieval.common.settings import CONFIDENCE, THRESHOLD
from retrieval.engine import Engine
from retrieval.evaluation.measure import DatasetEvaluation, EvaluationOptions
from retrieval.explain.correspondence import Correspondence
from retrieval.explain.explanation import Explanation, Heatmaps
from retrieval.explain.hit import Hit
from retrieval.explain.verification import Verification
from retrieval.model.bundle import Bundle
from retrieval.rendering.presentation import PairFiles
from retrieval.sources.location import gallery_name, parse_location
from retrieval.store.duplicates.groups import Duplicates, GroupMember
from retrieval.store.indexing.progress import read_progress
from retrieval.store.indexing.run import IndexReport
from retrieval.store.maintenance.calibration import is_in_use, read_calibration
from retrieval.store.maintenance.tuning import read_tuning
from retrieval.store.query import QueryResult

if TYPE_CHECKING:  # only types here, as their modules load what a query needs not
    from retrieval.store.maintenance.calibration import CalibrationResult
    from retrieval.training.train_bundle import TrainedBundle

JsonObject = dict[str, Any]

_STAGES = ("load", "embed", "search", "rescore", "explain", "render", "total")


def index_json(report: IndexReport) -> JsonObject:
    """What a run of indexing did: counts, and each failure with its reason."""
    counts = ("added", "reused", "embedded", "unchanged", "missing", "failed", "seconds")
    return {name: getattr(report, name) for name in counts} | {
        "failures": _failures_json([(os.fsencode(path), reason) for path, reason in report.failures]),
        "kept_roots": [str(root) for root in report.kept_roots],
        "passed_over": report.passed_over,
        "notes": list(report.notes),
    }


def query_json(
    name: str,
    engine: Engine,
    result: QueryResult,
    files: dict[int, PairFiles],
    seconds: dict[str, float],
    confidence: float = CONFIDENCE,
) -> JsonObject:
    """A query's answer; `files` are the overlays that were written, by the hit's rank.

    It is `confident` where a hit's similarity is at least `confidence`.
    """
    return {
        "query": name,
        "store": str(engine.catalogue.folder),
        "model": _model_json(engine.bundle),
        "threshold": THRESHOLD,
        "calibrated": engine.calibration is not None,
        "confidence": confidence,
        "confident": any(hit.similarity >= confidence for hit in result.hits),
        "pool": result.pool,
        "hits": [_hit_json(hit, files.get(hit.rank)) for hit in result.hits],
        "seconds": {stage: seconds.get(stage, 0.0) for stage in _STAGES},
    }


def pair_json(a: str | Path, b: str | Path, bundle: Bundle, explanation: Explanation, files: PairFiles) -> JsonObject:
    """The answer of `retrieve explain`."""
    return {
        "a": str(a),
        "b": str(b),
        "model": _model_json(bundle),
        "threshold": THRESHOLD,
        "similarity": explanation.similarity,
        "distance": explanation.distance,
        "verdict": explanation.verdict,
        "explanation": _explanation_json(explanation, files),
    }


def evaluation_json(terms: EvaluationOptions, measured: Mapping[str, DatasetEvaluation]) -> JsonObject:
    """The figures of every model on every data set, by its name."""
    return {
        "seed": terms.seed,
        "pool": terms.pool,
        "pairs": terms.pairs,
        "datasets": {
            name: {
                "left_out": len(each.dataset.left_out),
                "seen": each.seen_count,
                "models": {model: asdict(result) for model, result in each.results.items()},
            }
            for name, each in measured.items()
        },
    }


def status_json(catalogue: Catalogue) -> JsonObject:
    """What a store holds."""
    tuning, calibration = read_tuning(catalogue), read_calibration(catalogue)
    indexing = read_progress(catalogue)
    return {
        "store": str(catalogue.folder),
        "catalogue": catalogue.address,
        "model": {"name": catalogue.settings.get("model"), "fingerprint": catalogue.settings.get("fingerprint")},
        "generation": catalogue.generation,
        "indexing": {"done": indexing.done, "total": indexing.total} if indexing else None,
        "index": asdict(tuning) if tuning else None,
        "index_at": index_address(catalogue),
        "calibration": asdict(calibration) | {"in_use": is_in_use(calibration, catalogue)} if calibration else None,
        "galleries": [
            {"path": gallery_name(count.root), "pictures": count.pictures, "missing": count.missing}
            for count in catalogue.scans.root_counts()
        ],
        "labels": catalogue.pictures.labels(),
        "failures": _failures_json(catalogue.scans.failures()),
    }


def duplicates_json(catalogue: Catalogue, duplicates: Duplicates) -> JsonObject:
    """A store's duplicates: groups of pictures, of which the first is the one to keep."""
    return {
        "store": str(catalogue.folder),
        "pictures": duplicates.pictures,
        "groups": [
            {
                "kind": str(group.kind),
                "spare": group.spare,
                "spare_bytes": group.spare_bytes,
                "pictures": [_member_json(member) for member in group.members],
            }
            for group in duplicates.groups
        ],
        "spare": duplicates.spare,
        "spare_bytes": duplicates.spare_bytes,
        "unread": [{"path": str(path), "reason": reason} for path, reason in duplicates.unread],
        "seconds": duplicates.seconds,
    }


def _member_json(member: GroupMember) -> JsonObject:
    names = ("id", "label", "width", "height", "similarity")
    values = {name: getattr(member, name) for name in names}
    kind = str(member.kind) if member.kind else None
    return values | {"path": str(member.path), "bytes": member.size_bytes, "kind": kind, "kept": member.kind is None}


def calibration_json(catalogue: Catalogue, calibrated: CalibrationResult) -> JsonObject:
    """What a calibration gave; `reliability` compares similarity with truth in bins, before and after."""
    return {
        "store": str(catalogue.folder),
        "calibration": asdict(calibrated.calibration),
        "reliability": asdict(calibrated.reliability),
    }


def training_json(trained: TrainedBundle) -> JsonObject:
    """What a training gave: the model, its epochs, and the one that it holds."""
    card = trained.bundle.card
    return {
        "model": _model_json(trained.bundle) | {"folder": str(trained.bundle.folder)},
        "best_epoch": trained.best_epoch,
        "epochs": [asdict(epoch) for epoch in trained.history],
        "provenance": card.provenance,
        "metrics": card.metrics,
    }


def _model_json(bundle: Bundle) -> JsonObject:
    return {"name": bundle.card.name, "fingerprint": bundle.fingerprint}


def _failures_json(failures: list[tuple[bytes, str]]) -> list[JsonObject]:
    return [{"path": str(parse_location(path)), "reason": reason} for path, reason in failures]


def _hit_json(hit: Hit, files: PairFiles | None) -> JsonObject:
    names = ("rank", "label", "similarity", "distance", "verdict", "index_rank", "index_distance", "width", "height")
    values = {name: getattr(hit, name) for name in names}
    explanation = _explanation_json(hit.explanation, files) if hit.explanation else None
    return values | {"path": str(hit.path), "note": hit.note, "explanation": explanation}


def _explanation_json(explanation: Explanation, files: PairFiles | None) -> JsonObject:
    return {
        "method": str(explanation.method),
        "identical": explanation.identical,
        "almost_none": explanation.has_little_evidence,
        "query": _heatmaps_json(explanation.query, files.query if files else None),
        "hit": _heatmaps_json(explanation.hit, files.hit if files else None),
        "verification": _verification_json(explanation.verification),
        "correspondence": _correspondence_json(explanation.correspondence, files),
    }


def _verification_json(verification: Verification | None) -> JsonObject | None:
    """Similarities once a fifth of a picture was blurred, beside those for random regions of the same shape."""
    if verification is None:
        return None
    checks = {
        name: {kind: asdict(hidden) | {"as_claimed": hidden.as_claimed} for kind, hidden in vars(check).items()}
        for name, check in (("query", verification.query), ("hit", verification.hit))
    }
    return {"support": str(verification.support), "similarity": verification.similarity, **checks}


def _correspondence_json(correspondence: Correspondence | None, files: PairFiles | None) -> JsonObject | None:
    """Regions as cells [row, column] of each picture's grid, which lies over the part that the network sees.

    `table` says how much each place of the query (by rows) gives with each place of the hit.
    """
    if correspondence is None:
        return None
    matches = [
        {"number": number, "share": match.share, "query": sorted(match.first), "hit": sorted(match.second)}
        for number, match in enumerate(correspondence.matches, 1)
    ]
    file = files.matches if files else None
    return {
        "picture": str(file) if file else None,
        "query_grid": correspondence.shape,
        "hit_grid": correspondence.other_shape,
        "matches": matches,
        "table": correspondence.table.tolist(),
    }


def _heatmaps_json(heatmaps: Heatmaps, files: tuple[Path, Path] | None) -> JsonObject:
    factual, counterfactual = files or (None, None)
    return {
        "factual": str(factual) if factual else None,
        "counterfactual": str(counterfactual) if counterfactual else None,
        "magnitude": heatmaps.magnitude,
    }
