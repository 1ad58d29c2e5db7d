"""Settings and defaults that several wings share."""

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import platformdirs

from retrieval.common.errors import SettingError

THRESHOLD = 0.5
"""A pair is `similar` if its distance is below this (section 4 of the paper)."""

FAMILIAR = 0.12
"""A query is foreign to a gallery if fewer of its own pictures than this share have their nearest as far away."""

POOL = 500
"""Candidates that the head rescores; fixed, so that the top 5 are always the first 5 of the top 15."""

RECALL = 0.99
"""The default recall@10 that an index is tuned to."""

MAX_MEGAPIXELS = 200.0
"""The default size up to which a picture is decoded; RETRIEVE_MAX_MEGAPIXELS sets another."""

DEFAULT_MODEL = "default"
"""The name of the shipped model."""


class Device(StrEnum):
    """Devices that a network runs on; `auto` takes a GPU if there is one, else the CPU."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class IndexingBackend(StrEnum):
    """Systems that read and embed galleries: this machine, or a Ray cluster."""

    local = "local"
    ray = "ray"


class MethodName(StrEnum):
    """Methods that make heatmaps; `retrieval/explain/methods/registry.py` implements them."""

    occlusion = "occlusion"
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

DEFAULT_METHOD = MethodName.occlusion
"""The method of queries."""

QUICK_METHOD = MethodName.ensemble
"""The best of the closed forms: for audits of many pairs, and for the first glance."""

GLANCE_FIRST = frozenset((MethodName.occlusion,))
"""Methods that take tenths of a second a picture: a server shows QUICK_METHOD's heatmaps until theirs are ready."""


@dataclass(frozen=True)
class ExplainOptions:
    """Options for explaining pairs: the method, and the picture size (None: the model's own).

    `verify` checks each heatmap by hiding what it marks; `correspond` finds the matching parts of both pictures.
    """

    method: MethodName = DEFAULT_METHOD
    size: int | None = None
    verify: bool = False
    correspond: bool = False


DEFAULT_EXPLAIN = ExplainOptions()


class PresetName(StrEnum):
    """Training presets: minutes on a CPU, or the paper's own scheme."""

    fast = "fast"
    paper = "paper"


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing of a picture for the network: resize to `size` x `size`, then (value - mean) / std.

    `mean` and `std` are per channel, in the units of uint8 values (0 to 255).
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def cache_folder() -> Path:
    """Return the folder for compiled networks: RETRIEVE_CACHE, else the user's cache folder."""
    return Path(os.path.expanduser(os.environ.get("RETRIEVE_CACHE", "")) or platformdirs.user_cache_path("retrieve"))


def max_pixels() -> int:
    """Return the most pixels that a picture may have. Raises SettingError if RETRIEVE_MAX_MEGAPIXELS is no number."""
    chosen = os.environ.get("RETRIEVE_MAX_MEGAPIXELS", str(MAX_MEGAPIXELS))
    try:
        return int(float(chosen) * 1e6)
    except (ValueError, OverflowError) as error:
        raise SettingError(
            f"RETRIEVE_MAX_MEGAPIXELS is {chosen!r}, which is no number: give one, such as 200"
        ) from error


def installed_version(package: str) -> str:
    """Return the installed version of a package; `unknown` if it runs from its source."""
    from importlib.metadata import PackageNotFoundError, version  # which takes 10 ms

    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
