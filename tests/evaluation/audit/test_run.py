"""Audits of models on data sets: a cheating model is caught, an honest one is not accused."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import cli
from retrieval.common.errors import GalleryError
from retrieval.common.settings import MethodName
from retrieval.datasets.class_folders import DataSet, Sample, find_samples
from retrieval.datasets.descriptors import describe_samples
from retrieval.datasets.near_duplicates import small_grey
from retrieval.evaluation.audit.attention import Corner
from retrieval.evaluation.audit.doubtful_pictures import find_look_alikes, find_suspect_labels
from retrieval.evaluation.audit.evidence import AuditContext, draw_distinct_pairs, explain_all, explain_confusion
from retrieval.evaluation.audit.findings import TEST, TRAIN, AdviceKind, Audit, AuditOptions
from retrieval.evaluation.audit.run import audit_model, name_parts
from retrieval.evaluation.measure import EvaluatedModel, find_model
from retrieval.evaluation.verdicts import Confusion
from retrieval.explain.pair_explainer import PairExplainer
from retrieval.model.bundle import Bundle
from retrieval.model.encoder import Encoder
from retrieval.model.head import Head
from tests.support.cheating import make_cheating_set, train_head
from tests.support.command import answer, retrieve_here, sentence
from tests.support.generated import CLASSES, PICTURES_A_CLASS
from tests.support.loaded import loaded
from tests.support.progress import RecordedStage
from tests.support.trained import trained_copy

ENOUGH = AuditOptions(pairs=96)  # to say something of three classes
FEW = AuditOptions(pairs=16, method=MethodName.gradcam)
PLAIN = Head(np.eye(2, dtype=np.float32), np.zeros(2, np.float32), slope=1.0, intercept=-1.0, normalize=False)


def run(dataset: Path, model: Path | Bundle, terms: AuditOptions = FEW) -> Audit:
    name = model.folder if isinstance(model, Bundle) else model
    return audit_model(find_samples(dataset), find_model(str(name), "cpu"), terms)


def kinds(found: Audit) -> list[AdviceKind]:
    return [each.kind for each in found.advice]


# A model that cheats


@pytest.mark.slow
@pytest.mark.torch
def test_a_model_that_looks_at_a_patch_is_caught(tmp_path: Path) -> None:
    dataset, page = make_cheating_set(tmp_path / "patched"), tmp_path / "audit.html"
    model = train_head(dataset, tmp_path / "model")
    values = answer("audit", "--model", model, "--pairs", str(ENOUGH.pairs), "--html", page, "--device", "cpu")
    first, *others = values["recommendations"]
    assert (first["kind"], first["figures"]["corner"]) == ("shortcut", "lower right")
    assert "lower right corner" in first["finding"]
    assert sorted(first["classes"]) == ["amber", "azure"]
    assert "shortcut" not in [each["kind"] for each in others]
    assert first["examples"]
    assert all(example["label"] in first["classes"] for example in first["examples"])
    assert list(values["parts"]) == [TRAIN, TEST]
    assert values["model_has_learnt_from_this_data_set"] is True
    assert values["dataset"] == str(dataset)
    assert "lower right corner" in page.read_text("utf-8")

    context = judge(find_model(str(model), "cpu").encoder.bundle, dataset, MethodName.occlusion)
    amber = np.flatnonzero(context.dataset.codes == context.dataset.classes.index("amber"))
    explained = explain_all(context, amber[:8], amber[8:16])
    held = context.gather("amber", len(amber), explained, np.arange(16)).attention.corners
    assert max(held, key=lambda corner: held[corner]) == "lower right"  # by hiding, too
    assert held[Corner.lower_right] > 1.4 / 9


@pytest.mark.slow
@pytest.mark.torch
def test_without_the_patch_no_corner_is_accused(tmp_path: Path) -> None:
    dataset = make_cheating_set(tmp_path / "plain", patched=False)
    found = run(dataset, train_head(dataset, tmp_path / "model"), ENOUGH)
    assert AdviceKind.shortcut not in kinds(found)


# What it rests on


def test_pairs_are_bounded_spread_over_classes_and_none_comes_twice() -> None:
    codes = np.repeat([3, 5, 9], [50, 20, 1])
    first, second = draw_distinct_pairs(codes, 60, 0)
    assert 40 < len(first) <= 60
    assert len({frozenset(pair) for pair in zip(first.tolist(), second.tolist(), strict=True)}) == len(first)
    assert np.all(first != second)
    same = codes[first] == codes[second]
    assert 0.35 < same.mean() < 0.65
    assert 8 < np.sum(same & (codes[first] == 5)) < 22  # of 30
    again = draw_distinct_pairs(codes, 60, 0)
    assert np.array_equal(first, again[0])
    assert not np.array_equal(first, draw_distinct_pairs(codes, 60, 1)[0])


def judge(bundle: Bundle, gallery: Path, method: MethodName = MethodName.gradcam) -> AuditContext:
    comparer = Encoder(bundle, "cpu")
    dataset, (descriptors,) = describe_samples(find_samples(gallery), [comparer])
    return AuditContext(comparer, dataset, descriptors, method)


def test_both_pictures_are_explained_as_the_comparer_does(tiny_bundle: Bundle, small_gallery: Path) -> None:
    made = judge(tiny_bundle, small_gallery)
    explained = explain_all(made, np.array([0, 4]), np.array([1, 9]))
    assert explained.rows.tolist() == [0, 4, 1, 9]
    one, other = (made.encoder.decode(made.dataset.samples[row].path) for row in (4, 9))
    head = made.encoder.bundle.head
    distances = head.descriptor_distances(made.descriptors[[4]], made.descriptors[[9]])
    (expected,) = PairExplainer(made.encoder, head).explain_query(one, [other], distances)
    assert expected.method != MethodName.gradcam
    by_default = replace(made, method=expected.method)
    explained = explain_all(by_default, np.array([0, 4]), np.array([1, 9]))
    np.testing.assert_allclose(explained.factual[1], expected.query.factual, atol=1e-4)
    np.testing.assert_allclose(explained.factual[3], expected.hit.factual, atol=1e-4)
    np.testing.assert_allclose(explained.counterfactual[3], expected.hit.counterfactual, atol=1e-4)
    assert explained.similar[[1, 3]].tolist() == [expected.verdict == "similar"] * 2
    assert explained.small.shape == (4, 64, 64, 3)


def test_a_picture_that_is_gone_takes_only_its_pair_along(tiny_bundle: Bundle, small_gallery: Path) -> None:
    made = judge(tiny_bundle, small_gallery)
    made.dataset.samples[4].path.unlink()
    stage = RecordedStage()
    explained = explain_all(made, np.array([0, 4, 2]), np.array([1, 9, 3]), stage)
    assert explained.rows.tolist() == [0, 2, 1, 3]
    assert stage.done == 3
    assert len(explain_all(made, np.array([4]), np.array([9])).rows) == 0


@pytest.mark.slow
def test_confused_classes_are_explained(tiny_bundle: Bundle, small_gallery: Path) -> None:
    made = judge(tiny_bundle, small_gallery)
    agreeable = replace(made.encoder.bundle.head, intercept=-50.0)  # all is similar to it
    made.encoder.bundle.__dict__["head"] = agreeable
    try:
        found = explain_confusion(made, Confusion("apples", "cats", 16, 1.0), 0)
    finally:
        del made.encoder.bundle.__dict__["head"]
    assert found is not None
    assert found.explained == PICTURES_A_CLASS**2
    assert [side.label for side in found.sides] == ["apples", "cats"]
    assert {sample.label for sample in found.sides[0].samples} == {"apples"}
    assert [(one.label, other.label) for one, other in found.examples] == [("apples", "cats")] * 2
    assert len({each.path for pair in found.examples for each in pair}) == 4


def a_set(labels: Sequence[str]) -> DataSet:
    samples = (Sample(Path(f"{place}.png"), label, str(place)) for place, label in enumerate(labels))
    return DataSet(Path("set"), tuple(samples), ())


def test_a_picture_among_those_of_another_class_is_suspected() -> None:
    labels = ["cats"] * 12 + ["owls"] * 12
    descriptors = np.array([[1.0, place / 100] for place in range(12)] + [[9.0, place / 100] for place in range(12)])
    descriptors[5] = [9.0, 0.055]
    (suspect,) = find_suspect_labels(a_set(labels), PLAIN, descriptors.astype(np.float32))
    assert (suspect.sample.path.name, suspect.nearer, suspect.votes, suspect.neighbours) == ("5.png", "owls", 10, 10)
    assert (
        find_suspect_labels(a_set(labels[2:]), PLAIN, descriptors[2:].astype(np.float32)) == ()
    )  # of ten cats, nine are others
    assert find_suspect_labels(a_set(labels[:10]), PLAIN, descriptors[:10].astype(np.float32)) == ()


def test_pictures_that_look_the_same_are_grouped() -> None:
    one, other = np.random.default_rng(0).integers(0, 256, (2, 16, 17), np.uint8)
    pictures = [np.repeat(each[..., None], 3, axis=2) for each in (one, other, one, one)]
    grey = np.stack([small_grey(picture) for picture in pictures])
    (group,) = find_look_alikes(a_set(["cats", "cats", "cats", "owls"]), grey, [TRAIN, TRAIN, TEST, TRAIN])
    assert [sample.path.name for sample in group.samples] == ["0.png", "2.png", "3.png"]
    assert group.parts == (TRAIN, TEST, TRAIN)
    assert group.crosses_parts
    assert group.crosses_classes


# Parts


def test_parts_are_what_the_model_has_learnt_and_what_not() -> None:
    dataset = a_set(["cats"] * 3)
    assert name_parts(dataset, frozenset({"1", "x"})) == [TEST, TRAIN, TEST]
    assert name_parts(dataset, frozenset("012")) == [TRAIN] * 3
    assert name_parts(dataset, frozenset()) == ["all"] * 3


@pytest.mark.slow
def test_a_data_set_without_a_split_is_one_part(tiny_bundle: Bundle, small_gallery: Path) -> None:
    found = run(small_gallery, tiny_bundle)
    (part,) = found.findings.parts
    assert (part.name, part.pictures, [each.label for each in part.classes]) == ("all", 12, list(CLASSES))
    assert found.findings.sizes == dict.fromkeys(CLASSES, PICTURES_A_CLASS)
    assert not found.findings.is_trained_on
    assert AdviceKind.collect in kinds(found)
    assert part.overall.normalised.sum((1, 2)) == pytest.approx(1, abs=1e-5)
    for each in part.classes:
        assert {sample.label for sample in each.samples} == {each.label}


@pytest.mark.slow
def test_a_part_without_pairs_is_left_out(tiny_bundle: Bundle, small_gallery: Path, tmp_path: Path) -> None:
    learnt = sorted(small_gallery.rglob("*.png"))[:-1]
    found = run(small_gallery, trained_copy(tiny_bundle, tmp_path / "model", small_gallery, learnt))
    assert [part.name for part in found.findings.parts] == [TRAIN]


@pytest.mark.slow
def test_the_test_part_is_measured_by_the_focus_of_what_was_learnt(
    tiny_bundle: Bundle, small_gallery: Path, tmp_path: Path
) -> None:
    learnt = [path for path in sorted(small_gallery.rglob("*.png")) if path.stem in "01"]
    found = run(small_gallery, trained_copy(tiny_bundle, tmp_path / "model", small_gallery, learnt))
    train, test = found.findings.parts
    assert (train.pictures, test.pictures) == (6, 6)
    for one, other in zip(train.classes, test.classes, strict=True):
        assert np.array_equal(one.focus, other.focus)


@pytest.mark.slow
def test_contents_in_two_classes_are_reported(tiny_bundle: Bundle, small_gallery: Path) -> None:
    (small_gallery / "boats" / "copy.png").write_bytes((small_gallery / "apples" / "0.png").read_bytes())
    with Image.open(small_gallery / "apples" / "1.png") as picture:
        picture.resize((90, 90)).save(small_gallery / "cats" / "again.png")
    found = run(small_gallery, tiny_bundle)
    (advice,) = (each for each in found.advice if each.kind == AdviceKind.two_labels)
    assert advice.figures == {"files_of_the_same_content": 2, "files_that_look_the_same": 2}
    assert {example.path.name for example in advice.examples} == {"0.png", "copy.png", "1.png", "again.png"}


# What cannot be audited


def test_one_class_is_refused(tiny_bundle: Bundle, small_gallery: Path) -> None:
    for label in CLASSES[1:]:
        (small_gallery / label).rename(small_gallery.parent / label)
    with pytest.raises(GalleryError, match="has 1 class folders and at most 4 pictures in one: give at least two"):
        run(small_gallery, tiny_bundle)


def test_parts_without_any_pair_are_refused(tiny_bundle: Bundle, small_gallery: Path, tmp_path: Path) -> None:
    for path in small_gallery.rglob("[23].png"):
        path.unlink()
    learnt = sorted(small_gallery.rglob("0.png"))
    with pytest.raises(GalleryError, match="too few pictures in each part"):
        run(small_gallery, trained_copy(tiny_bundle, tmp_path / "model", small_gallery, learnt))


@pytest.mark.slow
def test_the_command_refuses_what_it_cannot_use(tmp_path: Path, small_gallery: Path) -> None:
    assert "is not a folder" in sentence(retrieve_here("audit", tmp_path / "gone"))
    assert "neither a model's name" in sentence(retrieve_here("audit", small_gallery, "--model", tmp_path / "gone"))
    assert "give --html a name that ends in .html" in sentence(
        retrieve_here("audit", small_gallery, "--html", tmp_path / "x")
    )


def test_a_model_without_a_data_set_of_its_own_needs_one() -> None:
    done = CliRunner().invoke(cli.app, ["audit"])
    assert done.exit_code == 2
    assert "DATASET" in done.output


@pytest.mark.slow
def test_the_command_prints_a_table_and_loads_no_torch(small_gallery: Path, tiny_bundle: Bundle) -> None:
    arguments = ["audit", str(small_gallery), "--model", str(tiny_bundle.folder), "--pairs", "8", "--device", "cpu"]
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 0, done.output
    assert "3 classes" in done.output
    assert "upper" in done.output
    assert "1. " in done.output
    assert not loaded(*arguments) & {"torch", "torchvision", "timm"}


@pytest.mark.slow
def test_an_audit_of_a_subject_by_hand(small_gallery: Path, tiny_bundle: Bundle) -> None:
    subject = EvaluatedModel("mine", Encoder(tiny_bundle, "cpu"), None)
    found = audit_model(find_samples(small_gallery), subject, AuditOptions(pairs=8, method=MethodName.gradcam))
    assert (found.model, found.fingerprint) == ("mine", tiny_bundle.fingerprint)
    assert sum(part.explained_pairs for part in found.findings.parts) <= 8
    assert json.dumps([each.finding for each in found.advice])
