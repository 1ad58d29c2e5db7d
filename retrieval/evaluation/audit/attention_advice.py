"""Recommendations that follow from where a model looks: shortcuts, backgrounds, cropping."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

from retrieval.common.text import join_words, whole_percent
from retrieval.datasets.class_folders import Sample
from retrieval.datasets.pair_sampling import Codes
from retrieval.evaluation.audit.attention import CellWeights, Corner, border_mask, corner_weights
from retrieval.evaluation.audit.findings import Advice, AdviceKind, Evidence, Example, Findings, PartFindings, Severity

# Chosen on the default model with flowers, rooms, skin lesions and objects, where it must not cry wolf. Classes with 30
# and more heatmaps had at most .13 of their evidence in a corner, those with fewer up to .25 by chance, at 2.4 standard
# errors; and .30 to .45 at the border, .5 to 1 times its area outside the focus.
CORNER = 0.22  # twice a corner's area
SURE = 3.0  # standard errors above it: of four corners of a hundred classes, hardly one by chance
BORDER = 1.2  # times the area's share: a uniform map is already a quarter above honest classes
OUTSIDE = 1.1  # times the area's share: less in the class's own focus than a uniform map has there
CROP = 0.3  # of the area: flowers, whose blossoms are worth cropping to, .28; rooms, which matter as a whole, .32
_EXAMPLES = 4
_BACKGROUNDS: tuple[tuple[str, float, str, str, Callable[[Evidence], CellWeights]], ...] = (
    ("border", BORDER, "at the border of the picture", "at the border", lambda one: border_mask(one.focus.shape)),
    ("outside", OUTSIDE, "outside the places that its pictures have in common", "outside them", lambda one: ~one.focus),
)
"""A field of `AttentionShares`, its limit, where that is in a finding and in an example's note, and its cells."""


def shortcut_advice(findings: Findings) -> Iterator[Advice]:
    """Report corners that hold the evidence of classes, in any part: a shortcut may be in one only."""
    classes = [each for part in findings.parts for each in part.classes if each.has_enough_pictures]
    for which in Corner:
        strongest: dict[str, Evidence] = {}
        for each in sorted(classes, key=lambda each: -each.attention.corners[which]):
            strongest.setdefault(each.label, each)
        if caught := [each for each in strongest.values() if _is_in_corner(which, each)]:
            yield _shortcut(which, caught)


def _is_in_corner(which: Corner, evidence: Evidence) -> bool:
    """Return whether a class's evidence lies in a corner, beyond chance."""
    held = np.sum(evidence.normalised * corner_weights(which, evidence.focus.shape), axis=(1, 2))
    error = float(held.std() / np.sqrt(evidence.explained_pictures))
    return bool(held.mean() >= CORNER and held.mean() - evidence.uniform.corners[which] >= SURE * error)


def _shortcut(which: Corner, caught: Sequence[Evidence]) -> Advice:
    held = {each.label: each.attention.corners[which] for each in caught}
    area = caught[0].uniform.corners[which]
    return Advice(
        AdviceKind.shortcut,
        Severity.serious,
        f"The model looks at the {which} corner in {_name_classes(held)}:"
        f" {join_words(map(whole_percent, held.values()))} of its evidence"
        f" {'lies' if len(held) == 1 else 'lie'} there, in {whole_percent(area)} of the area.",
        "Look at what is in that corner, cover it or crop it away, or collect pictures without it; then train again.",
        tuple(held),
        {"corner": which.value, "share_of_evidence_by_class": held, "share_of_area": area},
        _strongest_examples(caught, lambda each: corner_weights(which, each.focus.shape), "in that corner"),
    )


def background_advice(part: PartFindings, excluded: set[str]) -> Iterator[Advice]:
    """Report classes whose evidence lies at the border, or outside the class's focus."""
    honest = [each for each in part.classes if each.has_enough_pictures and each.label not in excluded]
    for field, limit, where, short, cells in _BACKGROUNDS:
        shares = {each.label: (getattr(each.attention, field), getattr(each.uniform, field)) for each in honest}
        held = {label: share for label, (share, area) in shares.items() if share >= limit * area}
        if held:
            areas = {label: shares[label][1] for label in held}
            yield Advice(
                AdviceKind.background,
                Severity.moderate,
                f"In {_name_classes(held)} {join_words(map(whole_percent, held.values()))} of the evidence lies"
                f" {where}, and {join_words(map(whole_percent, dict.fromkeys(areas.values())))} of the area: the model"
                " may go by backgrounds.",
                "Collect pictures with other backgrounds, and train with augmentation (flips, shifts, other crops and"
                " colours), as `retrieve train` does without --no-thaw.",
                tuple(held),
                {"where": where, "share_of_evidence_by_class": held, "share_of_area_by_class": areas},
                _strongest_examples([each for each in honest if each.label in held], cells, short),
            )
            honest = [each for each in honest if each.label not in held]


def crop_advice(part: PartFindings) -> Iterator[Advice]:
    """Recommend cropping if the evidence lies in a small part of the pictures."""
    share = part.overall.crop_share
    if share is None or share > CROP or not part.overall.has_enough_pictures:
        return
    maps = np.flatnonzero(part.overall.true_similar & (part.overall.factual.max((1, 2)) > 0))
    examples = tuple(
        Example(sample.path, sample.label, sample.label, part.overall.factual[place])
        for sample, place in _first_places(maps, part.overall.samples)
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


def _strongest_examples(
    classes: Sequence[Evidence], weights: Callable[[Evidence], CellWeights], where: str
) -> tuple[Example, ...]:
    """Return the pictures with the largest share of evidence under their class's weights (h, w), evenly by class."""
    examples = []
    for each in classes[:_EXAMPLES]:
        held = np.sum(each.normalised * weights(each), axis=(1, 2))
        ordered = np.argsort(-held, kind="stable")
        count = -(-_EXAMPLES // min(len(classes), _EXAMPLES))
        for sample, place in _first_places(ordered, each.nonempty_samples, count):
            heatmap = each.normalised[place] / each.normalised[place].max()
            note = f"{sample.label}: {whole_percent(float(held[place]))} of the evidence {where}"
            examples.append(Example(sample.path, sample.label, note, heatmap))
    return tuple(examples)


def _first_places(places: Codes, samples: Sequence[Sample], count: int = _EXAMPLES) -> Iterable[tuple[Sample, int]]:
    """Return the first `count` different pictures at these places, each with its first place."""
    first: dict[Sample, int] = {}
    for place in places.tolist():
        first.setdefault(samples[place], place)
    return islice(first.items(), count)


def _name_classes(labels: Iterable[str]) -> str:
    """Return `the class a`, or `the classes a and b`."""
    names = list(labels)
    return f"the {'class' if len(names) == 1 else 'classes'} {join_words(names)}"
