"""The quality of verdicts: figures on pairs, the most confused classes, and the worst mistakes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.common.metrics import Bin, calibration_error, reliability, roc_auc
from retrieval.common.settings import THRESHOLD
from retrieval.datasets.pair_sampling import Codes, Flags
from retrieval.model.head import Array, Head

_BLOCK = 256  # pictures compared with all at once
_FEW = 5  # confusions reported of each kind
_MOST_COMPARED = 5000  # pictures: what is kept for their classes and pairs grows with the square


@dataclass(frozen=True)
class PairMetrics:
    """Figures on as many similar as different pairs; precision and recall are of the verdict `similar`.

    `thresholded_auc` is the ROC AUC of the verdicts, 0 or 1, as in the paper, `roc_auc` that of the distances.
    The macro figures are means over both verdicts. `calibration_error` compares similarity with the share of pairs
    that are of one class, which `reliability` shows by bins. `false_similar` counts different pairs said similar.
    """

    similar: int
    different: int
    accuracy: float
    roc_auc: float
    thresholded_auc: float
    precision: float
    recall: float
    macro_precision: float
    macro_recall: float
    calibration_error: float
    true_similar: int
    false_similar: int
    true_different: int
    false_different: int
    reliability: tuple[Bin, ...]


PAIR_METRIC_TITLES = (
    ("accuracy", "Accuracy"),
    ("roc_auc", "ROC AUC of the distances"),
    ("thresholded_auc", "ROC AUC of the verdicts"),
    ("precision", "Precision of “similar”"),
    ("recall", "Recall of “similar”"),
    ("macro_precision", "Precision, mean of both verdicts"),
    ("macro_recall", "Recall, mean of both verdicts"),
    ("calibration_error", "Calibration error"),
)
"""The fields of `PairMetrics` that a table shows, with their titles."""


@dataclass(frozen=True)
class Confusion:
    """Two classes, or one class twice: their number of pairs, and the share of wrong verdicts on them."""

    first: str
    second: str
    pairs: int
    wrong: float


@dataclass(frozen=True)
class Confusions:
    """The most confused classes first: `across` two classes said similar, `within` one class said different.

    At most five of each, all with wrong verdicts.
    """

    across: tuple[Confusion, ...]
    within: tuple[Confusion, ...]


@dataclass(frozen=True)
class Mistake:
    """A pair, by the rows of its pictures, with a wrong verdict: `similar` is the truth."""

    first: int
    second: int
    distance: float
    similar: bool


def pair_metrics(head: Head, descriptors: Array, first: Codes, second: Codes, similar: Flags) -> PairMetrics:
    """Return the figures of the verdicts on M pairs: rows (M,) of descriptors (N, C), and the truth (M,)."""
    separations = head.pair_separations(descriptors, first, second)
    distances = head.distance(separations)
    said = distances < THRESHOLD
    kinds = (said & similar, said & ~similar, ~said & ~similar, ~said & similar)
    true_similar, false_similar, true_different, false_different = (int(kind.sum()) for kind in kinds)
    precision = _share(true_similar, false_similar), _share(true_different, false_different)
    recall = _share(true_similar, false_different), _share(true_different, false_similar)
    return PairMetrics(
        similar=int(similar.sum()),
        different=int((~similar).sum()),
        accuracy=float(np.mean(said == similar)),
        roc_auc=roc_auc(-separations, similar),
        thresholded_auc=roc_auc(said.astype(np.float64), similar),
        precision=precision[0],
        recall=recall[0],
        macro_precision=sum(precision) / 2,
        macro_recall=sum(recall) / 2,
        calibration_error=calibration_error(1 - distances, similar),
        true_similar=true_similar,
        false_similar=false_similar,
        true_different=true_different,
        false_different=false_different,
        reliability=tuple(reliability(1 - distances, similar)),
    )


def find_confusions(head: Head, descriptors: Array, labels: Sequence[str]) -> Confusions:
    """Find the classes with the most wrong verdicts, over all pairs of descriptors (N, C) with labels (N,).

    Of more than 5,000 pictures, 5,000 are drawn at random.
    """
    if len(labels) > _MOST_COMPARED:
        drawn = np.sort(np.random.default_rng(0).choice(len(labels), _MOST_COMPARED, replace=False))
        descriptors, labels = descriptors[drawn], [labels[place] for place in drawn]
    classes, codes = np.unique(np.array(labels), return_inverse=True)
    said = _count_said_similar(head, descriptors, codes)
    sizes = np.bincount(codes)
    rows, columns = np.triu_indices(len(classes), 1)
    numbers = np.arange(len(classes))
    own = sizes * (sizes - 1) // 2
    return Confusions(
        across=_most(classes, rows, columns, said[rows, columns], sizes[rows] * sizes[columns]),
        within=_most(classes, numbers, numbers, own - said.diagonal() // 2, own),
    )


def worst_mistakes(
    head: Head, descriptors: Array, pairs: tuple[Codes, Codes, Flags], count: int
) -> tuple[Mistake, ...]:
    """Return the `count` pairs with the most confident wrong verdicts, each once.

    The first half was said similar, the second different; too few of one kind are made up by the other.
    """
    first, second, similar = pairs
    distances = head.distance(head.pair_separations(descriptors, first, second))
    said = distances < THRESHOLD
    made: dict[frozenset[int], Mistake] = {}  # by the pair, whichever picture comes first
    for row in np.flatnonzero(said != similar):
        pair = int(first[row]), int(second[row])
        made.setdefault(frozenset(pair), Mistake(*pair, float(distances[row]), bool(similar[row])))
    said_similar = sorted((each for each in made.values() if not each.similar), key=lambda each: each.distance)
    said_different = sorted((each for each in made.values() if each.similar), key=lambda each: -each.distance)
    taken = said_similar[: max((count + 1) // 2, count - len(said_different))]
    return (*taken, *said_different[: count - len(taken)])


def squared_separations(u: Array, rows: Codes) -> Iterator[tuple[Codes, NDArray[np.float64]]]:
    """Yield blocks of rows (B,) with the squared separations of their embeddings from all (N, E): (B, N), unclipped."""
    lengths = np.sum(u.astype(np.float64) ** 2, axis=1)
    for block in np.split(rows, range(_BLOCK, len(rows), _BLOCK)):
        yield block, lengths[block, None] + lengths - 2 * (u[block] @ u.T)


def _share(these: int, others: int) -> float:
    return these / max(these + others, 1)


def _count_said_similar(head: Head, descriptors: Array, codes: Codes) -> NDArray[np.int64]:
    """Count the pairs said similar for each two classes, (K, K); those within a class are counted twice."""
    order = np.argsort(codes, kind="stable")
    codes = codes[order]
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    counts = np.zeros((len(starts), len(starts)), np.int64)
    for block, squares in squared_separations(head.embed(descriptors[order]), np.arange(len(codes))):
        said = head.distance(np.sqrt(np.maximum(squares, 0))) < THRESHOLD
        said[np.arange(len(block)), block] = False  # each with itself
        np.add.at(counts, codes[block], np.add.reduceat(said, starts, axis=1, dtype=np.int64))
    return counts


def _most(
    classes: NDArray[np.str_], first: Codes, second: Codes, wrong: NDArray[np.int64], pairs: NDArray[np.int64]
) -> tuple[Confusion, ...]:
    shares = wrong / np.maximum(pairs, 1)
    return tuple(
        Confusion(str(classes[first[place]]), str(classes[second[place]]), int(pairs[place]), float(shares[place]))
        for place in np.argsort(-shares, kind="stable")[:_FEW]
        if shares[place] > 0
    )
