"""The neurons that judge pairs of one gallery by how usual their separation is in it, without labels."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from retrieval.model.head import Array, Head


@dataclass(frozen=True)
class GalleryNeuron:
    """What a model ships for galleries that it has not seen, fitted over many galleries.

    `centre` is the share of the gallery's mean embedding that is taken away. With s, how far the cosines of a gallery's
    pairs spread, a pair has d = sigmoid((w0 + w1 / s) D + b0 + b1 / s), `slope` (w0, w1) and `intercept` (b0, b1). A
    hit shows the same kind with p = sigmoid(h0 z + h1), `hit` (h0, h1): z says by how many standard deviations it is
    nearer than the gallery's own pictures are to their nearest.
    """

    centre: float
    slope: tuple[float, float]
    intercept: tuple[float, float]
    hit: tuple[float, float]

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> GalleryNeuron:
        """Read it from a model card. Raises KeyError, TypeError and ValueError."""
        pairs = {name: (float(values[name][0]), float(values[name][1])) for name in ("slope", "intercept", "hit")}
        neuron = cls(centre=float(values["centre"]), **pairs)
        if json.loads(json.dumps(asdict(neuron))) != values:
            raise TypeError("a neuron's numbers have other types")
        if not np.isfinite([neuron.centre, *neuron.slope, *neuron.intercept, *neuron.hit]).all():
            raise ValueError("a neuron's number is none")
        if min(*neuron.slope, neuron.hit[0]) < 0 or not any(neuron.slope) or not neuron.hit[0]:
            raise ValueError("a neuron would turn the order round")
        return neuron

    def to_json(self) -> dict[str, Any]:
        """Return it as `from_json` reads it."""
        return asdict(self)

    def adapt(self, head: Head, centre: Array, spread: float) -> Head:
        """Return the head for a gallery with this `centre` (E,) and this spread of cosines."""
        (w0, w1), (b0, b1) = self.slope, self.intercept
        return head.centred(centre).calibrated(w0 + w1 / spread, b0 + b1 / spread)
