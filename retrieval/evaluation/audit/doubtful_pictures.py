"""Doubtful pictures of a data set: near-duplicates, and pictures whose neighbours have another label."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from retrieval.datasets.class_folders import DataSet
from retrieval.datasets.near_duplicates import grey_near_duplicates
from retrieval.evaluation.audit.findings import LookAlikes, SuspectLabel
from retrieval.evaluation.ranking import nearest
from retrieval.evaluation.verdicts import squared_separations
from retrieval.model.head import Array, Head

NEIGHBOURS = 10  # that vote on a picture's label
MIN_VOTES = 9  # of them: with the default model this reports 24 of 4,300 flowers and 2 of 855 rooms


def find_look_alikes(dataset: DataSet, grey: NDArray[np.int16], parts: Sequence[str]) -> tuple[LookAlikes, ...]:
    """Group samples that look the same, by their small grey pictures (N, 16, 17)."""
    groups = grey_near_duplicates(grey)
    members = (np.flatnonzero(groups == group).tolist() for group in np.flatnonzero(np.bincount(groups) > 1))
    return tuple(
        LookAlikes(tuple(dataset.samples[place] for place in places), tuple(parts[place] for place in places))
        for places in members
    )


def find_suspect_labels(dataset: DataSet, head: Head, descriptors: Array) -> tuple[SuspectLabel, ...]:
    """Find the samples whose nearest neighbours, by the head, nearly all have the same other label.

    Classes with too few pictures to be neighbours are skipped. The clearest cases come first.
    """
    codes, classes = dataset.codes, dataset.classes
    if len(codes) <= NEIGHBOURS:
        return ()
    sizes = np.bincount(codes)
    found: list[SuspectLabel] = []
    for block, squares in squared_separations(head.embed(descriptors), np.arange(len(codes))):
        squares[np.arange(len(block)), block] = np.inf  # a picture is not its own neighbour
        for place, near in zip(block, codes[nearest(squares, NEIGHBOURS)], strict=True):
            votes = np.bincount(near, minlength=len(classes))
            most = int(votes.argmax())
            if most != codes[place] and votes[most] >= MIN_VOTES and sizes[codes[place]] > NEIGHBOURS:
                found.append(SuspectLabel(dataset.samples[place], classes[most], int(votes[most]), NEIGHBOURS))
    return tuple(sorted(found, key=lambda each: -each.votes))
