"""The page of a calibration: whole in itself, with both diagrams and the figures, and safe from any name."""

import re
from dataclasses import replace
from pathlib import Path

from retrieval.common.metrics import Bin
from retrieval.store.maintenance.calibration import CalibrationResult
from retrieval.store.maintenance.calibration_page import calibration_page
from tests.support.calibrations import a_calibration
from tests.support.html_checker import Checker

EVIL = '"><img onerror=alert(1)>\udcff'
RESULT = CalibrationResult(a_calibration(), [Bin(0.8, 0.9, 10, 0.85, 0.4), Bin(0, 0.1, 5, 0.05, 0.1)], [])


def test_the_page_has_the_figures() -> None:
    text = calibration_page(Path("store"), RESULT)
    checked = Checker(text)
    for figure in (
        "0.2700",
        "0.0200",
        "0.7500",
        "0.0625",
        "0.0125",
        "1,200 pictures in 3 classes",
        "the seed 7",
        "none of the pictures",
    ):
        assert figure in checked.text
    assert checked.tags.count("svg") == 2
    assert checked.tags.count("circle") == 2
    assert not re.search(r"https?:|//[a-z]|url\(", text)
    assert "script" not in checked.tags


def test_names_cannot_harm_the_page() -> None:
    text = calibration_page(Path(f"/x/{EVIL}"), replace(RESULT, calibration=replace(a_calibration(), model=EVIL)))
    checked = Checker(text)
    assert not any(name == "onerror" for _, name, _ in checked.attributes)
    assert checked.text.count("<img onerror=alert(1)>\\xff") == 3  # the title, the heading, the model
    text.encode("utf-8")
