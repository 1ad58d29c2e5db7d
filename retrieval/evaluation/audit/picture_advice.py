"""Recommendations that follow from the pictures: wrong labels, small classes, duplicates."""

from collections.abc import Iterator, Sequence

from retrieval.common.text import count_noun, join_words, percent
from retrieval.datasets.class_folders import IN_TWO_CLASSES, IN_TWO_PARTS
from retrieval.evaluation.audit.findings import TEST, Advice, AdviceKind, Example, Findings, LookAlikes, Severity

FEW = 20  # pictures of a class: the fewest with which a split leaves two for validation, which is one pair
MANY_LEAKS = 0.01  # of the test pictures: models are compared by single points of accuracy
MANY_SUSPECTS = 0.05  # of the pictures: then labels, not single pictures, are wrong
_LISTED = 50  # pictures that a recommendation lists


def suspect_label_advice(findings: Findings) -> Iterator[Advice]:
    """Report pictures that may be in the wrong class."""
    total = sum(findings.sizes.values())
    if suspects := findings.suspect_labels:
        many = Severity.serious if len(suspects) > MANY_SUSPECTS * total else Severity.moderate
        yield Advice(
            AdviceKind.relabel,
            many if findings.knows_classes else Severity.minor,  # a model that does not know the classes may be wrong
            f"{count_noun(len(suspects), 'picture')} may be in the wrong class: of the {suspects[0].neighbours} nearest"
            f" to each, at least {min(each.votes for each in suspects)} have one other label.",
            "Look at them, and move those that are in the wrong folder; on the others the model is wrong.",
            tuple(sorted({each.sample.label for each in suspects})),
            {"pictures": len(suspects), "share_of_pictures": len(suspects) / total},
            tuple(
                Example(
                    each.sample.path,
                    each.sample.label,
                    f"in {each.sample.label}; {each.votes} of {each.neighbours} nearest are {each.nearer}",
                )
                for each in suspects[:_LISTED]
            ),
        )


def two_labels_advice(findings: Findings) -> Iterator[Advice]:
    """Report contents that are in two classes."""
    double = [repeat for repeat in findings.look_alikes if repeat.crosses_classes]
    named = [(path, reason) for path, reason in findings.left_out if reason.startswith(IN_TWO_CLASSES)]
    if double or named:
        count = len(named) + sum(len(repeat.samples) for repeat in double)
        shown = [Example(path, path.parent.name, reason) for path, reason in named]
        yield Advice(
            AdviceKind.two_labels,
            Severity.moderate,
            f"{count_noun(count, 'file')} are in two classes: with the same content, or as pictures that look alike.",
            "Keep each in the right class, and remove it from the other.",
            figures={"files_of_the_same_content": len(named), "files_that_look_the_same": count - len(named)},
            examples=(*shown, *_look_alike_examples(double, "in {0.label}"))[:_LISTED],
        )


def class_size_advice(findings: Findings) -> Iterator[Advice]:
    """Report classes with too few pictures."""
    few = {label: count for label, count in sorted(findings.sizes.items()) if count < FEW}
    if few:
        named = join_words(f"{label} ({count})" for label, count in few.items())
        yield Advice(
            AdviceKind.collect,
            Severity.moderate,
            f"{count_noun(len(few), 'class', 'classes')} {'has' if len(few) == 1 else 'have'} fewer than {FEW}"
            f" pictures: {named}.",
            "Collect more pictures of them: these are too few to train, validate and test on.",
            tuple(few),
            {"pictures_by_class": {label: float(count) for label, count in few.items()}},
        )


def leak_advice(findings: Findings) -> Iterator[Advice]:
    """Report test pictures that look like training pictures."""
    crossing = [repeat for repeat in findings.look_alikes if repeat.crosses_parts]
    equal = [(path, reason) for path, reason in findings.left_out if reason.startswith(IN_TWO_PARTS)]
    test = findings.part(TEST)
    if crossing or equal:
        similar = sum(repeat.parts.count(TEST) for repeat in crossing)
        tested = similar + len(equal)
        total = findings.tested or (test.pictures if test else tested)
        share = min(tested / (total + len(equal)), 1.0)
        trained = "one that the model has learnt from" if findings.is_trained_on else "one to train a model on"
        exactly = f", {len(equal):,} of them byte for byte" if equal else ""
        yield Advice(
            AdviceKind.leak,
            Severity.serious if share >= MANY_LEAKS or equal else Severity.moderate,
            f"{count_noun(tested, 'test picture')} ({percent(share)}) {'looks' if tested == 1 else 'look'} the same as"
            f" {trained}{exactly}: figures on the test part flatter it.",
            "Remove one of each, or put all of them into one part, and measure again.",
            figures={
                "test_pictures_seen_in_training": tested,
                "of_the_same_content": len(equal),
                "share_of_test_pictures": share,
            },
            examples=(
                *(Example(path, path.parent.name, reason) for path, reason in equal[:_LISTED]),
                *_look_alike_examples(crossing, "in {0.label}, {1}"),
            )[:_LISTED],
        )


def repeat_advice(findings: Findings) -> Iterator[Advice]:
    """Report duplicates within a class and a part."""
    inside = [repeat for repeat in findings.look_alikes if not repeat.crosses_parts and not repeat.crosses_classes]
    if inside:
        extra = sum(len(repeat.samples) - 1 for repeat in inside)
        yield Advice(
            AdviceKind.repeats,
            Severity.minor,
            f"{count_noun(extra, 'picture')} {'looks' if extra == 1 else 'look'} the same as another of the class.",
            "Remove the duplicates: they count double in training, and make retrieval look better than it is.",
            figures={"pictures": extra},
            examples=_look_alike_examples(inside, "in {0.label}"),
        )


def _look_alike_examples(groups: Sequence[LookAlikes], template: str) -> tuple[Example, ...]:
    """Return the first pictures of look-alikes, each with a note: `template` formatted with its sample and its part."""
    pictures = [pair for group in groups for pair in zip(group.samples, group.parts, strict=True)][:_LISTED]
    return tuple(Example(sample.path, sample.label, template.format(sample, part)) for sample, part in pictures)


PICTURE_RULES = (suspect_label_advice, two_labels_advice, class_size_advice, leak_advice, repeat_advice)
