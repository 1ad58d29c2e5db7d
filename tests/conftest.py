"""What the tests share: generated pictures, a small bundle, and a cache folder of their own."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from retrieval.model.bundle import Bundle
from retrieval.rendering.presentation import ResultView, build_result_view
from tests.support.bundles import Tensors, altered_bundle
from tests.support.generated import CLASSES, PICTURES_A_CLASS, blocks
from tests.support.hiding import hide_few_regions
from tests.support.hits import a_hit, explanation, same
from tests.support.objects import objects, s3, web
from tests.support.postgres import address_of, postgres

if TYPE_CHECKING:
    from tests.support.store import Indexed

__all__ = ["address_of", "objects", "postgres", "s3", "web"]  # fixtures


_MARKS = {  # by what the path of a test holds
    "end_to_end": "process",
    "end_to_end/test_page": "browser",
    "end_to_end/test_resume": "train",
    "main_job": "milvus",
    "milvus": "milvus",
    "postgres": "postgres",
    "ray": "ray",
    "training": "train",
}
_NO_TORCH = pytest.mark.skip(reason="needs torch: pip install '.[train]'")

_NAMES = r"\\xff|\\udc|/proc/|small_disk"  # names that are not UTF-8, and what only Linux has
_LACKING = {  # by system, what the source of a test has that cannot run there
    "darwin": re.compile(_NAMES),
    "win32": re.compile(f"{_NAMES}|/dev/|symlink_to|mkfifo|chmod|read_only|unprivileged|SIGKILL"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests by the folder that they lie in, those of both databases by the one that they use, and skip some.

    A module that imports torch needs it as a whole, other tests say so by their mark.
    """
    for item in items:
        path = item.path.relative_to(item.config.rootpath).as_posix()
        for part, mark in _MARKS.items():
            if part in path:
                item.add_marker(mark)
        if "[postgresql" in item.name or "postgres" in getattr(item, "fixturenames", ()):
            item.add_marker("postgres")
        if "training/" in path or "torch" in vars(getattr(item, "module", item)):
            item.add_marker("torch")
        elif item.get_closest_marker("torch") and find_spec("torch") is None:
            item.add_marker(_NO_TORCH)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that makes links, permissions or names of files that this system lacks."""
    lacking = _LACKING.get(sys.platform)
    if lacking is not None and isinstance(item, pytest.Function) and lacking.search(inspect.getsource(item.function)):
        pytest.skip(f"needs what {sys.platform} lacks")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compile networks once for all tests, and never in the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETRIEVE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))  # what stores this account trusts
        yield


@pytest.fixture(scope="session", autouse=True)
def _few_regions() -> Iterator[None]:
    """Hide a fifth as many regions for a heatmap: most tests need some heatmap, not a good one."""
    with hide_few_regions():
        yield


@pytest.fixture
def small_gallery(tmp_path: Path) -> Path:
    """Make a folder with PICTURES_A_CLASS generated pictures in a folder for each of CLASSES."""
    gallery = tmp_path / "gallery"
    for number, name in enumerate(CLASSES):
        (gallery / name).mkdir(parents=True)
        for place in range(PICTURES_A_CLASS):
            picture = Image.fromarray(blocks(100 * number + place))
            picture.save(gallery / name / f"{place}.png")
    return gallery


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """EfficientNet-Lite0 with a head that keeps descriptors as they are and compares their directions."""

    def alter(tensors: Tensors) -> None:
        tensors["dense.weight"][:], tensors["dense.bias"][:] = np.eye(1280), 0
        tensors["output.weight"][:], tensors["output.bias"][:] = 10, -5

    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    return altered_bundle(folder, alter, normalize=True, shift=None, provenance={}, metrics={})


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Make a grey picture of 300 x 200, on which heat is easy to see."""
    path = tmp_path / "grey.png"
    Image.new("RGB", (300, 200), (120, 120, 120)).save(path)
    return path


@pytest.fixture
def shown(picture: Path) -> ResultView:
    """Return a query with three hits: the picture itself, strong evidence, faint evidence."""
    hits = [a_hit(1, picture, same()), a_hit(2, picture, explanation()), a_hit(3, picture, explanation(0.1))]
    return build_result_view(picture, "query.png", hits)


@pytest.fixture(scope="session")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Indexed:
    """Make a store with the default model that no test may change."""
    from tests.support.store import make_indexed

    return make_indexed(tmp_path_factory.mktemp("indexed"))
