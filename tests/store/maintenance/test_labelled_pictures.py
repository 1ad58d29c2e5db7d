"""Labelled pictures and their hits: as by comparing all, without copies, and through an index where there are many."""

from pathlib import Path

import numpy as np
import pytest

from retrieval.store.maintenance import labelled_pictures as module
from retrieval.store.maintenance.index_sync import open_index
from retrieval.store.maintenance.labelled_pictures import MOST_HITS, draw_labelled, find_hits
from tests.support.labelled import CHANNELS, MODEL, a_bundle, a_catalogue, classes

HEAD = a_bundle().head


def test_hits_are_the_nearest_others_by_the_head(tmp_path: Path) -> None:
    labelled = draw_labelled(a_catalogue(tmp_path, classes(4, 60)), MODEL, 0)
    found = find_hits(a_catalogue(tmp_path / "same", classes(4, 60)), HEAD, MODEL, labelled)
    u = HEAD.embed(labelled.descriptors)
    expected = np.linalg.norm(u[:, None] - u, axis=2)
    np.fill_diagonal(expected, np.inf)
    order = np.argsort(expected, axis=1)[:, :MOST_HITS]
    np.testing.assert_allclose(found.separations, np.take_along_axis(expected, order, 1), atol=1e-4)
    right = labelled.codes[order] == labelled.codes[:, None]
    assert np.mean(found.right == right) > 0.999  # but for ties
    assert found.findable.all()


def test_copies_are_no_hits_and_pictures_alone_are_not_findable(tmp_path: Path) -> None:
    made = classes(2, 3) | {"alone": classes(1, 1, seed=5)["class-0"], "": np.ones((2, CHANNELS), np.float32)}
    made["class-0"][1] = made["class-0"][0]
    catalogue = a_catalogue(tmp_path, made)
    labelled = draw_labelled(catalogue, MODEL, 0)
    assert labelled.share == pytest.approx(7 / 9)
    found = find_hits(catalogue, HEAD, MODEL, labelled)
    codes = [labelled.code_of[name] for name in ("class-0", "class-1", "alone")]
    there = np.isfinite(found.separations).sum(axis=1)
    assert sorted(there[found.codes == codes[0]]) == [5, 5, 6]  # a picture and its copy have five others
    assert (there[found.codes == codes[1]] == 6).all()
    assert found.findable.tolist() == [code != codes[2] for code in found.codes.tolist()]
    assert not found.right[found.codes == codes[2]].any()


def test_a_large_index_finds_the_hits_of_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = a_catalogue(tmp_path, classes(4, 60, spread=0.1))
    labelled, index = draw_labelled(catalogue, MODEL, 0), open_index(catalogue, MODEL)
    exact = find_hits(catalogue, HEAD, MODEL, labelled, index)
    monkeypatch.setattr(module, "_EXHAUSTIVE", 100)
    monkeypatch.setattr(module, "_SEARCHED", 50)
    found = find_hits(catalogue, HEAD, MODEL, labelled, index)
    assert len(exact.codes) == 240
    assert len(found.codes) == len(found.separations) == 50
    np.testing.assert_allclose(found.separations[:, :20], exact.separations[:50, :20], atol=1e-4)
