"""Each kind of recommendation, from findings made by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retrieval.datasets.class_folders import IN_TWO_CLASSES
from retrieval.evaluation.audit.attention import Corner
from retrieval.evaluation.audit.findings import TEST, TRAIN, AdviceKind, LookAlikes, Severity, SuspectLabel
from retrieval.evaluation.audit.recommendations import advise
from retrieval.evaluation.verdicts import Confusion
from tests.support.audited import HONEST, a_confusion, a_part, a_sample, evidence, findings, honest, spot, verdicts


def test_a_sound_model_gets_one_reassuring_sentence() -> None:
    (only,) = advise(findings(a_part(honest())))
    assert (only.kind, only.severity) == (AdviceKind.nothing, Severity.minor)
    assert only.finding.startswith("Nothing stands out: the model is right on 96 % of the pairs")


# Where it looks


@pytest.mark.parametrize("which", list(Corner))
def test_evidence_in_a_corner_is_a_shortcut(which: Corner) -> None:
    row, column = (0 if "upper" in which else 6), (0 if "left" in which else 6)
    cheat = evidence("cats", spot((row, column), (3, 3), faint=0.01))
    first, *_ = advise(findings(a_part([cheat, *honest("owls", "dogs")])))
    assert (first.kind, first.severity, first.classes) == (AdviceKind.shortcut, Severity.serious, ("cats",))
    assert f"the {which.value} corner in the class cats: 42 % of its evidence lies there, in 11 % of" in first.finding
    assert first.figures == {
        "corner": which.value,
        "share_of_evidence_by_class": {"cats": pytest.approx(cheat.attention.corners[which])},
        "share_of_area": pytest.approx(1 / 9),
    }
    assert len(first.examples) == 4
    assert len({example.path for example in first.examples}) == 4
    assert first.examples[0].note == "cats: 42 % of the evidence in that corner"
    heatmap = first.examples[0].heatmap
    assert heatmap is not None
    assert heatmap.max() == 1


def test_classes_that_share_a_corner_are_reported_together() -> None:
    cheats = [evidence("cats", spot((6, 6), (3, 3))), evidence("owls", spot((6, 6)))]
    first, *others = advise(findings(a_part([*cheats, *honest("dogs")])))
    assert first.classes == ("owls", "cats")  # the stronger first
    assert "in the classes owls and cats: 100 % and 50 % of its evidence lie there" in first.finding
    assert {example.label for example in first.examples} == {"cats", "owls"}
    assert all(each.kind != AdviceKind.shortcut for each in others)


def test_a_shortcut_in_either_part_is_found() -> None:
    cheat = [evidence("cats", spot((0, 0))), *honest("owls")]
    for parts in ((a_part(cheat, TRAIN), a_part(honest(), TEST)), (a_part(honest(), TRAIN), a_part(cheat, TEST))):
        assert advise(findings(*parts))[0].classes == ("cats",)


def test_of_few_pictures_nothing_is_said() -> None:
    assert advise(findings(a_part([evidence("cats", spot((0, 0)), 9), *honest("owls")])))[0].kind == AdviceKind.nothing


def test_evidence_at_the_border() -> None:
    rim = evidence("cats", spot(*[(0, n) for n in range(7)], *[(6, n) for n in range(7)], (3, 0), (3, 6), (2, 3)))
    assert max(rim.attention.corners.values()) < 0.25
    (only,) = advise(findings(a_part([rim, *honest("owls")])))
    assert (only.kind, only.classes) == (AdviceKind.background, ("cats",))
    assert "94 % of the evidence lies at the border of the picture, and 49 % of the area" in only.finding
    assert "augmentation" in only.remedy


def test_evidence_outside_the_focus_of_the_class() -> None:
    inside = np.zeros((7, 7), np.bool_)
    inside[2:5, 2:5] = True
    around = np.zeros((7, 7), np.float32)
    around[1:6, 1:6] = 1
    around[inside] = 0
    stray = replace(evidence("cats", around), reference_focus=inside)
    found = [each for each in advise(findings(a_part([stray, *honest("owls")]))) if each.kind == AdviceKind.background]
    assert len(found) == 1
    assert "100 % of the evidence lies outside the places that its pictures have in common" in found[0].finding


def test_a_small_focus_is_worth_a_crop() -> None:
    (only,) = advise(findings(a_part([evidence(label, spot((3, 3))) for label in ("cats", "owls")])))
    assert (only.kind, only.severity) == (AdviceKind.crop, Severity.minor)
    assert "`retrieve crop`" in only.remedy
    assert only.figures is not None
    share = only.figures["median_share_of_area_in_focus_box"]
    assert isinstance(share, float)
    assert f"holds {100 * share:.0f} % of the picture" in only.finding


# What it gets wrong


def test_a_gap_between_train_and_test() -> None:
    def given(known: float, unknown: float) -> list[tuple[AdviceKind, Severity]]:
        parts = (a_part(honest(), TRAIN, verdicts(known)), a_part(honest(), TEST, verdicts(unknown)))
        return [(each.kind, each.severity) for each in advise(findings(*parts))]

    assert given(0.99, 0.92) == [(AdviceKind.nothing, Severity.minor)]
    assert given(0.99, 0.85) == [(AdviceKind.gap, Severity.moderate)]
    assert given(0.99, 0.70) == [(AdviceKind.gap, Severity.serious)]


def test_a_gap_of_few_pictures_may_be_chance() -> None:
    few = replace(a_part(honest(), TEST, verdicts(0.85)), pictures=12)
    assert advise(findings(a_part(honest(), TRAIN, verdicts(0.99)), few))[0].kind == AdviceKind.nothing


def test_a_model_that_does_not_know_the_classes() -> None:
    confused = a_confusion("cats", "owls", 0.6)
    part = a_part(honest(), figures=verdicts(0.66, 0.72), across=[confused.confusion], confused=[confused])
    (only,) = advise(findings(part, learns=False))
    assert (only.kind, only.severity, only.classes) == (AdviceKind.untrained, Severity.serious, ("cats", "owls"))
    assert "66 % of their pairs (ROC AUC 0.72; a coin has 0.50). It confuses cats and owls most" in only.finding
    assert "`retrieve train`" in only.remedy
    assert [example.label for example in only.examples] == ["cats", "owls"]


def test_confused_classes() -> None:
    confused = a_confusion("cats", "owls", 0.31)
    across = [confused.confusion, Confusion("cats", "dogs", 400, 0.2)]
    (only,) = advise(findings(a_part(honest("cats", "dogs", "owls"), across=across, confused=[confused])))
    assert (only.kind, only.classes) == (AdviceKind.confused, ("cats", "owls"))
    assert only.finding == "Pairs of two classes are said to be similar: of cats and owls 31 % of them."
    assert len(only.examples) == 2


def test_a_class_that_is_not_known_again() -> None:
    within = [Confusion("cats", "cats", 400, 0.5), Confusion("owls", "owls", 400, 0.2)]
    part = a_part(honest("cats", "dogs", "owls"), figures=verdicts(0.9), within=within)
    (only,) = advise(findings(part))
    assert (only.kind, only.classes) == (AdviceKind.collect, ("cats",))
    assert (
        only.finding == "Pairs of one class are said to be different: of cats 50 % of them; in all classes together"
        " it is 10 %."
    )
    usual = replace(part, verdicts=verdicts(0.6))
    assert advise(findings(usual))[0].kind == AdviceKind.nothing


# The pictures


def test_a_small_class() -> None:
    found = replace(findings(a_part(honest())), sizes={"owls": 19, "cats": 20, "ants": 1})
    (only,) = advise(found)
    assert (only.kind, only.classes) == (AdviceKind.collect, ("ants", "owls"))
    assert only.finding == "2 classes have fewer than 20 pictures: ants (1) and owls (19)."
    assert advise(replace(found, sizes={"owls": 5}))[0].finding.startswith("1 class has fewer than 20 pictures")


def test_pictures_in_the_wrong_class_are_listed() -> None:
    suspects = (SuspectLabel(a_sample("cats", 3), "owls", 10, 10), SuspectLabel(a_sample("owls", 4), "cats", 9, 10))
    (only,) = advise(replace(findings(a_part(honest())), suspect_labels=suspects))
    assert (only.kind, only.severity, only.classes) == (AdviceKind.relabel, Severity.moderate, ("cats", "owls"))
    assert "2 pictures may be in the wrong class: of the 10 nearest to each, at least 9" in only.finding
    assert [(each.path.name, each.note) for each in only.examples] == [
        ("03.png", "in cats; 10 of 10 nearest are owls"),
        ("04.png", "in owls; 9 of 10 nearest are cats"),
    ]
    (only,) = advise(replace(findings(a_part(honest())), suspect_labels=suspects * 6))
    assert only.severity == Severity.serious  # 12 of 200
    ignorant = findings(a_part(honest(), figures=verdicts(0.6, 0.6)), learns=False)
    assert advise(replace(ignorant, suspect_labels=suspects))[1].severity == Severity.minor


def test_a_corner_that_few_pictures_have_by_chance_is_no_shortcut() -> None:
    maps = np.stack([spot((0, 0)) if place < 4 else HONEST for place in range(12)])
    chance = replace(evidence("cats"), factual=maps)
    assert chance.attention.corners[Corner.upper_left] > 0.3
    assert all(each.kind != AdviceKind.shortcut for each in advise(findings(a_part([chance, *honest("owls")]))))


def test_what_lies_in_two_classes() -> None:
    repeat = LookAlikes((a_sample("cats", 1), a_sample("owls", 2)), ("all", "all"))
    left_out = ((Path("set/cats/x.png"), f"{IN_TWO_CLASSES}: cats and owls"), (Path("y.png"), "is empty"))
    (only,) = advise(replace(findings(a_part(honest())), look_alikes=(repeat,), left_out=left_out))
    assert only.kind == AdviceKind.two_labels
    assert only.finding.startswith("3 files are in two classes")
    assert [example.path.name for example in only.examples] == ["x.png", "01.png", "02.png"]


def test_what_is_both_learnt_and_tested() -> None:
    parts = a_part(honest(), TRAIN), a_part(honest(), TEST)
    repeat = LookAlikes((a_sample("cats", 1), a_sample("cats", 2)), (TRAIN, TEST))
    (only,) = advise(replace(findings(*parts), look_alikes=(repeat,)))
    assert (only.kind, only.severity) == (AdviceKind.leak, Severity.moderate)  # 1 of 200
    assert only.finding.startswith("1 test picture (0.5 %) looks the same as one that the model has learnt from")
    assert [example.note for example in only.examples] == ["in cats, train", "in cats, test"]
    (only,) = advise(replace(findings(*parts), look_alikes=(repeat,) * 2))
    assert only.severity == Severity.serious


def test_what_comes_twice_in_a_class() -> None:
    repeat = LookAlikes(tuple(a_sample("cats", number) for number in range(3)), ("all",) * 3)
    (only,) = advise(replace(findings(a_part(honest())), look_alikes=(repeat,)))
    assert (only.kind, only.severity) == (AdviceKind.repeats, Severity.minor)
    assert only.finding == "2 pictures look the same as another of the class."


def test_the_most_serious_comes_first() -> None:
    parts = a_part([evidence("cats", spot((0, 0))), *honest("owls")], TRAIN), a_part(honest(), TEST, verdicts(0.6))
    repeat = LookAlikes((a_sample("cats", 1), a_sample("cats", 2)), (TRAIN, TRAIN))
    suspects = (SuspectLabel(a_sample("owls"), "cats", 10, 10),)
    found = replace(findings(*parts, few=5), look_alikes=(repeat,), suspect_labels=suspects)
    said = advise(found)
    assert [each.kind for each in said] == [
        AdviceKind.shortcut,
        AdviceKind.gap,
        AdviceKind.relabel,
        AdviceKind.collect,
        AdviceKind.repeats,
    ]
    order = list(Severity)
    assert [each.severity for each in said] == sorted((each.severity for each in said), key=order.index)


def test_the_honest_heatmap_is_honest() -> None:
    found = evidence("cats", HONEST)
    assert max(found.attention.corners.values()) < 0.15
    assert found.attention.border < found.uniform.border
    assert found.crop_share is not None
    assert found.crop_share > 0.3
