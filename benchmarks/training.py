"""How long an epoch takes: the fast preset's, beside the paper's scheme on the same backbone and pictures, in turn.

The fast preset's epoch is the one that `retrieve train` runs: its loader, its augmentation and its validation are
counted. The paper's is the scheme of its published notebook: each picture with one of its class and one of another,
each pair through the whole backbone twice, so four passes a picture, in float32 and without augmentation; nothing but
its steps is counted. What is decoded once, before the first epoch, counts for neither.

The seconds are this machine's of the day; the ratio is what compares.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from support.galleries import GENERATED_CLASSES, generate
from support.machine import facts, machine, medians, versions, write
from torch import Tensor

from retrieval.datasets.class_folders import DataSet, find_samples, read_pixels
from retrieval.datasets.pair_sampling import Codes, random_pairs
from retrieval.model.backbones import Backbone, build_backbone
from retrieval.model.preprocessing import Pixels
from retrieval.model.siamese import SiameseNetwork
from retrieval.training.losses import contrastive_loss
from retrieval.training.presets import FAST, Preset
from retrieval.training.trainer import Epoch, Subset, Trainer

PICTURES = 200
ROUNDS = 3
OURS = "fast preset"
PAPERS = "paper's scheme"
PAIRS = 32  # in a batch of the paper's scheme
RATE = 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", type=Path, help="a folder of class folders; else pictures are generated")
    parser.add_argument("--pictures", type=int, default=PICTURES, help=f"to train on [default: {PICTURES}]")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"epochs of each [default: {ROUNDS}]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it there, for machines")
    chosen = parser.parse_args()
    result = measure(chosen.dataset, chosen.pictures, chosen.rounds)
    print(report(result))
    write(result, chosen.json)


def measure(dataset: Path | None, pictures: int, rounds: int, preset: Preset = FAST) -> dict[str, Any]:
    """Return the machine, the set-up, every sample in seconds, pictures per second, and the ratio of the medians."""
    preset = replace(preset, epochs=rounds, warm_up=0)
    trunk = build_backbone(preset.backbone)
    whole, crops = preset.input_size or trunk.preprocessing.size, preset.size or trunk.preprocessing.size
    with tempfile.TemporaryDirectory() as folder, _some(dataset, pictures) as chosen:
        work = Path(folder)
        kept, pixels = read_pixels(chosen, whole, work / "whole.npy")
        small = read_pixels(kept, crops, work / "small.npy")[1]
        parts = _parts(kept.codes, pictures)
        samples = _in_turn(trunk, preset, (pixels, small), parts, work / "checkpoint")
    middle = medians(samples)
    count = len(parts[0].rows)
    return {
        "machine": machine(),
        "setup": {
            **versions("torch"),
            "threads": torch.get_num_threads(),
            "pictures of": dataset.name if dataset else "generated",
            "pictures": count,
            "validated with": len(parts[1].rows),
            "backbone": preset.backbone,
            OURS: f"batches of {preset.batch} at {crops}, {preset.frozen:.0%} of the stages frozen,"
            f" bfloat16 {'where there is' if preset.bfloat16 else 'off'}",
            PAPERS: f"batches of {PAIRS} pairs at {crops}, nothing frozen, float32",
            "rounds": rounds,
            "order": "in turn",
        },
        "seconds": samples,
        "medians": middle,
        "pictures_a_second": {name: count / taken for name, taken in middle.items()},
        "ratio": middle[PAPERS] / middle[OURS],
    }


def report(result: dict[str, Any]) -> str:
    """Return the result as text."""
    lines = [
        f"{name}: median {result['medians'][name]:.2f} s, {result['pictures_a_second'][name]:.1f} pictures/s, of "
        + " ".join(f"{each:.2f}" for each in taken)
        for name, taken in result["seconds"].items()
    ]
    return "\n".join([*facts(result), *lines, f"an epoch of the paper's takes {result['ratio']:.2f} times as long"])


def _in_turn(
    trunk: Backbone, preset: Preset, pixels: tuple[Pixels, Pixels], parts: tuple[Subset, Subset], checkpoint: Path
) -> dict[str, list[float]]:
    """Seconds of each epoch: one of the paper's after each of the training's."""
    samples: dict[str, list[float]] = {OURS: [], PAPERS: []}
    papers = _papers_epochs(pixels[1], parts[0])

    def on_epoch(history: list[Epoch]) -> None:
        samples[OURS].append(history[-1].seconds)
        samples[PAPERS].append(next(papers))

    pre = replace(trunk.preprocessing, size=pixels[0].shape[1])
    ours = replace(trunk, preprocessing=pre)
    Trainer(ours, preset, pixels[0], parts, 0, checkpoint, on_epoch=on_epoch).run()
    return samples


def _papers_epochs(pixels: Pixels, part: Subset) -> Iterator[float]:
    """Seconds of one epoch after another of the paper's scheme."""
    trunk = build_backbone(FAST.backbone)
    pre = trunk.preprocessing
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (pre.mean, pre.std))
    model = SiameseNetwork(trunk.module, trunk.channels).train()
    optimizer = torch.optim.Adam(model.parameters(), RATE)

    def taken(places: Codes) -> Tensor:
        pictures = torch.from_numpy(pixels[part.rows[places]]).permute(0, 3, 1, 2)
        return (pictures.float() - mean) / std

    epoch = 0
    while True:
        started = time.perf_counter()
        first, second, similar = random_pairs(part.codes, epoch)
        order = np.random.default_rng(epoch).permutation(len(first))
        for start in range(0, len(order), PAIRS):
            batch = order[start : start + PAIRS]
            d = model(taken(first[batch]), taken(second[batch]))
            loss = contrastive_loss(d, torch.from_numpy(~similar[batch]).float())
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        yield time.perf_counter() - started
        epoch += 1


def _parts(codes: Codes, pictures: int) -> tuple[Subset, Subset]:
    """So many to train on, and the rest to validate with."""
    rows = np.arange(len(codes))
    return Subset(rows[:pictures], codes[:pictures]), Subset(rows[pictures:], codes[pictures:])


@contextmanager
def _some(dataset: Path | None, pictures: int) -> Iterator[DataSet]:
    """So many pictures and a tenth more, drawn with a seed; generated ones without a data set."""
    count = pictures + max(pictures // 10, 4 * GENERATED_CLASSES)
    with tempfile.TemporaryDirectory() as folder:
        if dataset is None:
            dataset = Path(folder)
            generate(dataset, count)
        found = find_samples(dataset)
        order = np.random.default_rng(0).permutation(len(found.samples))[:count]
        yield DataSet(found.folder, tuple(found.samples[place] for place in order), found.left_out)


if __name__ == "__main__":
    main()
