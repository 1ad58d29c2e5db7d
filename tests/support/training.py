"""Small trunks and their pictures, for the tests of training."""

import numpy as np
import torch
from torch import nn

from retrieval.common.settings import Preprocessing
from retrieval.model.backbones import Backbone
from retrieval.model.preprocessing import Pixels
from retrieval.training.presets import Preset
from retrieval.training.trainer import Subset
from tests.support.generated import picture

SIDE = 32
CHANNELS = 12
BRIEF = Preset(
    backbone="tiny",
    loss="pairs",
    pairing="all",
    epochs=3,
    batch=12,
    rate=1e-3,
    head_rate=3e-3,
    schedule="cosine",
    units=8,
    chunk=3,
    normalize=True,
    standardize=True,
)
"""A training of a second on `tiny_trunk`."""


class Counting(nn.Sequential):
    """Layers that count the pictures they were called with, in `seen`."""

    seen = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        type(self).seen += len(x)
        result: torch.Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return result


def tiny_trunk(side: int = SIDE) -> Backbone:
    """Two convolutions with batch normalisation, the same weights each time: four stages."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        module = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU()),
            nn.Sequential(nn.Conv2d(6, CHANNELS, 3, 2, 1), nn.BatchNorm2d(CHANNELS), nn.ReLU()),
        )
    return Backbone("tiny", module.eval(), Preprocessing(side, (127.0,) * 3, (64.0,) * 3), CHANNELS)


def make_pixels(classes: int = 4, each: int = 6, side: int = SIDE) -> tuple[Pixels, Subset]:
    """Return the same as pixels (N, side, side, 3), class by class, and the subset of all of them."""
    codes = np.repeat(np.arange(classes), each)
    pixels = np.stack([picture(number, int(code), side) for number, code in enumerate(codes)])
    return pixels, Subset(np.arange(len(codes)), codes)
