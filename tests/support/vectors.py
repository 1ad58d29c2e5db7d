"""Clustered vectors."""

import numpy as np

from indexes.arrays import Vectors


def clustered(count: int, seed: int = 0, channels: int = 64) -> Vectors:
    """Seeded vectors around 40 centres, of different lengths."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(40, channels))
    vectors = centres[random.integers(0, 40, count)] + 0.6 * random.normal(size=(count, channels))
    return (vectors * random.uniform(0.1, 10, (count, 1))).astype(np.float32)
