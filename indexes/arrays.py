"""The arrays that vector indexes and the catalogue exchange."""

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]


def unit(vectors: Vectors) -> Vectors:
    """Scale vectors (N, C) to length 1, as float32; a zero vector stays zero."""
    return np.ascontiguousarray(vectors / _lengths(vectors)[:, None], dtype=np.float32)


def cosines(vectors: Vectors, direction: Vectors) -> Vectors:
    """Return the cosines (N,) of vectors (N, C) with one of length 1 (C,); that of a zero vector is zero."""
    return np.asarray(vectors @ direction / _lengths(vectors))


def _lengths(vectors: Vectors) -> Vectors:
    return np.asarray(np.maximum(np.sqrt(np.einsum("nc,nc->n", vectors, vectors)), 1e-12))
