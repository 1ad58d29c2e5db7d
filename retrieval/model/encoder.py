"""Pictures as descriptors and activations, by a model bundle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from retrieval.common.errors import PictureError
from retrieval.common.parallel import parallel_map
from retrieval.common.progress import SILENT, Progress
from retrieval.model.bundle import Bundle, ModelCard
from retrieval.model.head import Array
from retrieval.model.inference import Features, Network, open_network
from retrieval.model.preprocessing import Pixels, Source, normalise, read_at_size
from retrieval.sources.files import bytes_at
from retrieval.sources.location import is_address

_BATCH = 32
_READERS = 2


class Encoder:
    """A model bundle and its network, which is opened on first use."""

    def __init__(self, bundle: Bundle, device: str = "auto", progress: Progress = SILENT) -> None:
        self.bundle = bundle
        self.device = device
        self._progress = progress
        self._by_size: dict[int, Encoder] = {}  # by the size of their pictures
        self._lock = Lock()  # several threads of a server ask for one

    @cached_property
    def network(self) -> Network:
        """The backbone, prepared on its first use on this machine. Raises ModelError."""
        return open_network(self.bundle, self.device, self._progress)

    def load(self) -> None:
        """Open the network now, not on first use."""
        _ = self.network

    def unload(self) -> None:
        """Give back the network's memory; it is opened again on its next use."""
        self.__dict__.pop("network", None)

    def decode(self, source: Source) -> Pixels:
        """A picture at the network's size, uint8 (size, size, 3). Raises PictureError."""
        return read_at_size(source, self.bundle.card.preprocessing.size)[0]

    def decode_all(self, sources: Sequence[Source]) -> list[Pixels | PictureError]:
        """The same of several, decoded side by side, those of servers fetched before; a broken one gives its error."""
        return list(
            parallel_map(
                self._decode_fetched,
                zip(sources, parallel_map(_fetch_remote, sources), strict=True),
                _READERS,
                2 * _READERS,
            )
        )

    def _decode_fetched(self, sources: tuple[Source, Source | PictureError]) -> Pixels | PictureError:
        source, near = sources
        if isinstance(near, PictureError):
            return near
        try:
            return self.decode(near)
        except PictureError as error:
            return error if near is source else error.with_name(str(source))

    def preprocess(self, source: Source) -> NDArray[np.float32]:
        """What the network sees of a picture: float32 (3, size, size). Raises PictureError."""
        return normalise(self.decode(source), self.bundle.card.preprocessing)

    def describe(self, pixels: Sequence[Pixels]) -> Array:
        """Descriptors (N, C) of any number of pictures, in batches, as the store keeps them."""
        return np.concatenate([self.network.describe(batch) for batch in _batches(pixels)])

    def activate(self, pixels: Sequence[Pixels]) -> Features:
        """Activations and descriptors of any number of pictures, in batches, exact."""
        parts = [self.network.activate(batch) for batch in _batches(pixels)]
        return Features(
            np.concatenate([part.activations for part in parts]), np.concatenate([part.descriptors for part in parts])
        )

    def at_size(self, size: int | None) -> Encoder:
        """The same model with pictures at another size, for finer heatmaps; None: its own."""
        card = self.bundle.card
        if size in (None, card.preprocessing.size):
            return self
        with self._lock:
            return self._make_at_size(size, card)

    def _make_at_size(self, size: int | None, card: ModelCard) -> Encoder:
        assert size is not None
        if size not in self._by_size:
            bundle = replace(self.bundle, card=replace(card, preprocessing=replace(card.preprocessing, size=size)))
            self._by_size[size] = Encoder(bundle, self.device, self._progress)
        return self._by_size[size]


def _fetch_remote(source: Source) -> Source | PictureError:
    """The bytes of what lies at an address, and anything else as it is."""
    if not isinstance(source, str) or not is_address(source):
        return source
    try:
        return bytes_at(source)
    except PictureError as error:
        return error.with_name(source)


def _batches(pixels: Sequence[Pixels]) -> Iterator[Sequence[Pixels]]:
    return (pixels[start : start + _BATCH] for start in range(0, len(pixels), _BATCH))
