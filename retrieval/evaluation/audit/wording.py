"""The words and the example pictures of recommendations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from retrieval.datasets.class_folders import Sample
from retrieval.evaluation.audit.attention import Weights
from retrieval.evaluation.audit.findings import LEAST_PICTURES, Evidence, Example, Repeat

_EXAMPLES = 4


def with_enough(classes: Iterable[Evidence]) -> list[Evidence]:
    """The classes of which enough pictures were explained to say something of them."""
    return [each for each in classes if each.explained >= LEAST_PICTURES]


def strongest(
    classes: Sequence[Evidence], weights: Callable[[Evidence], Weights], said: str, count: int = _EXAMPLES
) -> tuple[Example, ...]:
    """The pictures with the largest share of their evidence where a class's weights (h, w) are, of each as many."""
    examples = []
    for each in classes[:count]:
        held = np.sum(each.shares * weights(each), axis=(1, 2))
        ordered = ((int(place), each.seen[place]) for place in np.argsort(-held, kind="stable"))
        for place, sample in distinct(ordered, -(-count // min(len(classes), count))):
            heatmap = each.shares[place] / each.shares[place].max()
            note = f"{sample.label}: {rounded(float(held[place]))} {said}"
            examples.append(Example(sample.path, sample.label, note, heatmap))
    return tuple(examples)


def distinct(rows: Iterable[tuple[int, Sample]], count: int = _EXAMPLES) -> list[tuple[int, Sample]]:
    """The first rows whose pictures differ."""
    first: dict[Sample, int] = {}
    for place, sample in rows:
        first.setdefault(sample, place)
        if len(first) == count:
            break
    return [(place, sample) for sample, place in first.items()]


def repeated(found: Iterable[Repeat], said: str) -> Iterator[Example]:
    """The pictures of repeats, with `said` of each: a format of its sample and its part."""
    for repeat in found:
        for sample, part in zip(repeat.samples, repeat.parts, strict=True):
            yield Example(sample.path, sample.label, said.format(sample, part))


def rounded(share: float) -> str:
    """A share from 0 to 1 in whole percent."""
    return f"{100 * share:.0f} %"


def counted(count: int, one: str, several: str | None = None) -> str:
    """A number with its noun in the right form."""
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


def classes_named(labels: Sequence[str]) -> str:
    """`the class a`, or `the classes a and b`."""
    return f"the class {labels[0]}" if len(labels) == 1 else f"the classes {listed(labels)}"


def listed(words: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
