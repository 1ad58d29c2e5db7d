"""An audit as JSON: names that explain themselves, with stable keys."""

from retrieval.commands.output.results_json import JsonObject, files_json, pick
from retrieval.evaluation.audit.findings import Audit, Evidence, Example, PartFindings
from retrieval.evaluation.verdicts import Confusion

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


def audit_json(audit: Audit) -> JsonObject:
    """Return the findings and recommendations of an audit; the heatmaps themselves are on the page."""
    findings = audit.findings
    return {
        "dataset": audit.dataset,
        "model": {"name": audit.model, "fingerprint": audit.fingerprint},
        **pick(audit.options, "method", "seed"),
        "pairs": sum(part.explained_pairs for part in findings.parts),
        "how_to_read": READING,
        "recommendations": [
            {
                "rank": rank,
                **pick(advice, "kind", "severity", "finding", "remedy", "classes"),
                "figures": advice.figures or {},
                "examples": [_example_json(each) for each in advice.examples],
            }
            for rank, advice in enumerate(audit.advice, 1)
        ],
        "pictures_by_class": dict(sorted(findings.sizes.items())),
        "model_has_learnt_from_this_data_set": findings.is_trained_on,
        "parts": {part.name: _part_json(part) for part in findings.parts},
        "pictures_that_look_the_same": [
            {
                "pictures": [
                    pick(sample, "path", "label") | {"part": part}
                    for sample, part in zip(alike.samples, alike.parts, strict=True)
                ],
                "in_train_and_test": alike.crosses_parts,
                "in_two_classes": alike.crosses_classes,
            }
            for alike in findings.look_alikes
        ],
        "pictures_maybe_in_the_wrong_class": [
            {
                **pick(suspect.sample, "path", "label"),
                "label_of_nearest": suspect.nearer,
                "nearest_with_that_label": suspect.votes,
                "nearest_asked": suspect.neighbours,
            }
            for suspect in findings.suspect_labels
        ],
        "left_out": files_json(findings.left_out),
        "seconds": audit.seconds,
    }


def _example_json(example: Example) -> JsonObject:
    return pick(example, "path", "label", "note")


def _part_json(part: PartFindings) -> JsonObject:
    return {
        "pictures": part.pictures,
        "pairs_explained": part.explained_pairs,
        "verdict_accuracy": part.verdicts.accuracy,
        "distance_roc_auc": part.verdicts.roc_auc,
        "all_classes": attention_json(part.overall),
        "classes": {each.label: attention_json(each) for each in part.classes},
        "two_classes_said_similar": [_confusion_json(each, "similar") for each in part.confusions.across],
        "one_class_said_different": [_confusion_json(each, "different") for each in part.confusions.within],
        "evidence_of_confused_classes": [
            {
                "classes": [side.label for side in confused.sides],
                "wrong_pairs_explained": confused.explained,
                "sides": {side.label: attention_json(side) for side in confused.sides},
                "examples": [[_example_json(each) for each in pair] for pair in confused.examples],
            }
            for confused in part.confused_classes
        ],
    }


def _confusion_json(confusion: Confusion, verdict: str) -> JsonObject:
    return {
        "classes": list(dict.fromkeys((confusion.first, confusion.second))),
        "pairs": confusion.pairs,
        f"share_of_pairs_said_{verdict}": confusion.wrong,
    }


def attention_json(evidence: Evidence) -> JsonObject:
    """Return where the model looks in a class: the evidence's shares beside those of the area."""
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
