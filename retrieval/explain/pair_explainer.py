"""Explanations of pairs of pictures, without any store."""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.common.settings import DEFAULT_EXPLAIN, ExplainOptions
from retrieval.explain.correspondence import check_matches, correspond
from retrieval.explain.explanation import Explanation, explain_pairs, pair_inputs
from retrieval.explain.methods.gradcam import PairInputs, PixelAccess
from retrieval.explain.verification import verify
from retrieval.model.encoder import Encoder
from retrieval.model.head import Array, Head
from retrieval.model.preprocessing import Pixels, Source
from retrieval.sources.files import content_hash, open_file


@dataclass(frozen=True)
class PairExplainer:
    """Explain pairs of pictures by an encoder and a head, which may be calibrated."""

    encoder: Encoder
    head: Head

    def explain(self, a: Source, b: Source, options: ExplainOptions = DEFAULT_EXPLAIN) -> Explanation:
        """Explain why two pictures are similar or different: `a` in the place of the query, `b` of the hit."""
        (first, first_info), (second, second_info) = self.encoder.read(a), self.encoder.read(b)
        pixels = [first, second]
        descriptors = self.encoder.describe(pixels)
        distance = self.head.descriptor_distances(descriptors[:1], descriptors[1:])
        sized = self.encoder.at_size(options.size)
        if sized is not self.encoder:
            pixels = [sized.decode(a), sized.decode(b)]
        (explanation,) = self.explain_query(pixels[0], pixels[1:], distance, options)
        explanation = replace(explanation, unseen=explanation.identical and _files_differ(a, b))
        return explanation.with_sizes(first_info.size, second_info.size)

    def explain_query(
        self,
        query: Pixels,
        hits: Sequence[Pixels],
        distances: NDArray[np.float64],
        options: ExplainOptions = DEFAULT_EXPLAIN,
    ) -> list[Explanation]:
        """Explain one picture against each of N others, as `explain_rows` does."""
        rows = range(1, len(hits) + 1)
        return self.explain_rows([query, *hits], [0] * len(hits), rows, distances, options)

    def explain_rows(
        self,
        pixels: Sequence[Pixels],
        first: Sequence[int],
        second: Sequence[int],
        distances: NDArray[np.float64],
        options: ExplainOptions = DEFAULT_EXPLAIN,
    ) -> list[Explanation]:
        """Explain N pairs, given by rows of `pixels`; each picture goes through the network once.

        The distances (N,) are known from stored descriptors. The pictures have the size of `options`.
        """
        encoder = self.encoder.at_size(options.size)
        sides = replace(self, encoder=encoder).both_sides(pixels, first, second)
        explained = explain_pairs(sides, distances, options.method)
        unlike = [row for row, each in enumerate(explained) if not each.identical]
        if options.correspond:
            pairs = [(first[row], second[row]) for row in unlike]
            found = check_matches(self.head, encoder.describe, pixels, pairs, correspond(*sides, unlike))
            for row, correspondence in zip(unlike, found, strict=True):
                explained[row] = replace(explained[row], correspondence=correspondence)
        if options.verify:
            drawn = [row for row in unlike if not explained[row].as_wholes]
            pairs = [(first[row], second[row]) for row in drawn]
            sides_of = [(explained[row].query, explained[row].hit) for row in drawn]
            maps = np.array([[(side.factual, side.counterfactual) for side in both] for both in sides_of])
            different = [explained[row].verdict == "different" for row in drawn]
            checks = verify(self.head, encoder.describe, pixels, pairs, maps, different)
            for row, check in zip(drawn, checks, strict=True):
                explained[row] = replace(explained[row], verification=check)
        return explained

    def both_sides(
        self, pixels: Sequence[Pixels], first: Sequence[int], second: Sequence[int]
    ) -> tuple[PairInputs, PairInputs]:
        """Return both directions of N pairs, given by rows of `pixels`, for methods."""
        access = _pixel_access(self.encoder, pixels)
        return pair_inputs(self.head, self.encoder.activate(pixels), first, second, access)

    def inputs(self, pixels: Sequence[Pixels], others: Array) -> PairInputs:
        """Return N pictures against the descriptors (N, C) of as many others, for methods in one direction."""
        features = self.encoder.activate(pixels)
        access = _pixel_access(self.encoder, pixels)
        return PairInputs(self.head, features.activations, features.descriptors, others, access)


def _files_differ(a: Source, b: Source) -> bool:
    """Return whether two sources are files of different contents."""
    files = [io.BytesIO(each) if isinstance(each, bytes) else each for each in (a, b)]
    hashes: list[bytes] = []
    for each in files:
        if isinstance(each, io.BytesIO):
            hashes.append(content_hash(each))
        elif isinstance(each, str | os.PathLike):
            with open_file(each) as file:
                hashes.append(content_hash(file))
    return len(set(hashes)) == 2


def _pixel_access(encoder: Encoder, pixels: Sequence[Pixels]) -> PixelAccess:
    """Give methods that run the network again access to these pictures."""

    def describe_changed(pictures: Sequence[NDArray[Any]]) -> Array:
        return encoder.describe(each if each.dtype == np.uint8 else np.rint(each).astype(np.uint8) for each in pictures)

    return PixelAccess(pixels, encoder.bundle.card.preprocessing.mean, describe_changed)
