"""Pictures as descriptors and activations, by a model bundle."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from retrieval.common.errors import PictureError
from retrieval.common.parallel import batched, parallel_map
from retrieval.common.progress import SILENT, Progress
from retrieval.model.bundle import Bundle
from retrieval.model.head import Array
from retrieval.model.inference import Features, Network, open_network
from retrieval.model.preprocessing import PictureInfo, Pixels, Source, normalise, read_at_size
from retrieval.sources.files import bytes_at
from retrieval.sources.location import is_address

_LOGGER = logging.getLogger(__name__)
_BATCH = 32
_READERS = 2

DecodedPicture = tuple[Pixels, PictureInfo]


@dataclass(frozen=True)
class DecodedPairs:
    """The pairs whose pictures could both be read: their `rows` among all pairs, and their pixels.

    `errors` has one error for each of the other pairs, in order.
    """

    rows: list[int]
    first: list[Pixels]
    second: list[Pixels]
    errors: list[PictureError]


class Encoder:
    """A model bundle and its network, which is opened on first use; any thread may use it."""

    def __init__(
        self, bundle: Bundle, device: str = "auto", progress: Progress = SILENT, network: Network | None = None
    ) -> None:
        self.bundle = bundle
        self.device = device
        self._progress = progress
        self._network = network
        self._by_size: dict[int, Encoder] = {}  # the same model with pictures of other sizes
        self._lock = Lock()

    @property
    def network(self) -> Network:
        """The backbone, opened on its first use. Raises ModelError."""
        with self._lock:
            if self._network is None:
                self._network = open_network(self.bundle, self.device, self._progress)
                _LOGGER.info("network of %s opened, device %s", self.bundle.card.name, self.device)
            return self._network

    def load(self) -> None:
        """Open the network now, not on first use."""
        _ = self.network

    def load_ahead(self, explains: bool, size: int | None = None) -> None:
        """Begin to open the network on a thread; if it `explains`, for heatmaps at this size too, with a blank picture.

        The first picture takes longest. An error is raised by the first use.
        """
        thread = ThreadPoolExecutor(1, thread_name_prefix="network")
        thread.submit(self.load)
        if explains:
            sized = self.at_size(size)
            side = sized.bundle.card.preprocessing.size
            thread.submit(sized.activate, [np.zeros((side, side, 3), np.uint8)])
        thread.shutdown(wait=False)

    def unload(self) -> None:
        """Release the networks of all sizes; each is opened again on its next use."""
        with self._lock:
            self._network = None
            for encoder in self._by_size.values():
                encoder.unload()

    def read(self, source: Source) -> DecodedPicture:
        """Return a picture at the network's size, uint8 (size, size, 3), and its metadata. Raises PictureError."""
        return read_at_size(source, self.bundle.card.preprocessing.size)

    def decode(self, source: Source) -> Pixels:
        """Return a picture at the network's size, uint8 (size, size, 3). Raises PictureError."""
        return self.read(source)[0]

    def read_all(self, sources: Sequence[Source]) -> list[DecodedPicture | PictureError]:
        """Read pictures in parallel, fetching remote ones ahead; return a broken one's error in its place."""
        fetched = zip(sources, parallel_map(_fetch_remote, sources), strict=True)
        return list(parallel_map(self._read_fetched, fetched, _READERS, 2 * _READERS))

    def decode_all(self, sources: Sequence[Source]) -> list[Pixels | PictureError]:
        """Decode pictures in parallel, as `read_all` does."""
        return [each if isinstance(each, PictureError) else each[0] for each in self.read_all(sources)]

    def decode_pairs(self, first: Sequence[Source], second: Sequence[Source]) -> DecodedPairs:
        """Decode the pictures of pairs in parallel; a pair with a broken picture gives that one's error."""
        pixels = self.decode_all([*first, *second])
        pairs = DecodedPairs([], [], [], [])
        for row, (one, other) in enumerate(zip(pixels[: len(first)], pixels[len(first) :], strict=True)):
            if isinstance(one, PictureError) or isinstance(other, PictureError):
                pairs.errors.append(one if isinstance(one, PictureError) else other)  # type: ignore[arg-type]
            else:
                pairs.rows.append(row)
                pairs.first.append(one)
                pairs.second.append(other)
        return pairs

    def _read_fetched(self, sources: tuple[Source, Source | PictureError]) -> DecodedPicture | PictureError:
        source, near = sources
        if isinstance(near, PictureError):
            return near
        try:
            return self.read(near)
        except PictureError as error:
            return error if near is source else error.with_name(str(source))

    def preprocess(self, source: Source) -> NDArray[np.float32]:
        """Return what the network sees of a picture: float32 (3, size, size). Raises PictureError."""
        return normalise(self.decode(source), self.bundle.card.preprocessing)

    def describe(self, pixels: Iterable[Pixels]) -> Array:
        """Return the descriptors (N, C) of any number of pictures as the store keeps them, computed in batches."""
        parts = [self.network.describe(batch) for batch in batched(pixels, _BATCH)]
        return np.concatenate(parts) if parts else np.empty((0, self.bundle.head.weight.shape[1]), np.float32)

    def activate(self, pixels: Sequence[Pixels]) -> Features:
        """Return the exact activations and descriptors of one or more pictures, computed in batches."""
        parts = [self.network.activate(batch) for batch in batched(pixels, _BATCH)]
        return Features(
            np.concatenate([part.activations for part in parts]), np.concatenate([part.descriptors for part in parts])
        )

    def at_size(self, size: int | None) -> Encoder:
        """Return the same model for pictures of another size, for finer heatmaps; None: its own."""
        card = self.bundle.card
        if size is None or size == card.preprocessing.size:
            return self
        with self._lock:
            if size not in self._by_size:
                preprocessing = replace(card.preprocessing, size=size)
                bundle = replace(self.bundle, card=replace(card, preprocessing=preprocessing, digests={}))
                self._by_size[size] = Encoder(bundle, self.device, self._progress)
            return self._by_size[size]


def _fetch_remote(source: Source) -> Source | PictureError:
    """Return the bytes at an address, and any other source as it is."""
    if not isinstance(source, str) or not is_address(source):
        return source
    try:
        return bytes_at(source)
    except PictureError as error:
        return error.with_name(source)
