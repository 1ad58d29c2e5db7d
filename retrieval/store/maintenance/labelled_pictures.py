"""A gallery's pictures with labels, those of its class folders, and the hits of each as a query for all others."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexes.arrays import Ids, Vectors
from indexes.catalogue.catalogue import Catalogue
from indexes.vectors.base import NO_ID, TunedIndex
from retrieval.common.metrics import Floats
from retrieval.datasets.pair_sampling import Codes, Flags
from retrieval.model.head import Head

MAX_PICTURES = 5000
MOST_HITS = 50
"""Hits of a query that are looked at."""

_EXHAUSTIVE = 10_000  # pictures of an index up to which every one is compared with every query: within half a minute
_SEARCHED = 1000  # queries in a larger one
_SAME = 4e-6  # of the squared length: closer ones have equal content, but for rounding


@dataclass(frozen=True)
class LabelledPictures:
    """A sample of N labelled pictures: descriptors (N, C), and classes (N,), numbered from 0 as `code_of` has labels.

    `share` is that of labelled pictures in the gallery.
    """

    descriptors: Vectors
    codes: Codes
    code_of: dict[str, int]
    share: float


@dataclass(frozen=True)
class LabelledHits:
    """The nearest labelled pictures of Q queries, at most 50, without those of equal content.

    `separations` float64 (Q, K), rising, infinite where there are no more, and `right` (Q, K), whether a hit is of the
    query's class. `codes` (Q,) are the queries' classes, and `findable` (Q,) says which have another picture.
    """

    separations: Floats
    right: Flags
    codes: Codes
    findable: Flags


def draw_labelled(catalogue: Catalogue, fingerprint: str, seed: int) -> LabelledPictures:
    """Return the gallery's labelled pictures, or those of a sample if it has more than 5,000 pictures."""
    ids, vectors = catalogue.descriptors.sample(fingerprint, MAX_PICTURES, seed)
    labels = _labels(catalogue, ids)
    is_labelled = np.array([label is not None for label in labels], np.bool_)
    names, codes = np.unique([label for label in labels if label is not None], return_inverse=True)
    share = float(is_labelled.mean()) if len(ids) else 0.0
    code_of = {name: code for code, name in enumerate(names.tolist())}
    return LabelledPictures(vectors[is_labelled], codes.astype(np.int64), code_of, share)


def find_hits(
    catalogue: Catalogue, head: Head, fingerprint: str, labelled: LabelledPictures, index: TunedIndex | None = None
) -> LabelledHits:
    """Find the hits of labelled pictures by a head; in an `index` of more than 10,000 pictures, of 1,000 of them."""
    is_large = index is not None and len(index) > _EXHAUSTIVE
    rows = slice(_SEARCHED if is_large else None)
    descriptors, codes, code_of = labelled.descriptors[rows], labelled.codes[rows], labelled.code_of
    queries, members = head.embed(descriptors), np.zeros(len(code_of), np.int64)
    nearest, right = np.empty((len(codes), 0)), np.empty((len(codes), 0), np.bool_)
    others = catalogue.descriptors.all(fingerprint)
    if is_large and index is not None:
        found = index.search(descriptors, MOST_HITS + 1)[1]
        others = catalogue.descriptors.of(np.unique(found[found != NO_ID]), fingerprint)
    for ids, vectors in others:
        labels = _labels(catalogue, ids)
        known = np.array([label is not None for label in labels], np.bool_)
        other_codes = np.array([code_of.get(label, -1) for label in labels if label is not None], np.int64)
        members += np.bincount(other_codes[other_codes >= 0], minlength=len(members))
        nearest = np.concatenate([nearest, _separations(queries, head.embed(vectors[known]))], axis=1)
        right = np.concatenate([right, codes[:, None] == other_codes], axis=1)
        if nearest.shape[1] > MOST_HITS:
            kept = np.argpartition(nearest, MOST_HITS - 1, axis=1)[:, :MOST_HITS]
            nearest, right = np.take_along_axis(nearest, kept, 1), np.take_along_axis(right, kept, 1)
    order = np.argsort(nearest, axis=1, kind="stable")
    nearest, right = np.take_along_axis(nearest, order, 1), np.take_along_axis(right, order, 1)
    return LabelledHits(nearest, right & np.isfinite(nearest), codes, members[codes] > 1)


def _labels(catalogue: Catalogue, ids: Ids) -> list[str | None]:
    label_of = {picture.id: picture.label for picture in catalogue.pictures.candidates(ids)}
    return [label_of.get(id_) for id_ in ids.tolist()]


def _separations(u: Vectors, v: Vectors) -> NDArray[np.float64]:
    """Return ||u - v|| (Q, N) of embeddings (Q, E) and (N, E), infinite for equal ones."""
    squared_u, squared_v = (np.sum(each.astype(np.float64) ** 2, axis=1) for each in (u, v))
    lengths = squared_u[:, None] + squared_v
    squared = lengths - 2 * (u @ v.T)
    return np.where(squared <= _SAME / 2 * lengths, np.inf, np.sqrt(np.maximum(squared, 0)))
