"""The trained head in NumPy: from descriptors to embeddings to the Siamese distance."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from retrieval.common.metrics import sigmoid

Array = NDArray[np.float32]

TINY = 1e-12

_FloatArray = TypeVar("_FloatArray", bound=NDArray[Any])


def shifted_root(g: _FloatArray, shift: float | None) -> _FloatArray:
    """Return f(g) = sqrt(g + shift), element by element, 0 where that is negative; without a shift, g itself."""
    if shift is None:
        return g
    root: _FloatArray = g + shift  # type: ignore[assignment]
    np.maximum(root, 0, out=root)
    np.sqrt(root, out=root)
    return root


def _to_unit_length(x: Array) -> Array:
    return np.asarray(x / np.maximum(np.sqrt(np.einsum("...e,...e->...", x, x))[..., None], TINY))


def _unit_length_gradient(x: Array, gradient: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), TINY)
    v = x / length
    return np.asarray((gradient - v * np.sum(v * gradient, axis=-1, keepdims=True)) / length)


@dataclass(frozen=True)
class Head:
    """e = relu(W f(g) + c);  u = e / ||e|| where `normalize`, else e;  d = sigmoid(w ||u1 - u2|| + b).

    `weight` W float32 (E, C), `bias` c float32 (E,), `slope` w and `intercept` b of the sigmoid neuron.
    f(g) = sqrt(g + `shift`), element by element; if `shift` is None, f(g) = g as in the paper. The root lessens the
    weight of the few channels that are strong in a picture.

    A `centre` m, float32 (E,), such as a share of a gallery's mean u, is taken away from u, and the rest is scaled to
    length 1: v = (u - m) / ||u - m|| is then compared in place of u. What all pictures of the gallery have in common
    no longer makes them alike.
    """

    weight: Array
    bias: Array
    slope: float
    intercept: float
    normalize: bool
    shift: float | None = None
    centre: Array | None = None

    @cached_property
    def is_sound(self) -> bool:
        """Whether its parts are numbers, and different pictures have a larger distance than equal ones."""
        numbers = np.arange(2 * self.weight.shape[1], dtype=np.float32).reshape(2, -1)
        descriptors = np.abs(np.sin(numbers))  # any; NumPy's random numbers take 20 ms to import
        with np.errstate(all="ignore"):
            u = self.embed(descriptors)
            equal, different = self.distance(self.separation(u[[0, 0]], u))
        return bool(np.isfinite(self.weight).all() and 0 <= equal < different <= 1)

    def calibrated(self, slope: float, intercept: float) -> Head:
        """Return this head with another sigmoid neuron."""
        return replace(self, slope=slope, intercept=intercept)

    def centred(self, centre: Array | None) -> Head:
        """Return this head with a centre (E,), or without one."""
        return replace(self, centre=centre)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over all that determines the distance but the centre: the head's own parts."""
        settings = json.dumps([self.slope, self.intercept, self.normalize, self.shift, self.weight.shape])
        digest = hashlib.sha256(settings.encode())
        for part in (self.weight, self.bias):
            digest.update(np.ascontiguousarray(part, np.float32).data)
        return digest.hexdigest()

    def raw_embedding(self, descriptors: Array) -> Array:
        """Return the embeddings e, float32 (..., E), of descriptors (..., C)."""
        e = self.project(descriptors)
        return np.maximum(e, 0, out=e)

    def project(self, descriptors: Array) -> Array:
        """Return the dense layer's output before the ReLU, W f(g) + c, float32 (..., E)."""
        projected = np.asarray(self.apply_root(descriptors) @ self.weight.T)
        projected += self.bias
        return projected

    def apply_root(self, descriptors: Array) -> Array:
        """Return f(g), float32 (..., C), the dense layer's input."""
        return shifted_root(descriptors, self.shift)

    def embed(self, descriptors: Array) -> Array:
        """Return u, float32 (..., E), of descriptors (..., C): the embeddings as they are compared."""
        return self.apply_normalize(self.raw_embedding(descriptors))

    def apply_normalize(self, e: Array) -> Array:
        """Return u, or v if there is a centre, float32 (..., E), of embeddings e (..., E)."""
        u = _to_unit_length(e) if self.normalize else e
        return u if self.centre is None else _to_unit_length(u - self.centre)

    def normalize_gradient(self, e: Array, gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the gradient (..., E) by e of what has this gradient by what `apply_normalize` returns.

        Of v = x / ||x|| it is (r - v (v . r)) / ||x||.
        """
        u = _to_unit_length(e) if self.normalize else e
        if self.centre is not None:
            gradient = _unit_length_gradient(u - self.centre, gradient)
        return _unit_length_gradient(e, gradient) if self.normalize else gradient

    def root_derivative(self, descriptors: Array) -> Array:
        """Return f'(g), float32 (..., C): 1 if there is no root, 0 where g + shift is not positive."""
        if self.shift is None:
            return np.ones_like(descriptors)
        inside = np.maximum(descriptors + self.shift, 0)
        return np.asarray(np.divide(0.5, np.sqrt(inside), out=np.zeros_like(inside), where=inside > 0))

    def separation(self, u1: Array, u2: Array) -> NDArray[np.float64]:
        """Return D = ||u1 - u2||, float64 (...,), at least 0; monotone in the distance but never saturated."""
        difference = u1 - u2
        return np.asarray(np.sqrt(np.einsum("...e,...e->...", difference, difference), dtype=np.float64))

    def centred_separation(self, u1: Array, u2: Array, separation: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ||v1 - v2||, float64 (...,), of embeddings without the centre and their separation D; see `embed`.

        With n = ||u - m|| it is sqrt((D^2 - (n1 - n2)^2) / (n1 n2)), which needs no v.
        """
        n1, n2 = (self._length_from_centre(u) for u in (u1, u2))
        squares = (separation**2 - (n1 - n2) ** 2) / np.maximum(n1 * n2, TINY)
        return np.asarray(np.sqrt(np.maximum(squares, 0)))

    def _length_from_centre(self, u: Array) -> NDArray[np.float64]:
        """Return ||u - m||, float64 (...,)."""
        assert self.centre is not None
        squares = np.einsum("...e,...e->...", u, u) - 2 * (u @ self.centre) + self.centre @ self.centre
        return np.asarray(np.sqrt(np.maximum(squares, 0), dtype=np.float64))

    def pair_separations(
        self, descriptors: Array, first: NDArray[np.int64], second: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return D of pairs, float64 (P,), given by rows of descriptors (N, C)."""
        u = self.embed(descriptors)
        return self.separation(u[first], u[second])

    def descriptor_distances(self, own: Array, other: Array) -> NDArray[np.float64]:
        """Return d in (0, 1), float64 (...,), of descriptors (..., C) against others (..., C)."""
        return self.distance(self.separation(self.embed(own), self.embed(other)))

    def distance(self, separation: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return d = sigmoid(w D + b) in (0, 1), float64; label 1 means different."""
        return sigmoid(self.slope * separation + self.intercept)
