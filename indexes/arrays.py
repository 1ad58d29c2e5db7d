"""The arrays that vector indexes and the catalogue exchange."""

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]


def unit(vectors: Vectors) -> Vectors:
    """Scale vectors (N, C) to length 1, as float32; a zero vector stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)
