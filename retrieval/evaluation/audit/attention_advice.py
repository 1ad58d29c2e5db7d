"""Recommendations that follow from where a model looks: shortcuts, backgrounds, cropping."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from retrieval.evaluation.audit.attention import Corner, border_mask, corner_weights
from retrieval.evaluation.audit.findings import (
    MIN_CLASS_PICTURES,
    Advice,
    AdviceKind,
    Evidence,
    Example,
    Findings,
    PartFindings,
    Severity,
)
from retrieval.evaluation.audit.wording import (
    distinct_samples,
    join_words,
    name_classes,
    strongest_examples,
    whole_percent,
    with_enough,
)

# Chosen on the default model with flowers, rooms, skin lesions and objects, where it must not cry wolf. Classes with 30
# and more heatmaps had at most .13 of their evidence in a corner, those with fewer up to .25 by chance, at 2.4 standard
# errors; and .30 to .45 at the border, .5 to 1 times its area outside the focus.
CORNER = 0.22  # twice a corner's area
SURE = 3.0  # standard errors above it: of four corners of a hundred classes, hardly one by chance
BORDER = 1.2  # times the area's share: a uniform map is already a quarter above honest classes
OUTSIDE = 1.1  # times the area's share: less in the class's own focus than a uniform map has there
CROP = 0.3  # of the area: flowers, whose blossoms are worth cropping to, .28; rooms, which matter as a whole, .32


def shortcut_advice(findings: Findings) -> Iterator[Advice]:
    """Report corners that hold the evidence of classes, in any part: a shortcut may be in one only."""
    for which in Corner:
        by_label: dict[str, Evidence] = {}
        for part in findings.parts:
            for each in with_enough(part.classes):
                before = by_label.get(each.label)
                if before is None or each.attention.corners[which] > before.attention.corners[which]:
                    by_label[each.label] = each
        caught = [each for each in by_label.values() if _is_in_corner(which, each)]
        if caught:
            yield _shortcut(which, sorted(caught, key=lambda each: -each.attention.corners[which]))


def _is_in_corner(which: Corner, evidence: Evidence) -> bool:
    """Return whether a class's evidence lies in a corner, beyond chance."""
    held = np.sum(evidence.normalised * corner_weights(which, evidence.focus.shape), axis=(1, 2))
    error = float(held.std() / np.sqrt(evidence.explained_pictures))
    return bool(held.mean() >= CORNER and held.mean() - evidence.uniform.corners[which] >= SURE * error)


def _shortcut(which: Corner, caught: Sequence[Evidence]) -> Advice:
    labels = tuple(each.label for each in caught)
    held = {each.label: each.attention.corners[which] for each in caught}
    area = caught[0].uniform.corners[which]
    return Advice(
        AdviceKind.shortcut,
        Severity.serious,
        f"The model looks at the {which} corner in {name_classes(labels)}:"
        f" {join_words(map(whole_percent, held.values()))} of its evidence"
        f" {'lies' if len(held) == 1 else 'lie'} there, in {whole_percent(area)} of the area.",
        "Look at what is in that corner, cover it or crop it away, or collect pictures without it; then train again.",
        labels,
        {"corner": which.value, "share_of_evidence_by_class": held, "share_of_area": area},
        strongest_examples(
            caught, lambda each: corner_weights(which, each.focus.shape), "of the evidence in that corner"
        ),
    )


def background_advice(part: PartFindings, excluded: set[str]) -> Iterator[Advice]:
    """Report classes whose evidence lies at the border, or outside the class's focus."""
    honest = [each for each in with_enough(part.classes) if each.label not in excluded]
    at_border = [each for each in honest if each.attention.border >= BORDER * each.uniform.border]
    if at_border:
        yield _location_advice(
            at_border,
            "at the border of the picture",
            [(each.attention.border, each.uniform.border) for each in at_border],
            strongest_examples(at_border, lambda each: border_mask(each.focus.shape), "of the evidence at the border"),
        )
    outside = [
        each for each in honest if each not in at_border and each.attention.outside >= OUTSIDE * each.uniform.outside
    ]
    if outside:
        yield _location_advice(
            outside,
            "outside the places that its pictures have in common",
            [(each.attention.outside, each.uniform.outside) for each in outside],
            strongest_examples(outside, lambda each: ~each.focus, "of the evidence outside them"),
        )


def _location_advice(
    classes: Sequence[Evidence], where: str, shares: Sequence[tuple[float, float]], examples: tuple[Example, ...]
) -> Advice:
    labels = tuple(each.label for each in classes)
    held = dict(zip(labels, (share for share, _ in shares), strict=True))
    areas = dict(zip(labels, (area for _, area in shares), strict=True))
    return Advice(
        AdviceKind.background,
        Severity.moderate,
        f"In {name_classes(labels)} {join_words(map(whole_percent, held.values()))} of the evidence lies {where}, and"
        f" {join_words(map(whole_percent, dict.fromkeys(areas.values())))} of the area: the model may go by"
        " backgrounds.",
        "Collect pictures with other backgrounds, and train with augmentation (flips, shifts, other crops and"
        " colours), as `retrieve train` does without --no-thaw.",
        labels,
        {"where": where, "share_of_evidence_by_class": held, "share_of_area_by_class": areas},
        examples,
    )


def crop_advice(part: PartFindings) -> Iterator[Advice]:
    """Recommend cropping if the evidence lies in a small part of the pictures."""
    share = part.overall.crop_share
    if share is None or share > CROP or part.overall.explained_pictures < MIN_CLASS_PICTURES:
        return
    maps = [
        place
        for place, alike in enumerate(part.overall.true_similar)
        if alike and part.overall.factual[place].max() > 0
    ]
    examples = tuple(
        Example(sample.path, sample.label, sample.label, part.overall.factual[place])
        for place, sample in distinct_samples((place, part.overall.samples[place]) for place in maps)
    )
    yield Advice(
        AdviceKind.crop,
        Severity.minor,
        "The evidence that pictures of one class are similar is concentrated: the box around it holds"
        f" {whole_percent(share)} of the picture (median), and the rest matters little.",
        "Try `retrieve crop`, which cuts the training pictures to that box, train on the copy, and compare both with"
        " `retrieve evaluate`: it does not always pay.",
        figures={"median_share_of_area_in_focus_box": share, "evidence_spread": part.overall.attention.spread},
        examples=examples,
    )
