"""An audit as plain values for machines: names that explain themselves, with stable keys."""

from __future__ import annotations

from typing import Any

from retrieval.evaluation.audit.findings import (
    Advice,
    Audit,
    ConfusedClasses,
    Evidence,
    Example,
    Findings,
    LookAlikes,
    PartFindings,
    SuspectLabel,
)
from retrieval.evaluation.verdicts import Confusion

AuditJson = dict[str, Any]

READING = {
    "share": "every share is a fraction from 0 to 1; a share of area says what an evenly spread heatmap would give",
    "evidence": "the factual heatmap of a picture in a random pair: where the model finds what supports its verdict,"
    " 'similar' or 'different'; each heatmap counts the same",
    "border": "the outermost ring of the heatmap's places",
    "corner": "the outer third of the width by the outer third of the height",
    "spread": "the share of the places that hold half of a heatmap's evidence, the strongest first; 0.5 is even",
    "focus": "the places that hold two thirds of the evidence that makes pictures of the class similar",
    "parts": "'train' is what the model has learnt from, 'test' what it has not, 'all' a set that it never saw",
    "severity": "serious, moderate or minor; recommendations come in the order of severity",
}


def audit_json(audit: Audit) -> AuditJson:
    """All that an audit says; the heatmaps themselves are on the page."""
    findings = audit.findings
    return {
        "dataset": str(audit.dataset),
        "model": {"name": audit.model, "fingerprint": audit.fingerprint},
        "method": audit.options.method.value,
        "seed": audit.options.seed,
        "pairs": sum(part.explained_pairs for part in findings.parts),
        "how_to_read": READING,
        "recommendations": [_advice_json(rank, each) for rank, each in enumerate(audit.advice, 1)],
        "pictures_by_class": dict(sorted(findings.sizes.items())),
        "model_has_learnt_from_this_data_set": findings.is_trained_on,
        "parts": {part.name: _part_json(part) for part in findings.parts},
        **_pictures_json(findings),
        "seconds": audit.seconds,
    }


def _advice_json(rank: int, advice: Advice) -> AuditJson:
    return {
        "rank": rank,
        "kind": advice.kind.value,
        "severity": advice.severity.value,
        "finding": advice.finding,
        "remedy": advice.remedy,
        "classes": list(advice.classes),
        "figures": advice.figures or {},
        "examples": [_example_json(each) for each in advice.examples],
    }


def _example_json(example: Example) -> AuditJson:
    return {"path": str(example.path), "label": example.label, "note": example.note}


def _part_json(part: PartFindings) -> AuditJson:
    return {
        "pictures": part.pictures,
        "pairs_explained": part.explained_pairs,
        "verdict_accuracy": part.verdicts.accuracy,
        "distance_roc_auc": part.verdicts.roc_auc,
        "all_classes": attention_json(part.overall),
        "classes": {each.label: attention_json(each) for each in part.classes},
        "two_classes_said_similar": [_confusion_json(each, "similar") for each in part.confusions.across],
        "one_class_said_different": [_confusion_json(each, "different") for each in part.confusions.within],
        "evidence_of_confused_classes": [_confused_json(each) for each in part.confused_classes],
    }


def attention_json(evidence: Evidence) -> AuditJson:
    """Where the model looks in a class; beside each share of the evidence its share of the area."""
    found, even = evidence.attention, evidence.uniform
    return {
        "pictures": evidence.pictures,
        "pictures_explained": evidence.explained_pictures,
        "heatmaps": len(evidence.normalised),
        "evidence_at_border_share": found.border,
        "border_area_share": even.border,
        "evidence_in_corner_share": {each.name: share for each, share in found.corners.items()},
        "corner_area_share": next(iter(even.corners.values())),
        "evidence_spread": found.spread,
        "even_spread": even.spread,
        "evidence_outside_focus_share": found.outside,
        "outside_focus_area_share": even.outside,
        "median_area_share_of_crop": evidence.crop_share,
    }


def _confusion_json(confusion: Confusion, verdict: str) -> AuditJson:
    return {
        "classes": list(dict.fromkeys((confusion.first, confusion.second))),
        "pairs": confusion.pairs,
        f"share_of_pairs_said_{verdict}": confusion.wrong,
    }


def _confused_json(confused: ConfusedClasses) -> AuditJson:
    return {
        "classes": [each.label for each in confused.sides],
        "wrong_pairs_explained": confused.explained,
        "sides": {each.label: attention_json(each) for each in confused.sides},
        "examples": [[_example_json(one), _example_json(other)] for one, other in confused.examples],
    }


def _pictures_json(findings: Findings) -> AuditJson:
    return {
        "pictures_that_look_the_same": [_repeat_json(each) for each in findings.look_alikes],
        "pictures_maybe_in_the_wrong_class": [_suspect_json(each) for each in findings.suspect_labels],
        "left_out": [{"path": str(path), "reason": reason} for path, reason in findings.left_out],
    }


def _repeat_json(repeat: LookAlikes) -> AuditJson:
    return {
        "pictures": [
            {"path": str(sample.path), "label": sample.label, "part": part}
            for sample, part in zip(repeat.samples, repeat.parts, strict=True)
        ],
        "in_train_and_test": repeat.crosses_parts,
        "in_two_classes": repeat.crosses_classes,
    }


def _suspect_json(suspect: SuspectLabel) -> AuditJson:
    return {
        "path": str(suspect.sample.path),
        "label": suspect.sample.label,
        "label_of_nearest": suspect.nearer,
        "nearest_with_that_label": suspect.votes,
        "nearest_asked": suspect.neighbours,
    }
