"""Doubtful pictures of a data set: near-duplicates, and pictures whose neighbours have another label."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from retrieval.datasets.class_folders import DataSet
from retrieval.datasets.near_duplicates import grey_near_duplicates
from retrieval.datasets.pair_sampling import Codes
from retrieval.evaluation.audit.findings import LookAlikes, SuspectLabel
from retrieval.evaluation.ranking import nearest
from retrieval.model.head import Array, Head

NEIGHBOURS = 10  # that vote on a picture's label
MIN_VOTES = 9  # of them: with the default model this reports 24 of 4,300 flowers and 2 of 855 rooms
_BLOCK = 256  # pictures compared with all at once


def find_look_alikes(dataset: DataSet, grey: NDArray[np.int16], parts: Sequence[str]) -> tuple[LookAlikes, ...]:
    """Group samples that look the same, by their small grey pictures (N, 16, 17)."""
    members: dict[int, list[int]] = defaultdict(list)
    for place, group in enumerate(grey_near_duplicates(grey)):
        members[int(group)].append(place)
    return tuple(
        LookAlikes(tuple(dataset.samples[place] for place in places), tuple(parts[place] for place in places))
        for places in members.values()
        if len(places) > 1
    )


def find_suspect_labels(dataset: DataSet, head: Head, descriptors: Array) -> tuple[SuspectLabel, ...]:
    """Find the samples whose nearest neighbours, by the head, nearly all have the same other label.

    Classes with too few pictures to be neighbours are skipped. The clearest cases come first.
    """
    codes, classes = dataset.codes, dataset.classes
    sizes = np.bincount(codes)
    found: list[SuspectLabel] = []
    if len(codes) > NEIGHBOURS:
        for place, near in enumerate(_neighbours(head.embed(descriptors), codes)):
            votes = np.bincount(near, minlength=len(classes))
            most = int(votes.argmax())
            if most != codes[place] and votes[most] >= MIN_VOTES and sizes[codes[place]] > NEIGHBOURS:
                found.append(SuspectLabel(dataset.samples[place], classes[most], int(votes[most]), NEIGHBOURS))
    return tuple(sorted(found, key=lambda each: -each.votes))


def _neighbours(u: Array, codes: Codes) -> Codes:
    """Return the classes (N, 10) of the nearest neighbours of each embedding (N, E), itself excluded."""
    lengths = np.sum(u**2, axis=1)
    rows = []
    for start in range(0, len(u), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(u)))
        squares = lengths - 2 * (u[block] @ u.T)
        squares[np.arange(len(block)), block] = np.inf
        rows.append(codes[nearest(squares, NEIGHBOURS)])
    return np.concatenate(rows)
