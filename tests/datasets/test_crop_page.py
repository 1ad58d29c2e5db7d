"""The page of crops: whole in itself, and safe from any name."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from retrieval.datasets.crop import CropReport
from retrieval.datasets.crop_files import Crop, CropRules
from retrieval.datasets.crop_page import crop_page, draw_box, sample_crops
from tests.support.hits import heatmaps
from tests.support.html_checker import Checker


def a_crop(path: Path, box: tuple[int, int, int, int] = (20, 10, 120, 90)) -> Crop:
    return Crop(path, Path("a") / path.name, path, 0.9, (300, 200), box, heatmaps(1, 1, 1.0).factual)


def a_report(*crops: Crop) -> CropReport:
    return CropReport(Path("set"), Path("out"), CropRules(seed=0), crops, {}, (), False, 1.0)


def test_each_crop_has_three_pictures(picture: Path) -> None:
    crops = [a_crop(picture), a_crop(picture)]
    text = crop_page(a_report(*crops), crops)
    checked = Checker(text)
    assert not re.search(r"https?:|//[a-z]", re.sub(r"data:image/\w+;base64,[\w+/=]+", "", text))
    assert "default-src 'none'" in text
    assert "script" not in checked.tags
    sources = [value for tag, name, value in checked.attributes if (tag, name) == ("img", "src")]
    assert len(sources) == 6
    assert all(value and value.startswith("data:image/jpeg;base64,") for value in sources)
    for phrase in ("2 of 2 cropped pictures", "300 × 200 pixels", "100 × 80 pixels", "90.0 %", "13.3 %"):
        assert phrase in checked.text


def test_names_cannot_harm_the_page(picture: Path) -> None:
    evil = '"><img onerror=alert(1)>\udcff'
    crop = replace(a_crop(picture), partner=Path(evil))
    gone = replace(a_crop(Path(f"/x/{evil}/{evil}.png")), partner=Path(evil))
    text = crop_page(replace(a_report(crop, gone), dataset=Path(evil)), [crop, gone])
    checked = Checker(text)
    assert not any(name == "onerror" for _, name, _ in checked.attributes)
    assert "<img onerror=alert(1)>\\xff" in checked.text
    assert "cannot be shown any more" in checked.text
    text.encode("utf-8")


def test_a_page_without_crops_says_so() -> None:
    assert "No picture was cropped." in Checker(crop_page(a_report(), [])).text


def test_the_crops_shown_are_drawn_by_the_seed(picture: Path) -> None:
    report = a_report(*(a_crop(picture.with_name(f"{number:02}.png")) for number in range(30)))
    drawn = sample_crops(report, 12)
    assert len(drawn) == 12
    assert [crop.source.name for crop in drawn] == sorted({crop.source.name for crop in drawn})
    assert drawn == sample_crops(report, 12)
    other = replace(report, rules=CropRules(seed=1))
    assert [crop.source for crop in sample_crops(other, 12)] != [crop.source for crop in drawn]
    assert len(sample_crops(report, 99)) == 30
    assert sample_crops(a_report()) == []


def test_a_box_is_drawn_where_it_lies() -> None:
    picture = Image.new("RGB", (150, 100), (120, 120, 120))
    drawn = np.asarray(draw_box(picture, heatmaps(1, 1, 1.0).factual, (300, 200), (20, 10, 120, 90)))
    white = np.argwhere((drawn == 255).all(axis=2))
    assert white.min(axis=0).tolist() == [6, 11]  # the box is (10, 5, 60, 45) here, with a dark line around
    assert white.max(axis=0).tolist() == [43, 58]


def test_a_box_of_a_pixel_can_be_drawn() -> None:
    draw_box(Image.new("RGB", (8, 448)), heatmaps(1, 1, 1.0).factual, (1, 3000), (0, 0, 1, 1))
