"""The grid pointing game: shares by hand, fair grids, and a model that points."""

from pathlib import Path

import numpy as np
import pytest

from retrieval.commands.demo_gallery import make_gallery
from retrieval.common.errors import GalleryError
from retrieval.common.settings import MethodName
from retrieval.datasets.class_folders import DataSet, Sample, find_samples
from retrieval.evaluation.heatmaps.pointing_game import draw_grids, play_pointing_game, quarter_share
from retrieval.model.bundle import Bundle, find_bundle
from retrieval.model.encoder import Encoder


def data(classes: int, pictures: int = 2) -> DataSet:
    samples = [
        Sample(Path(f"{name}/{place}.png"), str(name), f"{name}-{place}")
        for name in range(classes)
        for place in range(pictures)
    ]
    return DataSet(Path("set"), tuple(samples), ())


def test_shares_by_hand() -> None:
    heat = np.zeros((2, 2), np.float32)
    heat[0, 1] = 1
    assert quarter_share(heat, 1) > 0.75  # a little is drawn over the border
    assert quarter_share(heat, 2) < 0.02
    assert quarter_share(np.ones((7, 7), np.float32), 3) == pytest.approx(0.25)
    assert quarter_share(np.zeros((7, 7), np.float32), 0) == 0.25


def test_a_grid_shows_four_classes_and_the_hit_is_another_picture_of_one() -> None:
    grids = draw_grids(data(6, 3), 50, seed=1)
    assert grids == draw_grids(data(6, 3), 50, seed=1)
    assert {grid.quarter for grid in grids} == {0, 1, 2, 3}
    for grid in grids:
        assert len({path.parent for path in grid.pictures if path}) == 4
        shown = grid.pictures[grid.quarter]
        assert shown
        assert shown.parent == grid.hit.parent
        assert shown != grid.hit


@pytest.mark.parametrize("objects", [2, 3])
def test_a_grid_of_fewer_pictures_is_one_of_four_with_empty_quarters(objects: int) -> None:
    grids, whole = (draw_grids(data(6, 3), 60, 1, count) for count in (objects, 4))
    left: set[tuple[int, ...]] = set()
    for grid, four in zip(grids, whole, strict=True):
        assert (grid.hit, grid.quarter) == (four.hit, four.quarter)
        filled = [place for place, path in enumerate(grid.pictures) if path]
        assert len(filled) == objects
        assert grid.quarter in filled
        assert all(grid.pictures[place] == four.pictures[place] for place in filled)
        left.add((grid.quarter, *filled))
    assert len(left) == 4 * 3  # every quarter with every choice of the others


@pytest.mark.parametrize("few", [data(3), data(5, pictures=1)])
def test_too_few_classes_or_pictures_make_no_grid(few: DataSet) -> None:
    with pytest.raises(GalleryError, match="too few classes"):
        draw_grids(few, 1, seed=0)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """Make the demo's gallery: several views of some real photographs."""
    pytest.importorskip("skimage")
    return find_samples(make_gallery(tmp_path_factory.mktemp("grids"))[0])


@pytest.mark.parametrize("size", [None, 320])
def test_the_default_model_points_at_what_is_alike(photographs: DataSet, size: int | None) -> None:
    grids = draw_grids(photographs, 8, seed=0)
    comparer = Encoder(find_bundle("default"), "cpu")
    shares = play_pointing_game(grids, comparer, [MethodName.ensemble, MethodName.eigencam], size)
    assert shares["Ensemble"].mean > 0.6
    assert shares["Ensemble"].low <= shares["Ensemble"].mean <= shares["Ensemble"].high
    assert shares["Eigen-CAM"].mean < 0.5  # which says what is there, whatever the hit


@pytest.mark.parametrize(("objects", "part"), [(2, 0.5), (3, 1 / 3)])
def test_what_hiding_finds_is_the_picture_that_the_hit_shows(photographs: DataSet, objects: int, part: float) -> None:
    grids = draw_grids(photographs, 6, 0, objects)
    shares = play_pointing_game(grids, Encoder(find_bundle("default"), "cpu"), [MethodName.occlusion])
    assert shares["Occlusion"].mean > part + 0.1
    assert shares["Random"].mean == pytest.approx(0.25, abs=0.05)
    assert shares["Edges"].mean == pytest.approx(part, abs=0.2)  # which finds what is not empty


def test_a_grid_that_cannot_be_read_is_left_out(tiny_bundle: Bundle) -> None:
    shares = play_pointing_game(draw_grids(data(4), 3, seed=0), Encoder(tiny_bundle, "cpu"), [MethodName.gradcam])
    assert shares["Grad-CAM"].mean == 0
