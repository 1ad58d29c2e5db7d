"""The wording and the example pictures of recommendations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from retrieval.datasets.class_folders import Sample
from retrieval.evaluation.audit.attention import CellWeights
from retrieval.evaluation.audit.findings import MIN_CLASS_PICTURES, Evidence, Example, LookAlikes

_EXAMPLES = 4


def with_enough(classes: Iterable[Evidence]) -> list[Evidence]:
    """Return the classes with enough explained pictures to judge them."""
    return [each for each in classes if each.explained_pictures >= MIN_CLASS_PICTURES]


def strongest_examples(
    classes: Sequence[Evidence], weights: Callable[[Evidence], CellWeights], description: str, count: int = _EXAMPLES
) -> tuple[Example, ...]:
    """Return the pictures with the largest share of evidence under their class's weights (h, w), evenly by class."""
    examples = []
    for each in classes[:count]:
        held = np.sum(each.normalised * weights(each), axis=(1, 2))
        ordered = ((int(place), each.nonempty_samples[place]) for place in np.argsort(-held, kind="stable"))
        for place, sample in distinct_samples(ordered, -(-count // min(len(classes), count))):
            heatmap = each.normalised[place] / each.normalised[place].max()
            note = f"{sample.label}: {whole_percent(float(held[place]))} {description}"
            examples.append(Example(sample.path, sample.label, note, heatmap))
    return tuple(examples)


def distinct_samples(rows: Iterable[tuple[int, Sample]], count: int = _EXAMPLES) -> list[tuple[int, Sample]]:
    """Return the first rows with different pictures."""
    first: dict[Sample, int] = {}
    for place, sample in rows:
        first.setdefault(sample, place)
        if len(first) == count:
            break
    return [(place, sample) for sample, place in first.items()]


def look_alike_examples(groups: Iterable[LookAlikes], template: str) -> Iterator[Example]:
    """Yield the pictures of look-alikes, each with a note: `template` formatted with its sample and its part."""
    for repeat in groups:
        for sample, part in zip(repeat.samples, repeat.parts, strict=True):
            yield Example(sample.path, sample.label, template.format(sample, part))


def whole_percent(share: float) -> str:
    """Format a share from 0 to 1 in whole percent."""
    return f"{100 * share:.0f} %"


def count_noun(count: int, one: str, several: str | None = None) -> str:
    """Format a number with its noun in the right form."""
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


def name_classes(labels: Sequence[str]) -> str:
    """Return `the class a`, or `the classes a and b`."""
    return f"the class {labels[0]}" if len(labels) == 1 else f"the classes {join_words(labels)}"


def join_words(words: Iterable[str]) -> str:
    """Return `a`, `a and b`, or `a, b and c`."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
