"""`limit.py GALLERY`: what bounds indexing, each part alone, in a process of its own.

It prints JSON, seconds a picture: `decode`, from a file to the network's pixels on one thread; `network`, descriptors
of decoded pictures on all cores. Of these and for orientation only: `read`, which
is JPEG's decoding with its colours, and `resize`, the two parts of `decode`, measured apart; and `hash`, which
indexing does besides.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from retrieval.model.bundle import find_bundle
from retrieval.model.inference import Network, open_network
from retrieval.model.preprocessing import Pixels, read_at_size, read_image, to_pixels
from retrieval.sources.files import content_hash, open_file
from retrieval.store.indexing.pipeline import BATCH_SIZE
from support.galleries import pictures
from support.machine import timed

AT_MOST = 1024  # pictures, so that their pixels fit into memory

T = TypeVar("T")


def main() -> None:
    files = pictures(Path(sys.argv[1]))[:AT_MOST]
    bundle = find_bundle("default")
    network, size = open_network(bundle, "cpu"), bundle.card.preprocessing.size
    pixels: list[Pixels] = []
    parts = {"decode": timed(lambda: pixels.extend(read_at_size(path, size)[0] for path in files))}
    parts |= _split(files, size) | {"hash": timed(lambda: _drain(_hash, files))}
    parts["network"] = _described(network, pixels)
    print(json.dumps({name: seconds / len(files) for name, seconds in parts.items()}))


def _split(files: list[Path], size: int) -> dict[str, float]:
    """Seconds to read all and to resize all, of one picture after the other: not all fit into memory at once."""
    seconds = {"read": 0.0, "resize": 0.0}
    for path in files:
        started = time.perf_counter()
        image, _ = read_image(path, size)
        decoded = time.perf_counter()
        to_pixels(image, size)
        seconds["read"] += decoded - started
        seconds["resize"] += time.perf_counter() - decoded
    return seconds


def _described(network: Network, pixels: list[Pixels]) -> float:
    """Seconds for all at once, after some."""
    network.describe(pixels[:BATCH_SIZE])
    return timed(lambda: network.describe(pixels))


def _hash(path: Path) -> None:
    with open_file(path) as file:
        content_hash(file)


def _drain(act: Callable[[T], object], on: Iterable[T]) -> None:
    for each in on:
        act(each)


if __name__ == "__main__":
    main()
