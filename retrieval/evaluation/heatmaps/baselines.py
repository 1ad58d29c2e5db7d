"""Baseline heatmaps that do not depend on the model."""

import numpy as np

from retrieval.explain.methods.gradcam import PairInputs
from retrieval.explain.methods.registry import Method
from retrieval.model.head import Array
from retrieval.model.preprocessing import Pixels

_WIDTH = 0.3  # of the centre's Gaussian, its standard deviation as a share of the side


def random_map(pairs: PairInputs) -> Array:
    """Return random maps and 1 minus them, float32 (2, N, h, w); the same for the same content."""
    rows, columns = pairs.activations.shape[2:]
    seeds = (np.abs(each).sum().view(np.uint32) for each in pairs.own)
    drawn = np.stack([np.random.default_rng(int(seed)).random((rows, columns), np.float32) for seed in seeds])
    return np.stack([drawn, 1 - drawn])


def centre_map(pairs: PairInputs) -> Array:
    """Return a Gaussian in the centre of every picture."""
    count, _, rows, columns = pairs.activations.shape
    y, x = (np.linspace(-0.5, 0.5, places) / _WIDTH for places in (rows, columns))
    middle = np.exp(-0.5 * (y[:, None] ** 2 + x**2)).astype(np.float32)
    return np.broadcast_to(middle, (2, count, rows, columns))


def edge_map(pairs: PairInputs) -> Array:
    """Return how much the picture changes at each place: the mean length of the gradient of its brightness."""
    if pairs.pixel_access is None:
        raise ValueError("an edge map looks at the pictures: give the pairs with their pixels")
    rows, columns = pairs.activations.shape[2:]
    maps = np.stack([_edges(pixels, rows, columns) for pixels in pairs.pixel_access.pixels])
    return np.stack([maps, maps])


def _edges(pixels: Pixels, rows: int, columns: int) -> Array:
    down, right = np.gradient(pixels.mean(axis=2, dtype=np.float32))
    length = np.hypot(down, right).astype(np.float32)
    bands = [np.array_split(band, columns, axis=1) for band in np.array_split(length, rows, axis=0)]
    return np.array([[cell.mean() for cell in band] for band in bands], np.float32)


BASELINES: dict[str, Method] = {"Random": random_map, "Centre": centre_map, "Edges": edge_map}
"""The baselines by the names that tables show."""
