"""The encoder: descriptors of no pictures, and the network's memory."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from retrieval.model import encoder as encoder_module
from retrieval.model.bundle import Bundle
from retrieval.model.encoder import Encoder


def count_opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replace networks by stand-ins; return the picture sizes of those opened, in order."""
    sizes: list[int] = []

    def opened(bundle: Bundle, *rest: object) -> SimpleNamespace:
        sizes.append(bundle.card.preprocessing.size)
        time.sleep(0.05)  # in which other threads ask for it too
        return SimpleNamespace()

    monkeypatch.setattr(encoder_module, "open_network", opened)
    return sizes


def test_no_pictures_have_no_descriptors(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = count_opened(monkeypatch)
    descriptors = Encoder(tiny_bundle, "cpu").describe([])
    assert descriptors.shape == (0, 1280)
    assert descriptors.dtype == np.float32
    assert not sizes, "the network is not opened for nothing"


def test_networks_of_all_sizes_are_unloaded_and_opened_again_on_use(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = count_opened(monkeypatch)
    encoder = Encoder(tiny_bundle, "cpu")
    for _ in range(2):
        encoder.load()
        encoder.at_size(448).load()
    assert sizes == [224, 448]
    encoder.unload()
    encoder.load()
    encoder.at_size(448).load()
    assert sizes == [224, 448, 224, 448]


def test_threads_open_one_network(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = count_opened(monkeypatch)
    encoder = Encoder(tiny_bundle, "cpu")
    with ThreadPoolExecutor(8) as pool:
        networks = {id(network) for network in pool.map(lambda _: encoder.network, range(64))}
    assert len(networks) == len(sizes) == 1
