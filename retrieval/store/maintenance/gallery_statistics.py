"""Statistics of a gallery, learned without labels: what all its pictures have in common, and what is near in it.

They rest on a cohort, the pictures whose contents have the smallest hashes. So a gallery has the same cohort however it
was indexed: at once, in portions, by shards, by any engine, after removals and additions.
"""

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from indexes.arrays import Ids
from indexes.catalogue.catalogue import Catalogue
from indexes.errors import StoreError
from indexes.vectors.base import NO_ID, TunedIndex
from retrieval.model.bundle import Bundle
from retrieval.model.gallery_neuron import GalleryNeuron
from retrieval.model.head import TINY, Array, Head

MIN_PICTURES = 10
"""Smaller galleries say too little: there the model's own similarity is shown."""

_COHORT = 512  # pictures; a verdict then differs from that by all pictures in one of 200 pairs
_REFERENCES = 256  # of the cohort: their nearest pictures are found
_SEARCHED = 32  # pictures of the index that may be a reference's nearest
_ALL = 2048  # up to so many pictures are compared with the references without a search
_SAME = 2e-3  # a separation below is that of the same content, but for rounding
_QUANTILES = np.linspace(0, 1, 101)

_SETTING, _EXPECTED = "gallery_statistics", "expected"


@dataclass(frozen=True)
class GalleryStatistics:
    """What is usual in a gallery of a catalogue's `generation`, for the head of this `digest`.

    `centre` float32 (E,) is a share of the mean embedding, `spread` how far the cosines of its pairs lie below their
    median: 16 % lie further. `nearest` are the mean and the standard deviation of the separations of its pictures from
    their nearest, and `plain_nearest` the quantiles (0 to 100 %) of the same by the model's own head.
    """

    digest: str
    generation: str
    centre: Array
    spread: float
    nearest: tuple[float, float]
    plain_nearest: tuple[float, ...]

    def suits(self, head: Head) -> bool:
        """Return whether the numbers are such as a gallery can have, for a head of this shape."""
        numbers = [*self.centre, self.spread, *self.nearest, *self.plain_nearest]
        shapes = self.centre.shape, len(self.plain_nearest)
        positive = min(self.spread, self.nearest[1]) > 0
        return shapes == (head.bias.shape, len(_QUANTILES)) and positive and bool(np.isfinite(numbers).all())

    def adapt(self, head: Head, neuron: GalleryNeuron) -> Head:
        """Return the head for this gallery."""
        return neuron.adapt(head, self.centre, self.spread)

    def nearness(self, separations: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return z (N,): how many standard deviations nearer hits are than the gallery's pictures to their nearest."""
        mean, deviation = self.nearest
        return np.asarray((mean - separations) / deviation)

    def familiarity(self, plain_separation: float) -> float:
        """Return the share of the gallery's pictures whose nearest is as far as this, or farther."""
        return 1 - float(np.interp(plain_separation, self.plain_nearest, _QUANTILES))


def learn_statistics(catalogue: Catalogue, index: TunedIndex, bundle: Bundle) -> GalleryStatistics | None:
    """Learn the statistics of the catalogue as it is now and save them, if they are not saved already.

    Returns None if the model has no neuron for them, or there are too few pictures. Raises StoreError.
    """
    saved, neuron, generation = (
        read_statistics(catalogue, bundle.head),
        bundle.card.gallery_neuron,
        catalogue.generation,
    )
    if neuron is None or (saved and saved.generation == generation):
        return saved
    cohort = catalogue.pictures.smallest_hashes(_COHORT)
    learned = None
    if len(cohort) >= MIN_PICTURES:
        learned = _learn(catalogue, index, bundle, neuron, cohort, generation)
    catalogue.settings.set(**{_SETTING: _to_text(learned) if learned else ""})
    return learned


def has_statistics(catalogue: Catalogue) -> bool:
    """Return whether a store keeps statistics, or expects them: one of an earlier version does not."""
    return catalogue.settings.get(_SETTING) is not None


def expect_statistics(catalogue: Catalogue) -> None:
    """Let the next process that brings the index up to date learn the statistics. Raises StoreError."""
    if not catalogue.settings.get(_SETTING):
        catalogue.settings.set(**{_SETTING: _EXPECTED})


def _learn(
    catalogue: Catalogue, index: TunedIndex, bundle: Bundle, neuron: GalleryNeuron, cohort: Ids, generation: str
) -> GalleryStatistics | None:
    plain, parts = bundle.head, [vectors for _, vectors in catalogue.descriptors.of(cohort, bundle.fingerprint)]
    if sum(map(len, parts)) < MIN_PICTURES:
        return None
    vectors = np.concatenate(parts)
    e = plain.raw_embedding(vectors)
    u = plain.apply_normalize(e)
    centre = np.asarray(neuron.centre * u.mean(0), np.float32)
    centred = plain.centred(centre)
    v = centred.apply_normalize(e)
    low, median = np.quantile((v @ v.T)[np.triu_indices(len(v), 1)], (0.16, 0.5))
    chunks = _near_pictures(catalogue, index, bundle.fingerprint, vectors[:_REFERENCES])
    nearest, plain_nearest = _nearest_separations(centred, u[:_REFERENCES], chunks)
    if len(nearest) < MIN_PICTURES:
        return None
    return GalleryStatistics(
        plain.digest,
        generation,
        centre,
        spread=max(float(median - low), TINY),
        nearest=(float(nearest.mean()), max(float(nearest.std()), TINY)),
        plain_nearest=tuple(np.quantile(plain_nearest, _QUANTILES).tolist()),
    )


def _near_pictures(
    catalogue: Catalogue, index: TunedIndex, fingerprint: str, references: Array
) -> Iterator[tuple[Ids, Array]]:
    """Yield the descriptors of pictures among which the references' nearest are."""
    if len(index) <= _ALL:
        return catalogue.descriptors.all(fingerprint)
    found = index.search(references, _SEARCHED)[1]
    return catalogue.descriptors.of(np.unique(found[found != NO_ID]), fingerprint)


def _nearest_separations(head: Head, references: Array, chunks: Iterable[tuple[Ids, Array]]) -> NDArray[np.float64]:
    """Return the separations (2, N) of pictures from their nearest of other content, with the centre and without.

    `references` (R, E) are their embeddings without the centre; those that have no nearest are left out.
    """
    plain, nearest = head.centred(None), np.full((2, len(references)), np.inf)
    for _, vectors in chunks:
        u = plain.embed(vectors)
        separations = np.sqrt(np.maximum(2 - 2 * (references @ u.T).astype(np.float64), 0))
        both = np.stack([head.centred_separation(references[:, None], u, separations), separations])
        nearest = np.minimum(nearest, np.where(separations < _SAME, np.inf, both).min(-1))
    return nearest[:, np.isfinite(nearest).all(0)]


def read_statistics(catalogue: Catalogue, head: Head) -> GalleryStatistics | None:
    """Return the statistics that are saved in a store for this head, perhaps of an earlier generation.

    Raises StoreError.
    """
    text = catalogue.settings.get(_SETTING)
    try:
        statistics = _from_text(text) if text and text != _EXPECTED else None
        if statistics and statistics.digest == head.digest and not statistics.suits(head):
            raise ValueError("its numbers are none")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(
            f"the gallery's statistics in {catalogue.folder} are damaged: `retrieve index --repair` makes them anew"
        ) from error
    return statistics if statistics and statistics.digest == head.digest else None


def is_too_small(catalogue: Catalogue) -> bool:
    """Return whether the gallery had too few pictures when its statistics were last to be learned."""
    return catalogue.settings.get(_SETTING) == ""


def _to_text(statistics: GalleryStatistics) -> str:
    centre = base64.b64encode(statistics.centre.astype("<f4").tobytes()).decode()
    return json.dumps(asdict(statistics) | {"centre": centre})


def _from_text(text: str) -> GalleryStatistics:
    values = json.loads(text)
    centre = np.frombuffer(base64.b64decode(values["centre"]), "<f4").astype(np.float32)
    mean, deviation = values["nearest"]
    tuples = {"nearest": (mean, deviation), "plain_nearest": tuple(values["plain_nearest"])}
    return GalleryStatistics(**values | tuples | {"centre": centre})
