"""Recommendations that follow from the pictures: wrong labels, small classes, pictures that come twice."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from retrieval.common.text import percent
from retrieval.datasets.class_folders import IN_TWO_CLASSES
from retrieval.evaluation.audit.findings import TEST, Advice, Example, Findings, Kind, Severity
from retrieval.evaluation.audit.wording import counted, listed, repeated

FEW = 20  # pictures of a class: the fewest of which a split leaves two to validate by, which is one pair
MANY_LEAKS = 0.01  # of the test pictures: a point of accuracy is what models are compared by
MANY_SUSPECTS = 0.05  # of the pictures: then labels, not single pictures, are wrong
_LISTED = 50  # pictures that a recommendation lists


def labels(findings: Findings) -> Iterator[Advice]:
    """Pictures that may lie in the wrong class, and what lies in two."""
    yield from _suspected(findings)
    yield from _in_two_classes(findings)


def _suspected(findings: Findings) -> Iterator[Advice]:
    total = sum(findings.sizes.values())
    if suspects := findings.suspects:
        many = Severity.serious if len(suspects) > MANY_SUSPECTS * total else Severity.moderate
        yield Advice(
            Kind.relabel,
            many if findings.knows_classes else Severity.minor,  # who does not know the classes may well be wrong
            f"{counted(len(suspects), 'picture')} may be in the wrong class: of the {suspects[0].asked} nearest to"
            f" each, at least {min(each.agreeing for each in suspects)} have one other label.",
            "Look at them, and move those that are in the wrong folder; of the others the model is wrong.",
            tuple(sorted({each.sample.label for each in suspects})),
            {"pictures": len(suspects), "share_of_pictures": len(suspects) / total},
            tuple(
                Example(
                    each.sample.path,
                    each.sample.label,
                    f"in {each.sample.label}; {each.agreeing} of {each.asked} nearest are {each.nearer}",
                )
                for each in suspects[:_LISTED]
            ),
        )


def _in_two_classes(findings: Findings) -> Iterator[Advice]:
    double = [repeat for repeat in findings.repeats if repeat.contradicts]
    named = [(path, reason) for path, reason in findings.left_out if reason.startswith(IN_TWO_CLASSES)]
    if double or named:
        count = len(named) + sum(len(repeat.samples) for repeat in double)
        shown = [Example(path, path.parent.name, reason) for path, reason in named]
        yield Advice(
            Kind.two_labels,
            Severity.moderate,
            f"{counted(count, 'file')} show what lies in two classes: the same content, or pictures that look alike.",
            "Keep each in the class that is right, and take it out of the other.",
            figures={"files_of_the_same_content": len(named), "files_that_look_the_same": count - len(named)},
            examples=(*shown, *repeated(double, "in {0.label}"))[:_LISTED],
        )


def few_pictures(findings: Findings) -> Iterator[Advice]:
    """Classes with too few pictures."""
    few = {label: count for label, count in sorted(findings.sizes.items()) if count < FEW}
    if few:
        named = listed(f"{label} ({count})" for label, count in few.items())
        yield Advice(
            Kind.collect,
            Severity.moderate,
            f"{counted(len(few), 'class', 'classes')} {'has' if len(few) == 1 else 'have'} fewer than {FEW} pictures:"
            f" {named}.",
            "Collect more pictures of them: fewer are too few to learn from, to choose by and to measure on.",
            tuple(few),
            {"pictures_by_class": {label: float(count) for label, count in few.items()}},
        )


def repeats(findings: Findings) -> Iterator[Advice]:
    """What was learnt and is tested too, and what only comes twice."""
    yield from _leaks(findings)
    yield from _spare(findings)


def _leaks(findings: Findings) -> Iterator[Advice]:
    crossing = [repeat for repeat in findings.repeats if repeat.crosses]
    test = findings.part(TEST)
    if crossing:
        tested = sum(repeat.parts.count(TEST) for repeat in crossing)
        share = tested / test.pictures if test else 1.0
        yield Advice(
            Kind.leak,
            Severity.serious if share >= MANY_LEAKS else Severity.moderate,
            f"{counted(tested, 'test picture')} ({percent(share)}) {'looks' if tested == 1 else 'look'} the same as"
            " one that the model has learnt from: figures on the test part flatter it.",
            "Remove one of each, or put all of them into one part of split.json, and measure again.",
            figures={"test_pictures_seen_in_training": tested, "share_of_test_pictures": share},
            examples=tuple(islice(repeated(crossing, "in {0.label}, {1}"), _LISTED)),
        )


def _spare(findings: Findings) -> Iterator[Advice]:
    inside = [repeat for repeat in findings.repeats if not repeat.crosses and not repeat.contradicts]
    if inside:
        extra = sum(len(repeat.samples) - 1 for repeat in inside)
        yield Advice(
            Kind.repeats,
            Severity.minor,
            f"{counted(extra, 'picture')} {'looks' if extra == 1 else 'look'} the same as another of the class.",
            "Remove the spare ones: they count double in training, and make retrieval look better than it is.",
            figures={"pictures": extra},
            examples=tuple(islice(repeated(inside, "in {0.label}"), _LISTED)),
        )
