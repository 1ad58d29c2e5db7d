"""The grid pointing game: whether the evidence lies in the quarter of the query that shows the hit's class.

After Bohle et al. (2021, Convolutional Dynamic Alignment Networks), for pairs: the query is a grid of four pictures of
different classes, the hit another picture of one of these classes. The score is the share of the evidence for
similarity in the right quarter; a uniform heatmap scores a quarter. Grids of two and three have empty quarters, in the
mean colour: a heatmap that only finds what is not empty scores a half, or a third.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from retrieval.common.errors import GalleryError, PictureError
from retrieval.common.metrics import Interval, bootstrap
from retrieval.common.parallel import batched
from retrieval.common.progress import SILENT, Progress
from retrieval.common.settings import MethodName
from retrieval.datasets.class_folders import DataSet
from retrieval.evaluation.heatmaps.baselines import BASELINES
from retrieval.explain.hiding import upsample
from retrieval.explain.methods.registry import METHODS, Method
from retrieval.explain.pair_explainer import PairExplainer
from retrieval.model.encoder import Encoder
from retrieval.model.head import Array
from retrieval.model.preprocessing import Pixels, read_at_size

CHANCE = 0.25
_TOGETHER = 16  # grids whose activations are held at once
_CELLS = 64  # a side of a quarter in which evidence is summed


@dataclass(frozen=True)
class Grid:
    """Four quarters by rows: pictures of different classes (None: empty). One is of the hit's class; and the hit."""

    pictures: tuple[Path | None, ...]
    quarter: int
    hit: Path


def draw_grids(dataset: DataSet, count: int, seed: int, objects: int = 4) -> list[Grid]:
    """Draw random grids of two to four pictures; those of fewer equal those of four, but for what they leave out.

    Raises GalleryError if there are fewer than four classes, one with two pictures.
    """
    random = np.random.default_rng(seed)
    members: dict[str, list[Path]] = defaultdict(list)
    for sample in dataset.samples:
        members[sample.label].append(sample.path)
    several = [name for name in sorted(members) if len(members[name]) > 1]
    if len(members) < 4 or not several:
        raise GalleryError(f"{dataset.folder} has too few classes for grids of four: leave out --grids")
    grids = [_grid(members, several, random) for _ in range(count)]
    return [_leave_out(grid, 4 - objects, number) for number, grid in enumerate(grids)]


def _grid(members: dict[str, list[Path]], several: list[str], random: np.random.Generator) -> Grid:
    """Draw a grid; the hit's class gives two pictures: one in the grid, one as the hit."""
    target = str(random.choice(several))
    others = random.choice([name for name in sorted(members) if name != target], 3, replace=False)
    shown, hit = random.choice(len(members[target]), 2, replace=False)
    quarter = int(random.integers(4))
    pictures = [members[name][int(random.integers(len(members[name])))] for name in others]
    pictures.insert(quarter, members[target][shown])
    return Grid(tuple(pictures), quarter, members[target][hit])


def _leave_out(grid: Grid, count: int, turn: int) -> Grid:
    """Empty some of the three quarters that do not show the hit's class, in turn."""
    empty = {(grid.quarter + 1 + (turn + step) % 3) % 4 for step in range(count)}
    return replace(grid, pictures=tuple(None if place in empty else path for place, path in enumerate(grid.pictures)))


def play_pointing_game(
    grids: Sequence[Grid],
    encoder: Encoder,
    methods: Sequence[MethodName],
    size: int | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> dict[str, Interval]:
    """Return each method's and baseline's mean share of the evidence in the right quarter, with its 95 % interval.

    The grid is `size` pixels wide (None: the model's size), the hit has the model's size. An empty map counts as a
    uniform one. A grid with unreadable pictures is left out.
    """
    explainer = PairExplainer(encoder.at_size(size), encoder.bundle.head)
    makers: dict[str, Method] = {METHODS[name].title: METHODS[name].run for name in methods} | BASELINES
    shares: dict[str, list[float]] = {title: [] for title in makers}
    with progress.stage("Pointing", len(grids)) as stage:
        for batch in batched(grids, _TOGETHER):
            read = [(*pixels, grid.quarter) for grid in batch if (pixels := _read(grid, encoder, size)) is not None]
            if read:
                mosaics, hits, quarters = zip(*read, strict=True)
                side = explainer.inputs(mosaics, encoder.describe(hits))
                for title, make in makers.items():
                    similar = make(side)[1]  # lowers the distance, whatever the verdict
                    shares[title] += map(quarter_share, similar, quarters)
            stage.advance(len(batch))
    return {title: bootstrap(np.array(found), seed) for title, found in shares.items()}


def quarter_share(heatmap: Array, quarter: int) -> float:
    """Return the share of a heatmap (h, w), at least 0, in a quarter (0 to 3, by rows), upsampled as it is drawn."""
    large = upsample(heatmap, 2 * _CELLS)
    top, left = (_CELLS * place for place in divmod(quarter, 2))
    whole = float(large.sum())
    return float(large[top : top + _CELLS, left : left + _CELLS].sum()) / whole if whole > 0 else CHANCE


def _read(grid: Grid, encoder: Encoder, size: int | None) -> tuple[Pixels, Pixels] | None:
    """Return the grid and the hit as pixels."""
    preprocessing = encoder.bundle.card.preprocessing
    half = (size or preprocessing.size) // 2
    empty = np.full((half, half, 3), preprocessing.mean).astype(np.uint8)
    try:
        parts = [read_at_size(path, half)[0] if path else empty for path in grid.pictures]
        rows = [np.concatenate(parts[first : first + 2], axis=1) for first in (0, 2)]
        return np.concatenate(rows), encoder.decode(grid.hit)
    except PictureError:
        return None
