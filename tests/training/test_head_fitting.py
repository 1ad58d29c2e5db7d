"""Tests of the fitted head: a whitening steered by labels, and a sigmoid neuron fitted to unseen pairs."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.common.errors import GalleryError
from retrieval.common.metrics import fit_logistic, sigmoid
from retrieval.datasets.pair_sampling import balanced_pairs
from retrieval.evaluation.ranking import evaluate_head
from retrieval.model.bundle import find_bundle
from retrieval.model.head import Array
from retrieval.training.head_fitting import LabelledDescriptors, fit_head
from tests.support.command import answer, retrieve_here
from tests.support.generated import blocks

CLASSES, EACH, CHANNELS = 12, 20, 24


def clusters(seed: int, nuisance: float = 1.5) -> LabelledDescriptors:
    """Draw classes that differ in the first 12 channels; the last 12 vary as much within each."""
    random = np.random.default_rng(seed)
    centres = random.gamma(2.0, 0.3, (CLASSES, CHANNELS // 2))
    codes = np.repeat(np.arange(CLASSES), EACH)
    informative = centres[codes] + random.normal(0, 0.08, (len(codes), CHANNELS // 2))
    uninformative = random.gamma(2.0, 0.3 * nuisance, (len(codes), CHANNELS // 2))
    return LabelledDescriptors(
        np.maximum(np.concatenate([informative, uninformative], axis=1), 0).astype(np.float32), codes
    )


def others(seed: int) -> Array:
    return np.random.default_rng(seed).gamma(2.0, 0.3, (200, CHANNELS)).astype(np.float32)


def test_logistic_regression_recovers_the_labels_probabilities() -> None:
    random = np.random.default_rng(0)
    x = random.uniform(-3, 3, 200_000)
    y = random.random(len(x)) < sigmoid(2.0 * x - 1.0)
    assert fit_logistic(x, y) == pytest.approx((2.0, -1.0), abs=0.03)


def test_logistic_regression_of_two_points_by_hand() -> None:
    # At x = 0 one in four is positive, at x = 1 three in four: log-odds of -log 3 and log 3.
    x = np.array([0.0] * 4 + [1.0] * 4)
    y = np.array([True, False, False, False, True, True, True, False])
    assert fit_logistic(x, y) == pytest.approx((2 * np.log(3), -np.log(3)), abs=1e-6)


def test_head_ranks_an_unseen_set_better_than_its_descriptors() -> None:
    head = fit_head([clusters(1), clusters(2)], others(0))
    unseen = clusters(3)
    result = evaluate_head(head, unseen.descriptors, [str(code) for code in unseen.codes])
    assert result.rescored.map_at_100 > result.index.map_at_100 + 0.05
    assert result.pairs.roc_auc > 0.8


def test_similarity_falls_with_distance_and_is_high_for_a_picture_itself() -> None:
    head = fit_head([clusters(1), clusters(2)], others(0))
    assert head.slope > 0
    assert 1 - head.distance(np.array([0.0]))[0] > 0.9
    assert head.normalize


@pytest.mark.slow
def test_the_same_seed_gives_the_same_head() -> None:
    sets, extra = [clusters(1), clusters(2)], others(0)
    one, two, other = fit_head(sets, extra, 5), fit_head(sets, extra, 5), fit_head(sets, extra, 6)
    np.testing.assert_array_equal(one.weight, two.weight)
    assert (one.slope, one.intercept) == (two.slope, two.intercept)
    assert (one.slope, one.intercept) != (other.slope, other.intercept)


def test_weights_are_rounded_as_a_bundle_stores_them() -> None:
    head = fit_head([clusters(1)], others(0))
    np.testing.assert_array_equal(head.weight, head.weight.astype(np.float16))
    assert head.weight.shape == (CHANNELS, CHANNELS)
    assert head.bias.shape == (CHANNELS,)


def test_negative_descriptors_have_no_root() -> None:
    data = clusters(1)
    assert fit_head([data], others(0)).shift is not None
    shifted = LabelledDescriptors(data.descriptors - 1, data.codes)
    assert fit_head([shifted], others(0) - 1).shift is None


def test_too_few_classes_to_hold_any_out_are_refused() -> None:
    data = clusters(1)
    few = data.select_classes(np.arange(CLASSES) < 3)
    assert few.codes.max() == 2
    with pytest.raises(GalleryError, match="fewer than four classes"):
        fit_head([few], others(0))


def test_pairs_are_half_of_one_class_and_half_of_two() -> None:
    codes = np.array([0, 0, 1, 1, 1, 2])
    first, second, different = balanced_pairs(codes, 50, np.random.default_rng(0))
    assert different.tolist() == [False] * 50 + [True] * 50
    assert np.all((codes[first] != codes[second]) == different)
    assert np.all(first != second)


def test_the_shipped_model_s_card_has_metrics_on_data_sets_it_never_saw() -> None:
    bundle = find_bundle("default")
    assert bundle.weights_file.stat().st_size < 25e6
    assert set(bundle.card.provenance["pictures"]) == {"caltech70", "clothing", "imagenet_samples"}
    assert set(bundle.card.metrics) == {"airbnb", "flowers", "skin_cancer"}
    for figures in bundle.card.metrics.values():
        assert figures["p_at_1"] >= figures["index_p_at_1"] - 0.005
        assert figures["map_at_100"] >= figures["index_map_at_100"] - 0.005
    assert bundle.head.weight.shape == (bundle.card.units, 1280)
    assert 1 - bundle.head.distance(np.array([0.0]))[0] > 0.99


@pytest.mark.slow
def test_fit_writes_a_bundle_that_answers_queries(tmp_path: Path) -> None:
    """Fit, list, index and query with a bundle whose file other users may read."""
    for number in range(4 * 3):
        folder = tmp_path / "sets" / f"class-{number // 3}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(blocks(number // 3, cells=2 + number % 3)).save(folder / f"{number}.png")
    sets, bundle = tmp_path / "sets", tmp_path / "mine"
    (fitted,) = answer("fit", sets, "--unlabelled", sets, "--test", sets, "--out", bundle)["models"]
    assert "mine" in retrieve_here("models", bundle).stdout.decode()
    (card,) = [card for card in answer("models", bundle)["models"] if card["name"] == "mine"]
    assert card == fitted
    assert card["provenance"]["pictures"] == {"sets": 12}
    assert set(card["metrics"]) == {"sets"}
    assert (bundle / "weights.safetensors").stat().st_mode & 0o044
    assert answer("index", sets, "--model", bundle, "--store", tmp_path / "store")["embedded"] == 12
    picture = sets / "class-2" / "7.png"
    (hit,) = answer("query", picture, "--top", "1", "--no-explain", "--store", tmp_path / "store")["hits"]
    assert Path(hit["path"]) == picture
