"""The answers of commands as JSON, with stable keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval.common.settings import THRESHOLD

if TYPE_CHECKING:  # a command loads only what it needs
    from retrieval.common.metrics import Interval
    from retrieval.datasets.crop import CropReport
    from retrieval.engine import Engine
    from retrieval.evaluation.heatmaps.faithfulness import Faithfulness
    from retrieval.evaluation.heatmaps.sanity_check import SanityReport
    from retrieval.evaluation.measure import DatasetEvaluation, EvaluationOptions
    from retrieval.explain.correspondence import Correspondence
    from retrieval.explain.explanation import Explanation, Heatmaps
    from retrieval.explain.hit import Hit
    from retrieval.explain.verification import Verification
    from retrieval.model.bundle import Bundle
    from retrieval.rendering.presentation import PairFiles
    from retrieval.sources.location import PictureLocation
    from retrieval.store.duplicates.groups import Duplicates, GroupMember
    from retrieval.store.indexing.report import IndexReport
    from retrieval.store.query import QueryResult
    from retrieval.store.status import StoreStatus
    from retrieval.training.train_bundle import TrainedBundle

JsonObject = dict[str, Any]

_SECONDS = ("load", "embed", "search", "rescore", "explain", "render", "total")


def pick(value: object, *names: str) -> JsonObject:
    """Return these attributes of a value."""
    return {name: getattr(value, name) for name in names}


def files_json(files: Iterable[tuple[PictureLocation, str]]) -> list[JsonObject]:
    """Return files with the reasons why they are not used."""
    return [{"path": path, "reason": reason} for path, reason in files]


def _model_json(bundle: Bundle) -> JsonObject:
    return {"name": bundle.card.name, "fingerprint": bundle.fingerprint}


def index_json(report: IndexReport) -> JsonObject:
    """Return the counts of an indexing run, and each failure with its reason."""
    return {
        **pick(report, "added", "reused", "embedded", "unchanged", "missing", "failed", "seconds"),
        "failures": files_json(report.failures),
        **pick(report, "kept_roots", "passed_over", "notes"),
    }


def query_json(
    name: str,
    engine: Engine,
    result: QueryResult,
    files: Mapping[int, PairFiles],
    seconds: Mapping[str, float],
    confidence: float,
) -> JsonObject:
    """Return a query's hits; `files` are the overlays that were written, by the hit's rank.

    The answer is `confident` if a hit's similarity is at least `confidence`.
    """
    return {
        "query": name,
        "store": engine.catalogue.folder,
        "model": _model_json(engine.bundle),
        "threshold": THRESHOLD,
        "calibrated": engine.calibration is not None,
        "confidence": confidence,
        "confident": any(hit.similarity >= confidence for hit in result.hits),
        "pool": result.pool,
        "hits": [_hit_json(hit, files.get(hit.rank)) for hit in result.hits],
        "seconds": {stage: seconds.get(stage, 0.0) for stage in _SECONDS},
    }


def _hit_json(hit: Hit, files: PairFiles | None) -> JsonObject:
    names = ("rank", "label", "similarity", "distance", "verdict", "index_rank", "index_distance", "width", "height")
    explanation = _explanation_json(hit.explanation, files) if hit.explanation else None
    return pick(hit, *names, "path", "note") | {"explanation": explanation}


def pair_json(a: str | Path, b: str | Path, bundle: Bundle, explanation: Explanation, files: PairFiles) -> JsonObject:
    """Return the explanation of a pair."""
    return {
        "a": a,
        "b": b,
        "model": _model_json(bundle),
        "threshold": THRESHOLD,
        **pick(explanation, "similarity", "distance", "verdict"),
        "explanation": _explanation_json(explanation, files),
    }


def _explanation_json(explanation: Explanation, files: PairFiles | None) -> JsonObject:
    return {
        **pick(explanation, "method", "identical"),
        "almost_none": explanation.has_little_evidence,
        "query": _heatmaps_json(explanation.query, files.query if files else None),
        "hit": _heatmaps_json(explanation.hit, files.hit if files else None),
        "verification": _verification_json(explanation.verification),
        "correspondence": _correspondence_json(explanation.correspondence, files),
    }


def _heatmaps_json(heatmaps: Heatmaps, files: tuple[Path, Path] | None) -> JsonObject:
    factual, counterfactual = files or (None, None)
    return {"factual": factual, "counterfactual": counterfactual, "magnitude": heatmaps.magnitude}


def _verification_json(verification: Verification | None) -> JsonObject | None:
    """Return similarities once a fifth of a picture was blurred, beside those for random regions of the same shape."""
    if verification is None:
        return None
    checks = {
        name: {kind: vars(hidden) | {"as_claimed": hidden.as_claimed} for kind, hidden in vars(check).items()}
        for name, check in (("query", verification.query), ("hit", verification.hit))
    }
    return pick(verification, "support", "similarity") | checks


def _correspondence_json(correspondence: Correspondence | None, files: PairFiles | None) -> JsonObject | None:
    """Return regions as cells [row, column] of each picture's grid, which lies over the part that the network sees.

    `table` says how much each place of the query (by rows) gives with each place of the hit.
    """
    if correspondence is None:
        return None
    matches = [
        {"number": number, "share": match.share, "query": sorted(match.first), "hit": sorted(match.second)}
        for number, match in enumerate(correspondence.matches, 1)
    ]
    return {
        "picture": files.matches if files else None,
        "query_grid": correspondence.shape,
        "hit_grid": correspondence.other_shape,
        "matches": matches,
        "table": correspondence.table,
    }


def evaluation_json(options: EvaluationOptions, evaluations: Mapping[str, DatasetEvaluation]) -> JsonObject:
    """Return the figures of every model on every data set, by its name."""
    datasets = {
        name: {"left_out": len(each.dataset.left_out), "seen": each.seen_count, "models": each.results}
        for name, each in evaluations.items()
    }
    return pick(options, "seed", "pool", "pairs") | {"datasets": datasets}


def status_json(status: StoreStatus, failures: Iterable[tuple[bytes, str]]) -> JsonObject:
    """Return what a store holds, and the files that failed."""
    from retrieval.sources.location import gallery_name, parse_location

    calibration = status.calibration
    return {
        "store": status.folder,
        "catalogue": status.address,
        "model": {"name": status.model, "fingerprint": status.fingerprint},
        "generation": status.generation,
        "indexing": pick(status.progress, "done", "total") if status.progress else None,
        "index": status.tuning,
        "index_at": status.index_address,
        "calibration": vars(calibration) | {"in_use": status.is_calibrated} if calibration else None,
        "galleries": [
            {"path": gallery_name(count.root), "pictures": count.pictures, "missing": count.missing}
            for count in status.galleries
        ],
        "labels": status.labels,
        "failures": files_json((parse_location(path), reason) for path, reason in failures),
    }


def duplicates_json(store: Path, duplicates: Duplicates) -> JsonObject:
    """Return a store's duplicates: groups of pictures, the first of each being the one to keep."""
    return {
        "store": store,
        "pictures": duplicates.pictures,
        "groups": [
            pick(group, "kind", "spare", "spare_bytes") | {"pictures": [_member_json(each) for each in group.members]}
            for group in duplicates.groups
        ],
        **pick(duplicates, "spare", "spare_bytes"),
        "unread": files_json(duplicates.unread),
        "seconds": duplicates.seconds,
    }


def _member_json(member: GroupMember) -> JsonObject:
    values = pick(member, "id", "label", "width", "height", "similarity", "path")
    return values | {"bytes": member.size_bytes, "kind": member.kind, "kept": member.kind is None}


def training_json(trained: TrainedBundle) -> JsonObject:
    """Return a trained model, its epochs, and the number of the one that it holds."""
    bundle = trained.bundle
    return {
        "model": _model_json(bundle) | {"folder": bundle.folder},
        "best_epoch": trained.best_epoch,
        "epochs": trained.history,
        **pick(bundle.card, "provenance", "metrics"),
    }


def models_json(bundles: Iterable[Bundle]) -> JsonObject:
    """Return the cards of models."""
    return {"models": [vars(bundle.card) | {"fingerprint": bundle.fingerprint} for bundle in bundles]}


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


def sanity_json(model: str, report: SanityReport) -> JsonObject:
    """Return how much heatmaps depend on what a model has learnt."""
    from retrieval.evaluation.heatmaps.sanity_check import VERDICT_TEXTS

    return {
        "model": model,
        "dataset": report.folder,
        **pick(report.options, "method", "seed"),
        **pick(report, "pairs", "similar"),
        "maps": 2 * report.pairs,
        **pick(report, "control", "others", "steps", "verdict"),
        "words": VERDICT_TEXTS[report.verdict],
        "left_out": len(report.left_out),
        "seconds": report.seconds,
    }


def faithfulness_json(
    faithfulness: Faithfulness, grids: Mapping[str, Interval], setup: Mapping[str, Any]
) -> JsonObject:
    """Return the figures by method and group of pairs, and each method's share of evidence in the right quarter."""
    return {**setup, **pick(faithfulness, "pairs", "left_out", "methods"), "grid_pointing_game": grids}
