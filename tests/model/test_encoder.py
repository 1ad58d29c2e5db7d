"""The encoder: descriptors of any number of pictures, broken pairs, and the network's memory."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from retrieval.common.errors import ModelError
from retrieval.model import encoder as encoder_module
from retrieval.model.bundle import Bundle
from retrieval.model.encoder import Encoder
from retrieval.model.preprocessing import Source
from tests.support.generated import blocks


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


def test_pairs_with_a_broken_picture_give_their_errors(tiny_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    pictures: list[Source] = [blocks(0), tmp_path / "empty.png", blocks(2), blocks(3)]
    encoder = Encoder(tiny_bundle, "cpu")
    pairs = encoder.decode_pairs(pictures[:3], [pictures[3], pictures[2], tmp_path / "absent.png"])
    assert pairs.rows == [0]
    np.testing.assert_array_equal(pairs.first, [encoder.decode(pictures[0])])
    np.testing.assert_array_equal(pairs.second, [encoder.decode(pictures[3])])
    assert [error.reason for error in pairs.errors] == ["is empty", "does not exist"]
    assert encoder.decode_pairs([], []).rows == []


def test_descriptors_of_a_stream_are_those_of_a_list(tiny_bundle: Bundle) -> None:
    encoder = Encoder(tiny_bundle, "cpu")
    pixels = [encoder.decode(blocks(seed)) for seed in range(3)] * 12  # more than a batch
    np.testing.assert_array_equal(encoder.describe(iter(pixels)), np.tile(encoder.describe(pixels[:3]), (12, 1)))


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


def test_a_network_loaded_ahead_is_opened_once_and_a_broken_one_fails_on_use(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = count_opened(monkeypatch)
    encoder = Encoder(tiny_bundle, "cpu")
    encoder.load_ahead(explains=True, size=320)
    encoder.load()
    encoder.at_size(320).load()
    assert sizes == [224, 320]

    def broken(*_: object) -> None:
        raise ModelError("cannot be run")

    monkeypatch.setattr(encoder_module, "open_network", broken)
    encoder = Encoder(tiny_bundle, "cpu")
    encoder.load_ahead(explains=False)
    with pytest.raises(ModelError, match="cannot be run"):
        encoder.load()
