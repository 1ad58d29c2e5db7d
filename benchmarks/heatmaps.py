"""How long the heatmaps of five hits take, beside the public grad-cam package on the same network (plain_maps.py).

All in one process, warm, in turn; pictures are decoded before, and for the package also normalised. Ours is one pass of
the query and its hits through the compiled network and the closed form: for each pair two pictures' maps for the
verdict and against it. The package's are the same twenty maps, of y = d and y = 1 - d, by twenty calls for one picture
each, and by four calls for five; it also brings them to the size of the picture, which ours leaves to the overlay.

Beside them, five hits found out by hiding (`occlusion`), with the forward passes that this takes.

That both give the same maps is measured as well: the greatest difference of any place of a map, before resizing, cut at
0, over its greatest value.

The seconds are this machine's of the day; the ratio is what compares.
"""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from support.galleries import gallery, pictures
from support.machine import facts, in_turn, machine, medians, sample_lines, timed, versions, write
from support.plain_maps import RawGradCAM, package_maps
from torch import Tensor

from retrieval.common.settings import ExplainOptions, MethodName
from retrieval.explain.explanation import Explanation
from retrieval.explain.pair_explainer import PairExplainer
from retrieval.model.bundle import find_bundle
from retrieval.model.encoder import Encoder
from retrieval.model.head import Array
from retrieval.model.preprocessing import Pixels, normalise
from retrieval.model.siamese import load_model

PICTURES = 100
ROUNDS = 10
TOP = 5
OURS = "retrieve"
FOUND_OUT = "retrieve, occlusion"
SINGLY = "grad-cam, 20 calls"
TOGETHER = "grad-cam, 4 calls"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="a folder of pictures; else they are generated")
    parser.add_argument("--pictures", type=int, default=PICTURES, help=f"to choose hits of [default: {PICTURES}]")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"runs of each [default: {ROUNDS}]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it there, for machines")
    chosen = parser.parse_args()
    result = measure(chosen.folder, chosen.pictures, chosen.rounds)
    print(report(result))
    write(result, chosen.json)


def measure(folder: Path | None, count: int = PICTURES, rounds: int = ROUNDS, warm_ups: int = 1) -> dict[str, Any]:
    """Return the machine, the set-up, every sample in seconds, the medians, the ratios, and the maps' difference."""
    comparer = Encoder(find_bundle("default"), "cpu")
    with gallery(folder, count) as place:
        chosen, distances = _hits(comparer, [comparer.decode(path) for path in pictures(place)[:count]])
    siamese, x = load_model("default"), _inputs(comparer, chosen)
    explainer = PairExplainer(comparer, comparer.bundle.head)

    def ours(method: MethodName = MethodName.gradcam) -> list[Explanation]:
        return explainer.explain_query(chosen[0], chosen[1:], distances, ExplainOptions(method))

    def package(batch: int) -> Callable[[], Array]:
        return lambda: package_maps(siamese, x[:1], x[1:], batch)

    runs: dict[str, Callable[[], object]] = {
        OURS: ours,
        FOUND_OUT: lambda: ours(MethodName.occlusion),
        SINGLY: package(1),
        TOGETHER: package(TOP),
    }
    difference = largest_difference(ours(), package_maps(siamese, x[:1], x[1:], 1, RawGradCAM))
    timers = {name: lambda run=run: timed(run) for name, run in runs.items()}
    in_turn(timers, warm_ups)
    samples = in_turn(timers, rounds)
    middle = medians(samples)
    return {
        "machine": machine(),
        "setup": {
            **versions("torch", "openvino", "grad-cam"),
            "threads of torch": torch.get_num_threads(),
            "pictures of": folder.name if folder else "generated",
            "distances": [round(float(distance), 6) for distance in distances],
            "heatmaps": 4 * len(distances),
            "warm_ups": warm_ups,
            "rounds": rounds,
            "order": "in turn",
        },
        "seconds": samples,
        "medians": middle,
        "ratios": {name: middle[name] / middle[OURS] for name in (SINGLY, TOGETHER)},
        "passes": _passes(lambda: ours(MethodName.occlusion)),
        "largest_difference": difference,
    }


def report(result: dict[str, Any]) -> str:
    """Return the result as text."""
    ratios = [f"{name} takes {ratio:.1f} times as long" for name, ratio in result["ratios"].items()]
    difference = f"largest difference of two maps: {result['largest_difference']:.1e}"
    passes = f"{FOUND_OUT} described {result['passes']} pictures"
    return "\n".join([*facts(result), *sample_lines(result["seconds"], "ms", 1000), *ratios, passes, difference])


def largest_difference(explanations: list[Explanation], maps: Array) -> float:
    """Of ours and the package's maps (2, 2, N, h, w) of y and 1 - y, each cut at 0 and over its greatest value."""
    differences = []
    for number, found in enumerate(explanations):
        for side, heat in enumerate((found.query, found.hit)):
            kinds = (heat.factual, heat.counterfactual)
            ours = kinds if found.verdict == "different" else kinds[::-1]
            differences += [np.abs(_scaled(ours[kind]) - _scaled(maps[kind, side, number])).max() for kind in (0, 1)]
    return float(max(differences))


def _passes(explain: Callable[[], object]) -> int:
    """Return how many changed pictures are described, beside those whose activations are computed."""
    passes, describe = 0, Encoder.describe

    def counted(encoder: Encoder, pixels: Iterable[Pixels]) -> Array:
        nonlocal passes
        pictures = list(pixels)
        passes += len(pictures)
        return describe(encoder, pictures)

    with patch.object(Encoder, "describe", counted):
        explain()
    return passes


def _hits(comparer: Encoder, pixels: list[Pixels]) -> tuple[list[Pixels], NDArray[np.float64]]:
    """Return the first picture and its hits among the different ones, with the distances (TOP,)."""
    head = comparer.bundle.head
    u = head.embed(comparer.describe(pixels))
    separations = head.separation(u[0], u)
    order = [place for place in np.argsort(separations, kind="stable") if separations[place] > 0][:TOP]
    return [pixels[0], *(pixels[place] for place in order)], head.distance(separations[order])


def _inputs(comparer: Encoder, pixels: list[Pixels]) -> Tensor:
    """Float32 (B, 3, H, W), as torch's network wants them."""
    return torch.from_numpy(np.stack([normalise(each, comparer.bundle.card.preprocessing) for each in pixels]))


def _scaled(heat: Array) -> Array:
    positive = np.maximum(heat, 0)
    most = positive.max()
    return positive / most if most > 0 else positive


if __name__ == "__main__":
    main()
