"""Frozen settings that travel between the stages."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import platformdirs

from retrieval.common.errors import SettingError

THRESHOLD = 0.5
"""A pair is `similar` where its distance is below this (section 4 of the paper)."""

CONFIDENCE = 1 - THRESHOLD
"""The similarity from which a hit counts as confidently similar, where nothing else is asked for."""

POOL = 500
"""Candidates that the head rescores; fixed, so that the top 5 are always the first 5 of the top 15."""

RECALL = 0.99
"""The recall@10 that an index is tuned to where nothing else is asked for."""

MAX_MEGAPIXELS = 200.0
"""A picture with more is refused before it is decoded; RETRIEVE_MAX_MEGAPIXELS says otherwise."""

STORE_NAME = ".retrieve"

DEFAULT_MODEL = "default"
"""The name of the shipped model."""


class Device(StrEnum):
    """Where a network may run; `auto` takes a GPU where there is one, else the CPU."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class IndexingBackend(StrEnum):
    """Where galleries are read and embedded: on this machine, or on a Ray cluster."""

    local = "local"
    ray = "ray"


class MethodName(StrEnum):
    """How heatmaps are made; `retrieval/explain/methods.py` has the methods."""

    ensemble = "ensemble"
    gradcam = "gradcam"
    gradcam_plus_plus = "gradcam++"
    xgradcam = "xgradcam"
    hirescam = "hirescam"
    layercam = "layercam"
    integrated = "integrated"
    ablationcam = "ablationcam"
    eigencam = "eigencam"
    local = "local"
    scorecam = "scorecam"
    sbsm = "sbsm"


METHOD_ALIASES = frozenset((MethodName.xgradcam, MethodName.hirescam))
"""Other names of `gradcam`: after average pooling these methods are Grad-CAM (docs/EXPLANATIONS.md)."""

SLOW_METHODS = frozenset((MethodName.scorecam, MethodName.sbsm))
"""Methods that run the network up to a thousand times a picture."""

DEFAULT_METHOD = MethodName.ensemble
"""The one whose heatmaps the measurements of docs/EXPLANATIONS.md favour."""


@dataclass(frozen=True)
class ExplainOptions:
    """How pairs are explained: by which method, and at which picture size (None: the model's own).

    `verify` checks each heatmap by hiding what it names, `correspond` tells which parts of both pictures match.
    """

    method: MethodName = DEFAULT_METHOD
    size: int | None = None
    verify: bool = False
    correspond: bool = False


DEFAULT_EXPLAIN = ExplainOptions()


class PresetName(StrEnum):
    """How a model is trained: in minutes on a CPU, or as the paper trains."""

    fast = "fast"
    paper = "paper"


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the network's input: brought to `size` x `size`, then (value - mean) / std.

    `mean` and `std` are per channel, in the units of uint8 values (0 to 255).
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def cache_folder() -> Path:
    """The folder for prepared networks: RETRIEVE_CACHE, else the user's cache folder."""
    chosen = os.environ.get("RETRIEVE_CACHE")
    return Path(chosen) if chosen else platformdirs.user_cache_path("retrieve")


def max_pixels() -> int:
    """The most pixels that a picture may have. Raises SettingError where the environment's value is no number."""
    chosen = os.environ.get("RETRIEVE_MAX_MEGAPIXELS", str(MAX_MEGAPIXELS))
    try:
        return int(float(chosen) * 1e6)
    except (ValueError, OverflowError) as error:
        raise SettingError(
            f"RETRIEVE_MAX_MEGAPIXELS is {chosen!r}, which is no number: give one, such as 200"
        ) from error


def find_store(start: Path) -> Path:
    """The store to use from `start`: the nearest `.retrieve` upwards, as git finds `.git`; else one here."""
    for folder in (start, *start.parents):
        if (folder / STORE_NAME).is_dir():
            return folder / STORE_NAME
    return start / STORE_NAME


def installed_version(package: str) -> str:
    """The installed version of a package; `unknown` where it is run from its source."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
