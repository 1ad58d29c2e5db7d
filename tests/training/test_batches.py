"""Tests of batches: determined by seed, epoch and position alone, for any number of workers."""

import multiprocessing
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from retrieval.datasets.pair_sampling import all_pairs
from retrieval.training import batches
from retrieval.training.batches import Loader, PairBatch, epoch_batches
from retrieval.training.presets import Preset
from tests.support.training import BRIEF, make_pixels

PIXELS, PART = make_pixels()
AUGMENTED = replace(BRIEF, augment=True, size=24)


def loaded(seed: int, epoch: int, preset: Preset = AUGMENTED) -> list[tuple[PairBatch, Tensor]]:
    batches = epoch_batches(preset, PART.codes, seed, epoch)
    return list(Loader(PIXELS, PART.rows, preset, seed).load(batches, epoch))


def joined(found: list[tuple[PairBatch, Tensor]]) -> Tensor:
    return torch.cat([pictures for _, pictures in found])


def test_the_same_seed_and_epoch_give_the_same_pictures_with_any_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    with_two = joined(loaded(3, 1))
    assert with_two.dtype == torch.uint8
    assert with_two.shape == (24, 3, 24, 24)
    for workers in (0, 1):
        monkeypatch.setattr(batches, "_WORKERS", workers)
        torch.manual_seed(workers)
        assert torch.equal(joined(loaded(3, 1)), with_two)
    monkeypatch.setattr(batches, "_WORKERS", 0)
    for seed, epoch in ((3, 2), (4, 1)):
        others = loaded(seed, epoch)
        assert not torch.equal(joined(others), with_two)


def test_augmentation_leaves_the_process_s_random_numbers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_WORKERS", 0)
    drawn = []
    for preset in (AUGMENTED, BRIEF):
        torch.manual_seed(5)
        loaded(3, 1, preset)
        drawn.append(torch.rand(4))
    assert torch.equal(*drawn)


@pytest.mark.slow
def test_the_same_workers_load_every_epoch() -> None:
    loader = Loader(PIXELS, PART.rows, AUGMENTED, 3)
    pids = set()
    for epoch in (1, 2, 1):
        found = list(loader.load(epoch_batches(AUGMENTED, PART.codes, 3, epoch), epoch))
        pids.add(tuple(sorted(child.pid or 0 for child in multiprocessing.active_children())))
        assert torch.equal(joined(found), joined(loaded(3, epoch)))
    assert len(pids) == 1
    assert len(pids.pop()) == 2
    loader.close()
    assert not multiprocessing.active_children()


def test_a_picture_twice_in_an_epoch_is_augmented_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_WORKERS", 0)
    batch = PairBatch(np.array([4, 4]), *all_pairs(2))
    ((_, pictures),) = Loader(PIXELS, PART.rows, AUGMENTED, 0).load([batch], 1)
    assert not torch.equal(pictures[0], pictures[1])


def test_without_augmentation_pictures_are_unchanged() -> None:
    rows = PART.rows[::-1].copy()
    batches = epoch_batches(BRIEF, PART.codes, 0, 1)
    for batch, pictures in Loader(PIXELS, rows, BRIEF, 0).load(batches, 1):
        np.testing.assert_array_equal(pictures.permute(0, 2, 3, 1).numpy(), PIXELS[rows[batch.indices]])


def test_batches_of_all_pairs() -> None:
    batches = epoch_batches(BRIEF, PART.codes, 7, 2)
    assert [len(batch.indices) for batch in batches] == [12, 12]  # 4 classes of 6, in chunks of 3, four to a batch
    for batch in batches:
        assert len(batch.first) == 12 * 11 / 2
        assert (batch.first < batch.second).all()
    assert sorted(np.concatenate([batch.indices for batch in batches])) == list(range(24))


def test_batches_of_random_pairs_are_drawn_anew_each_epoch() -> None:
    preset = replace(BRIEF, pairing="random")

    def pairs(epoch: int) -> set[tuple[int, int]]:
        batches = epoch_batches(preset, PART.codes, 7, epoch)
        return {
            pair
            for batch in batches
            for pair in zip(batch.indices[batch.first].tolist(), batch.indices[batch.second].tolist(), strict=True)
        }

    assert len(pairs(1)) == 48  # two for each picture
    assert pairs(1) == pairs(1)
    assert len(pairs(1) & pairs(2)) < 24
