"""The package as a library: its names, what an import costs, and queries with every filter and option."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

import retrieval
from retrieval import Engine, ExplainOptions, Hit, IndexReport, SeenPart, UserError
from retrieval.model.bundle import Bundle
from tests.support.command import PROJECT
from tests.support.generated import CLASSES, blocks


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle) -> Iterator[Engine]:
    """Make a store of eight pictures, 90 x 60, in two class folders; one picture of each has a time."""
    folder = tmp_path_factory.mktemp("library")
    for number in range(8):
        picture = folder / "gallery" / CLASSES[number % 2] / f"{number}.jpg"
        picture.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        if number < 2:
            exif[306] = f"202{number}:05:17 12:00:00"
        Image.fromarray(blocks(number, 90, 60)).save(picture, exif=exif)
    with Engine.create(folder / "store", str(tiny_bundle.folder)) as engine:
        engine.index(folder / "gallery")
        yield engine


def test_every_name_is_there_and_listed() -> None:
    here = [name for name in retrieval.__all__ if name != "load_model" or find_spec("torch")]
    assert {name for name in here if getattr(retrieval, name).__name__ != name} == set()
    assert set(retrieval.__all__) <= set(dir(retrieval))
    assert retrieval.__all__ == sorted(retrieval.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Motor'"):
        _ = retrieval.Motor


def test_importing_the_package_loads_nothing() -> None:
    code = "import sys, retrieval; dir(retrieval); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert not {"numpy", "torch", "PIL", "openvino", "retrieval.engine"} & set(done.stdout.split())


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, "01234567"),
        ({"label": CLASSES[1]}, "1357"),
        ({"folder": CLASSES[0]}, "0246"),
        ({"since": "2020"}, "01"),
        ({"since": "2021-05-17"}, "1"),
        ({"until": "2020-05"}, "0"),
        ({"label": CLASSES[0], "until": "2021"}, "0"),
        ({"pool": 8, "min_similarity": 0.99}, "3"),
    ],
)
def test_filters_are_given_by_keyword(engine: Engine, filters: dict[str, str], names: str) -> None:
    gallery = Path(engine.catalogue.folder).parent / "gallery"
    given = {key: gallery / value if key == "folder" else value for key, value in filters.items()}
    hits = engine.query(gallery / CLASSES[1] / "3.jpg", 8, explain=False, **given)  # type: ignore[arg-type]
    assert "".join(sorted(hit.path.stem for hit in hits)) == names
    assert hits.pool == (8 if "pool" in filters else len(names))
    assert set(hits.seconds) == {"load", "embed", "search", "rescore"}


def test_options_are_given_by_keyword_or_as_one_value(engine: Engine) -> None:
    options = ExplainOptions(retrieval.MethodName.gradcam, 256, verify=True, correspond=True)
    for why in (
        engine.query(blocks(9), 1, method="gradcam", size=256, verify=True, correspond=True)[0].explanation,
        engine.query(blocks(9), 1, options=options)[0].explanation,
        engine.explain(blocks(9), blocks(8), method="gradcam", size=256, verify=True, correspond=True),
        engine.explain(blocks(9), blocks(8), options=options),
    ):
        assert why is not None
        assert (why.method, why.query.factual.shape) == ("gradcam", (8, 8))
        assert why.verification is not None
        assert why.correspondence is not None
    with pytest.raises(ValueError, match="'abacus' is not a valid MethodName"):
        engine.query(blocks(9), method="abacus")
    with pytest.raises(UserError, match="is not a date"):
        engine.query(blocks(9), since="yesterday")


def test_each_side_says_which_part_of_its_picture_was_seen(engine: Engine) -> None:
    (hit,) = engine.query(blocks(9, 200, 50), 1)  # the root of 200 x 50 is 100, that of 90 x 60 is 73
    assert hit.explanation is not None
    assert hit.explanation.query.seen == SeenPart(50, 0, 100, 50)
    assert hit.explanation.hit.seen == SeenPart(left=8, top=0, width=73, height=60)
    larger = engine.query(blocks(9, 200, 50), 1, size=256)[0].explanation
    assert larger is not None
    assert larger.query.seen == hit.explanation.query.seen
    pair = engine.explain(hit.path, Image.fromarray(blocks(9, 50, 200)))
    assert (pair.query.seen, pair.hit.seen) == (SeenPart(8, 0, 73, 60), SeenPart(0, 50, 50, 100))


def test_results_are_of_the_public_classes_and_short(engine: Engine) -> None:
    hits: list[Hit] = engine.query(blocks(9), 2)
    assert isinstance(hits, list)
    assert all(isinstance(hit, Hit) for hit in hits)
    report = engine.index()
    assert isinstance(report, IndexReport)
    assert repr(report).startswith("IndexReport(added=0, reused=0, embedded=0, unchanged=8, missing=0, failed=0, sec")
    assert len(repr(hits)) < 400


def test_a_result_is_drawn_over_what_was_given(engine: Engine, tmp_path: Path) -> None:
    hits = engine.query(blocks(9, 200, 100), 2, method="ensemble")
    assert hits[1].overlay("query").size == (224, 112)
    assert hits[1].overlay("hit").size == (224, 149)
    assert engine.explain(hits[0].path, blocks(9), method="ensemble").overlay("query", "counterfactual").size == (
        224,
        149,
    )
    assert len(hits.save(tmp_path)) == 17
