"""The page, the table and the JSON of an audit: the same findings in each, and safe from any name."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from retrieval.commands.output.audit import audit_json, audit_lines
from retrieval.common.jsonable import to_json
from retrieval.evaluation.audit.attention import Corner
from retrieval.evaluation.audit.findings import TEST, TRAIN, Audit, LookAlikes, SuspectLabel
from retrieval.evaluation.audit.page import audit_page, mean_overlay
from retrieval.evaluation.verdicts import Confusion
from tests.support.audited import (
    HEATMAPS,
    a_confusion,
    a_part,
    a_sample,
    an_audit,
    evidence,
    findings,
    honest,
    spot,
    verdicts,
)
from tests.support.html_checker import Checker

EVIL = '"><img onerror=alert(1)>\udcff'
LABEL = '"><img onerror=alert(1)>'


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return a folder with the pictures of the hand-made findings."""
    for label in ("cats", "owls", "dogs"):
        (tmp_path / label).mkdir()
        for number in range(HEATMAPS):
            Image.new("RGB", (60, 60), (120, 120, 120)).save(tmp_path / label / f"{number:02}.png")
    return tmp_path


@pytest.fixture
def audited(pictures: Path) -> Audit:
    """Return the audit of a model that cheats in the lower right corner of cats, and confuses owls and dogs."""
    cheat = evidence("cats", spot((6, 6)), folder=pictures)
    others = [evidence(label, folder=pictures) for label in ("owls", "dogs")]
    confused = a_confusion("owls", "dogs", 0.3, pictures)
    parts = (
        a_part([cheat, *others], TRAIN, verdicts(0.99)),
        a_part([cheat, *others], TEST, verdicts(0.97), [confused.confusion], confused=[confused]),
    )
    suspect = SuspectLabel(a_sample("owls", 3, pictures), "cats", 10, 10)
    left_out = ((Path("set/x.png"), "is empty"),)
    repeat = LookAlikes((a_sample("cats", 1, pictures), a_sample("cats", 2, pictures)), (TRAIN, TEST))
    return an_audit(replace(findings(*parts), suspect_labels=(suspect,), left_out=left_out, look_alikes=(repeat,)))


def printed(audit: Audit) -> str:
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(audit_lines(audit))
    return console.export_text()


# The page


def test_the_page_is_whole_in_itself(audited: Audit) -> None:
    text = audit_page(audited)
    checked = Checker(text)
    assert not re.search(r"https?:|//[a-z]|url\(", re.sub(r"data:image/\w+;base64,[\w+/=]+", "", text))
    assert "script" not in checked.tags
    assert "default-src 'none'" in text
    sources = [value for tag, name, value in checked.attributes if (tag, name) == ("img", "src")]
    # The legend; the corner, the leak, the suspect, the confused pair; two means a class; the confused pair again.
    assert len(sources) == 2 + (4 + 2 + 1 + 2) + 2 * 3 + (2 + 2)
    assert all(value and value.startswith("data:image/") for value in sources)
    assert sum(tag == "img" for tag in checked.tags) == sum(name == "alt" for _, name, _ in checked.attributes)


def test_the_page_has_the_findings(audited: Audit) -> None:
    words = Checker(audit_page(audited)).text
    for advice in audited.advice:
        assert advice.finding in words
        assert advice.remedy.replace("`", "") in words
    for figure in (
        "0.9900",
        "0.9700",
        "100.0 %",
        "share of the area",
        "49.0 %",
        "30.0 %",
        "12 heatmaps of 12 pictures",
    ):
        assert figure in words
    assert "What mine looks at in set" in words
    assert "Files that repeat others or cannot be used: 1." in words


def test_a_picture_that_is_gone_has_a_note(audited: Audit) -> None:
    for example in audited.advice[0].examples:
        example.path.unlink()
    assert "cannot be shown" in Checker(audit_page(audited)).text


def test_without_confusions_and_advice(pictures: Path) -> None:
    words = Checker(audit_page(an_audit(findings(a_part(honest()))))).text
    assert "No pair of two classes is said to be similar." in words
    assert "Nothing stands out" in words


def test_names_cannot_harm_the_page() -> None:
    confused = a_confusion(LABEL, "owls", 0.4, Path(EVIL))
    cheat = evidence(LABEL, spot((0, 0)), folder=Path(EVIL))
    part = a_part([cheat, *honest("owls")], across=[confused.confusion], confused=[confused])
    suspect = SuspectLabel(a_sample(LABEL, 3, Path(EVIL)), LABEL, 10, 10)
    audit = replace(an_audit(replace(findings(part), suspect_labels=(suspect,))), model=EVIL, dataset=Path(EVIL))
    text = audit_page(audit)
    checked = Checker(text)
    assert not any(name == "onerror" for _, name, _ in checked.attributes)
    assert "<img onerror=alert(1)>\\xff" in checked.text
    text.encode("utf-8")
    assert "\udcff" not in printed(audit)
    to_json(audit_json(audit)).encode("ascii")


def test_a_mean_heatmap_is_drawn_over_the_mean_picture() -> None:
    drawn = mean_overlay(evidence("cats", spot((0, 0))), "factual")
    assert drawn.size == (240, 240)
    bright, dark = drawn.getpixel((8, 8)), drawn.getpixel((200, 100))
    assert isinstance(bright, tuple)
    assert isinstance(dark, tuple)
    assert sum(bright) > sum(dark) + 60


# The terminal


def test_the_table_has_the_findings(audited: Audit) -> None:
    text = printed(audited)
    for rank, advice in enumerate(audited.advice, 1):
        assert f"{rank}. {advice.severity.value} {advice.finding}"[:190] in text
    assert "set: 300 pictures, 3 classes, 36 pairs explained in 2 s" in text
    assert re.search(r"accuracy of verdicts on pairs +0.9900 +0.9700", text)
    assert re.search(r"cats +12 +100 % +0 % +0 % +0 % +100 % ", text)
    assert re.search(r"share of the area +49 % +11 % +11 % ", text)
    assert "… and 1 more: --json has all" in text


def test_of_many_classes_the_most_suspicious_are_shown() -> None:
    classes = [*honest(*(f"c{number:02}" for number in range(24))), evidence("cheat", spot((0, 0)))]
    text = printed(an_audit(findings(a_part(classes))))
    assert "… and 5 more classes: --json has all" in text
    assert text.index("cheat") < text.index("c00")


# JSON


def test_json_has_stable_keys(audited: Audit) -> None:
    values = json.loads(to_json(audit_json(audited)))
    assert list(values) == [
        "dataset",
        "model",
        "method",
        "seed",
        "pairs",
        "how_to_read",
        "recommendations",
        "pictures_by_class",
        "model_has_learnt_from_this_data_set",
        "parts",
        "pictures_that_look_the_same",
        "pictures_maybe_in_the_wrong_class",
        "left_out",
        "seconds",
    ]
    first = values["recommendations"][0]
    assert set(first) == {"rank", "kind", "severity", "finding", "remedy", "classes", "figures", "examples"}
    assert (first["rank"], first["kind"], first["severity"], first["classes"]) == (1, "shortcut", "serious", ["cats"])
    assert first["figures"]["corner"] == "lower right"
    assert first["figures"]["share_of_evidence_by_class"]["cats"] == pytest.approx(1)
    assert set(first["examples"][0]) == {"path", "label", "note"}
    assert values["left_out"] == [{"path": "set/x.png", "reason": "is empty"}]
    assert values["pictures_maybe_in_the_wrong_class"][0]["label_of_nearest"] == "cats"
    assert values["pictures_that_look_the_same"][0]["in_train_and_test"] is True


def test_json_has_a_share_of_the_area_beside_each_share(audited: Audit) -> None:
    part = json.loads(to_json(audit_json(audited)))["parts"]["test"]
    assert (part["verdict_accuracy"], part["pairs_explained"]) == (0.97, 18)
    cats = part["classes"]["cats"]
    assert cats["evidence_in_corner_share"] == {each.name: float(each == Corner.lower_right) for each in Corner}
    assert cats["corner_area_share"] == pytest.approx(1 / 9)
    assert (cats["border_area_share"], cats["even_spread"]) == (pytest.approx(24 / 49), pytest.approx(0.5))
    assert cats["evidence_at_border_share"] == pytest.approx(1)
    assert cats["outside_focus_area_share"] == pytest.approx(48 / 49)
    (confused,) = part["two_classes_said_similar"]
    assert confused == {"classes": ["owls", "dogs"], "pairs": 400, "share_of_pairs_said_similar": 0.3}
    assert part["evidence_of_confused_classes"][0]["wrong_pairs_explained"] == HEATMAPS


def test_json_names_a_class_confused_with_itself_once() -> None:
    part = a_part(honest(), within=[Confusion("cats", "cats", 6, 0.5)])
    (within,) = json.loads(to_json(audit_json(an_audit(findings(part)))))["parts"]["all"]["one_class_said_different"]
    assert within == {"classes": ["cats"], "pairs": 6, "share_of_pairs_said_different": 0.5}
