"""Explanations of pairs of pictures, without any store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.common.settings import DEFAULT_EXPLAIN, ExplainOptions
from retrieval.explain.correspondence import correspond
from retrieval.explain.explanation import Explanation, explain_pairs, query_pair_inputs
from retrieval.explain.gradcam import PixelAccess
from retrieval.explain.verification import verify
from retrieval.model.encoder import Encoder
from retrieval.model.head import Array, Head
from retrieval.model.preprocessing import Pixels, Source


@dataclass(frozen=True)
class PairExplainer:
    """Explain pairs of pictures by an encoder and a head, which may be calibrated."""

    encoder: Encoder
    head: Head

    def explain(self, a: Source, b: Source, options: ExplainOptions = DEFAULT_EXPLAIN) -> Explanation:
        """Explain why two pictures are similar or different: `a` in the place of the query, `b` of the hit."""
        pixels = [self.encoder.decode(a), self.encoder.decode(b)]
        u = self.head.embed(self.encoder.describe(pixels))
        distance = self.head.distance(self.head.separation(u[:1], u[1:]))
        sized = self.encoder.at_size(options.size)
        return self.explain_pixels(
            pixels if sized is self.encoder else [sized.decode(a), sized.decode(b)], distance, options
        )[0]

    def explain_pixels(
        self, pixels: Sequence[Pixels], distances: NDArray[np.float64], options: ExplainOptions = DEFAULT_EXPLAIN
    ) -> list[Explanation]:
        """Explain the first picture against each of the others, whose distances (N,) by stored descriptors are known.

        The pictures have the size that `how` gives; None: the model's own.
        """
        encoder = self.encoder.at_size(options.size)
        sides = query_pair_inputs(self.head, encoder.activate(pixels), pixel_access(encoder, pixels))
        explained = explain_pairs(sides, distances, options.method)
        unlike = [row for row, each in enumerate(explained) if not each.identical]
        if options.correspond:
            correspondences = dict(zip(unlike, correspond(*sides, unlike), strict=True))
            explained = [replace(each, correspondence=correspondences.get(row)) for row, each in enumerate(explained)]
        if options.verify:
            pictures = [pixels[0], *(pixels[row + 1] for row in unlike)]
            claims = [explained[row].claims for row in unlike]
            checks = dict(zip(unlike, verify(self.head, encoder.describe, pictures, claims), strict=True))
            explained = [replace(each, verification=checks.get(row)) for row, each in enumerate(explained)]
        return explained


def pixel_access(encoder: Encoder, pixels: Sequence[Pixels]) -> PixelAccess:
    """Give methods that run the network again access to these pictures."""

    def describe_changed(pictures: Sequence[NDArray[Any]]) -> Array:
        return encoder.describe(
            [each if each.dtype == np.uint8 else np.rint(each).astype(np.uint8) for each in pictures]
        )

    return PixelAccess(pixels, encoder.bundle.card.preprocessing.mean, describe_changed)
