"""An audit in a terminal, and as JSON: names that explain themselves, with stable keys."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from retrieval.commands.output.formats import JsonObject, figures_table, files_json, first_lines, pick, simple_table
from retrieval.commands.output.tables import WholeWords, name_line
from retrieval.common.text import percent, safe_name, whole_percent
from retrieval.evaluation.audit.attention import AttentionShares, Corner
from retrieval.evaluation.audit.findings import Advice, Audit, Evidence, Example, PartFindings, Severity
from retrieval.evaluation.verdicts import Confusion

_STYLES = {Severity.serious: "bold red", Severity.moderate: "yellow", Severity.minor: "dim"}
_EXAMPLES = 3  # paths shown of each recommendation; --json and --html have all
_CLASSES = 20  # rows of a table
_READING = {
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


def audit_lines(audit: Audit) -> RenderableType:
    """Return the verdicts of each part, where the model looks, and the recommendations."""
    findings = audit.findings
    title = f"{safe_name(audit.dataset)}: {sum(findings.sizes.values()):,} pictures, {len(findings.sizes):,} classes"
    pairs = sum(part.explained_pairs for part in findings.parts)
    return Group(
        Text.assemble((title, "bold"), f", {pairs:,} pairs explained in {audit.seconds:.0f} s"),
        parts_table(findings.parts),
        attention_table(findings.main),
        *(Group(advice_lines(rank, each), Text()) for rank, each in enumerate(audit.advice, 1)),
    )


def parts_table(parts: Sequence[PartFindings]) -> Table:
    """Return the figures of what the model has learnt from beside those of what it has not."""
    overall = [part.overall for part in parts]
    rows = (
        ("pictures", [f"{part.pictures:,}" for part in parts]),
        ("accuracy of verdicts on pairs", [f"{part.verdicts.accuracy:.4f}" for part in parts]),
        ("ROC AUC", [f"{part.verdicts.roc_auc:.4f}" for part in parts]),
        ("evidence at the border", [_with_area(each.attention.border, each.uniform.border) for each in overall]),
        ("evidence outside the focus", [_with_area(each.attention.outside, each.uniform.outside) for each in overall]),
        ("half of the evidence lies in", [percent(each.attention.spread) for each in overall]),
    )
    return figures_table("", (part.name for part in parts), ((name, *cells) for name, cells in rows))


def attention_table(part: PartFindings) -> RenderableType:
    """Return the shares of the evidence by class, most in a corner first; the last row is the area's."""
    shown = sorted(part.classes, key=lambda each: -max(each.attention.corners.values()))[:_CLASSES]
    names = ("pictures", "border", *Corner, "outside focus", "half in")
    table = simple_table(
        f"where it looks ({part.name})",
        *(Column(name.replace(" ", "\n"), justify="right") for name in names),
        rows=((Text(safe_name(each.label)), str(each.explained_pictures), *_cells(each.attention)) for each in shown),
    )
    table.add_section()
    table.add_row("share of the area", "", *_cells(part.overall.uniform))
    if len(part.classes) > len(shown):
        return Group(table, Text(f"  … and {len(part.classes) - len(shown)} more classes: --json has all", style="dim"))
    return table


def advice_lines(rank: int, advice: Advice) -> RenderableType:
    """Return a recommendation: the finding, the remedy, and some of the pictures that show it."""
    head = Text.assemble(f"{rank}. ", (advice.severity.value, _STYLES[advice.severity]), " ", safe_name(advice.finding))
    lines = (name_line("   ", safe_name(each.path), (f"  {safe_name(each.note)}", "dim")) for each in advice.examples)
    examples = first_lines(lines, len(advice.examples), "   … and {} more: --json has all", _EXAMPLES)
    return Group(WholeWords(head), WholeWords(Text(f"   {safe_name(advice.remedy)}")), *examples)


def _cells(attention: AttentionShares) -> list[str]:
    shares = (attention.border, *attention.corners.values(), attention.outside, attention.spread)
    return [whole_percent(share) for share in shares]


def _with_area(share: float, area: float) -> str:
    return f"{percent(share)} (of {percent(area)} of the area)"


def audit_json(audit: Audit) -> JsonObject:
    """Return the findings and recommendations of an audit; the heatmaps themselves are on the page."""
    findings = audit.findings
    return {
        "dataset": audit.dataset,
        "model": {"name": audit.model, "fingerprint": audit.fingerprint},
        **pick(audit.options, "method", "seed"),
        "pairs": sum(part.explained_pairs for part in findings.parts),
        "how_to_read": _READING,
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
