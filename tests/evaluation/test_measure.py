"""Evaluations: on pictures that no model has learnt from, the same pictures and pairs for all."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.common.errors import GalleryError
from retrieval.common.settings import Preprocessing
from retrieval.datasets.class_folders import find_samples
from retrieval.datasets.descriptors import describe_samples
from retrieval.evaluation.measure import (
    DatasetEvaluation,
    EvaluatedModel,
    EvaluationOptions,
    evaluate_models,
    find_model,
    folders_to_measure,
)
from retrieval.model.bundle import Bundle
from retrieval.model.encoder import Encoder
from retrieval.model.head import Array
from retrieval.model.inference import Features
from retrieval.model.preprocessing import Pixels
from tests.support.generated import CLASSES
from tests.support.progress import RecordedProgress
from tests.support.trained import trained_copy


@pytest.fixture
def trained(tiny_bundle: Bundle, small_gallery: Path, tmp_path: Path) -> Path:
    """Make a bundle that has learnt from the first picture of each class."""
    return trained_copy(tiny_bundle, tmp_path / "trained", small_gallery, sorted(small_gallery.glob("*/0.png")))


def names(measured: DatasetEvaluation) -> list[str]:
    return [f"{sample.path.parent.name}/{sample.path.name}" for sample in measured.dataset.samples]


def test_pictures_that_the_model_learnt_from_are_left_out(trained: Path, small_gallery: Path) -> None:
    subject = find_model(str(trained))
    measured = evaluate_models(find_samples(small_gallery), [subject], EvaluationOptions())
    assert names(measured) == [f"{name}/{place}.png" for name in CLASSES for place in (1, 2, 3)]
    assert (measured.seen_count, measured.learnt_counts) == (3, {str(trained): 3})
    result = measured.results[str(trained)]
    assert (result.pictures, result.classes, result.pairs.similar) == (9, 3, 9)


def test_seen_pictures_are_included_on_request(trained: Path, small_gallery: Path) -> None:
    measured = evaluate_models(
        find_samples(small_gallery), [find_model(str(trained))], EvaluationOptions(include_seen=True)
    )
    assert len(names(measured)) == 12
    assert (measured.seen_count, measured.learnt_counts) == (0, {str(trained): 3})


def test_descriptors_are_those_of_the_network(tiny_bundle: Bundle, small_gallery: Path) -> None:
    progress = RecordedProgress()
    measured = evaluate_models(
        find_samples(small_gallery), [find_model(str(tiny_bundle.folder))], EvaluationOptions(), progress
    )
    comparer = Encoder(tiny_bundle)
    expected = comparer.describe([comparer.decode(sample.path) for sample in measured.dataset.samples])
    np.testing.assert_array_equal(measured.descriptors[str(tiny_bundle.folder)], expected)
    assert progress.totals == [(f"Embedding {small_gallery.name}", 12)]
    assert progress.stages[0].done == 12


def test_two_models_meet_on_what_neither_has_learnt_from(
    trained: Path, tiny_bundle: Bundle, small_gallery: Path, tmp_path: Path
) -> None:
    learnt = [small_gallery / "boats" / "0.png", small_gallery / "boats" / "1.png"]
    other = trained_copy(tiny_bundle, tmp_path / "other", small_gallery, learnt)
    subjects = [find_model(str(folder)) for folder in (trained, other)]
    measured = evaluate_models(find_samples(small_gallery), subjects, EvaluationOptions(seed=4, pairs=5))
    assert "boats/1.png" not in names(measured)
    assert (len(names(measured)), measured.seen_count) == (8, 4)
    assert measured.learnt_counts == {str(trained): 3, str(other): 2}
    one, two = measured.results.values()  # the same network and head, so the same pictures and pairs give
    assert one == two
    assert one.pairs.similar == 5
    first, second, similar = measured.pairs
    codes = measured.dataset.codes
    np.testing.assert_array_equal(codes[first] == codes[second], similar)


def test_a_data_set_of_nothing_new_is_refused(tiny_bundle: Bundle, small_gallery: Path, tmp_path: Path) -> None:
    every = sorted(small_gallery.glob("*/*.png"))
    subject = find_model(str(trained_copy(tiny_bundle, tmp_path / "all", small_gallery, every)))
    with pytest.raises(GalleryError, match="holds only pictures that the model has learnt from: give others, or"):
        evaluate_models(find_samples(small_gallery), [subject], EvaluationOptions())


def test_each_content_counts_once_and_unreadable_files_are_reported(tiny_bundle: Bundle, small_gallery: Path) -> None:
    (small_gallery / "cats" / "again.png").write_bytes((small_gallery / "cats" / "0.png").read_bytes())
    (small_gallery / "boats" / "apple.png").write_bytes((small_gallery / "apples" / "1.png").read_bytes())
    (small_gallery / "cats" / "broken.png").write_text("no picture")
    measured = evaluate_models(find_samples(small_gallery), [find_model(str(tiny_bundle.folder))], EvaluationOptions())
    assert measured.results[str(tiny_bundle.folder)].pictures == 11
    assert {path.name: reason for path, reason in measured.dataset.left_out} == {
        "again.png": "has the same content as cats/0.png",
        "1.png": "is in two classes: apples and boats, as boats/apple.png",
        "apple.png": "is in two classes: apples and boats, as apples/1.png",
        "broken.png": "is not a picture in a known format",
    }


def test_no_more_pairs_are_drawn_than_there_are(tiny_bundle: Bundle, small_gallery: Path) -> None:
    progress, subject = RecordedProgress(), find_model(str(tiny_bundle.folder))
    measured = evaluate_models(find_samples(small_gallery), [subject], EvaluationOptions(pairs=5000), progress)
    figures = measured.results[subject.name].pairs
    assert figures.similar == figures.different < 5000
    (said,) = progress.messages
    assert said.endswith(f"makes only {figures.similar} pairs of each kind, not 5000: {figures.similar} are used")


def test_a_split_by_folders_is_measured_on_its_test_part(
    tiny_bundle: Bundle, small_gallery: Path, tmp_path: Path
) -> None:
    whole = tmp_path / "set"
    for part, name in (("train", "0.png"), ("train", "1.png"), ("test", "2.png"), ("test", "3.png")):
        for file in small_gallery.glob(f"*/{name}"):
            (whole / part / file.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, whole / part / file.parent.name / name)
    subject = find_model(str(tiny_bundle.folder))
    measured = evaluate_models(find_samples(whole), [subject], EvaluationOptions())
    assert {each.path.relative_to(whole).parts[0] for each in measured.dataset.samples} == {"test"}
    every = evaluate_models(find_samples(whole), [subject], EvaluationOptions(include_seen=True))
    assert len(every.dataset.samples) > len(measured.dataset.samples)


def at_size(bundle: Bundle, size: int) -> Encoder:
    """Return an encoder whose descriptors are the picture's size and its mean."""
    preprocessing = Preprocessing(size, (0, 0, 0), (1, 1, 1))
    sized = replace(bundle, card=replace(bundle.card, preprocessing=preprocessing, digests={}))
    return Encoder(sized, network=_SizeAndMean())


class _SizeAndMean:
    """A network whose descriptors are the picture's size and its mean."""

    def describe(self, pixels: Sequence[Pixels]) -> Array:
        return np.array([[len(each), each.mean()] for each in pixels], np.float32)

    def activate(self, pixels: Sequence[Pixels]) -> Features:
        raise NotImplementedError


def test_models_see_pictures_at_their_own_sizes_in_order(tiny_bundle: Bundle, tmp_path: Path) -> None:
    for number in range(70):  # more than two batches
        place = tmp_path / "set" / f"class-{number // 35}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 9, 3), number, np.uint8)).save(place / f"{number:02}.png")
    comparers = [at_size(tiny_bundle, 8), at_size(tiny_bundle, 12)]
    dataset, (small, large) = describe_samples(find_samples(tmp_path / "set"), comparers)
    assert [int(sample.path.stem) for sample in dataset.samples] == small[:, 1].tolist() == list(range(70))
    assert set(small[:, 0]) == {8}
    assert set(large[:, 0]) == {12}
    np.testing.assert_array_equal(small[:, 1], large[:, 1])


def test_a_data_set_that_cannot_be_read_is_refused(tiny_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "set" / "a").mkdir(parents=True)
    (tmp_path / "set" / "a" / "x.png").write_text("no picture")
    with pytest.raises(GalleryError, match="holds no picture that can be read"):
        describe_samples(find_samples(tmp_path / "set"), [at_size(tiny_bundle, 8)])


def test_the_data_set_of_a_trained_model_needs_no_name(trained: Path, small_gallery: Path, tmp_path: Path) -> None:
    subject = find_model(str(trained))
    assert folders_to_measure([], subject) == [small_gallery]
    assert folders_to_measure([tmp_path], subject) == [tmp_path]
    assert folders_to_measure([], replace(subject, split=None)) == []
    with pytest.raises(GalleryError, match="gone is not a folder: give a folder of class folders"):
        folders_to_measure([tmp_path / "gone"], subject)
    small_gallery.rename(tmp_path / "moved")
    with pytest.raises(GalleryError, match=r"gallery, which .*trained was trained on, is not there: give a folder"):
        folders_to_measure([], subject)


def test_a_model_that_was_not_trained_has_learnt_from_nothing(tiny_bundle: Bundle) -> None:
    assert EvaluatedModel("tiny", Encoder(tiny_bundle), None).learnt == frozenset()
