"""Tests of losses on numbers worked out by hand, and of those of pytorch-metric-learning by name."""

import math

import pytest
import torch
from torch import Tensor, nn

from retrieval.common.errors import ModelError
from retrieval.datasets.pair_sampling import all_pairs
from retrieval.training.losses import (
    ContrastiveLoss,
    MetricLoss,
    PairLoss,
    balanced_log_loss,
    build_loss,
    contrastive_loss,
)

NONE = torch.zeros(0)


def neuron(slope: float, intercept: float) -> nn.Linear:
    layer = nn.Linear(1, 1)
    with torch.no_grad():
        layer.weight.fill_(slope)
        layer.bias.fill_(intercept)
    return layer


def logit(d: float) -> float:
    return math.log(d / (1 - d))


def separations_of(*distances: float) -> Tensor:
    """Return D (P, 1) that a neuron of slope 1 and intercept 0 turns into these distances."""
    return torch.tensor([[logit(d)] for d in distances])


def test_contrastive_loss_of_section_4_by_hand() -> None:
    d, y = torch.tensor([0.2, 0.6, 0.9]), torch.tensor([0.0, 1.0, 1.0])
    # 1/2 of 0.2^2, of (2 - 0.6)^2 and of (2 - 0.9)^2: 0.02, 0.98, 0.605
    assert contrastive_loss(d, y).item() == pytest.approx((0.02 + 0.98 + 0.605) / 3)
    # Beyond the margin there is nothing to gain.
    assert contrastive_loss(d, y, margin=0.5).item() == pytest.approx(0.02 / 3)


@pytest.mark.parametrize(
    ("d", "y", "expected"),
    [
        (0.3, 0.0, 0.09 / 2),  # similar pairs are drawn together
        (0.3, 1.0, 1.7**2 / 2),  # different ones are pushed to the margin of 2
        (0.9, 1.0, 1.1**2 / 2),
        (0.0, 0.0, 0.0),
        (0.5, 0.5, (0.25 + 1.5**2) / 4),
    ],
)
def test_contrastive_loss_by_hand(d: float, y: float, expected: float) -> None:
    assert contrastive_loss(torch.tensor([d]), torch.tensor([y])).item() == pytest.approx(expected)


def test_contrastive_loss_is_the_mean_over_the_batch() -> None:
    loss = contrastive_loss(torch.tensor([0.2, 0.4]), torch.tensor([0.0, 1.0]), margin=1.0)
    assert loss.item() == pytest.approx((0.04 + 0.36) / 4)


def test_contrastive_loss_ends_at_the_margin() -> None:
    assert contrastive_loss(torch.tensor([0.8]), torch.tensor([1.0]), margin=0.5).item() == 0


@pytest.mark.parametrize(("y", "direction"), [(0.0, 1), (1.0, -1)])
def test_label_1_pushes_apart_and_label_0_draws_together(y: float, direction: int) -> None:
    d = torch.tensor([0.5], requires_grad=True)
    (gradient,) = torch.autograd.grad(contrastive_loss(d, torch.tensor([y])), d)
    assert math.copysign(1, gradient.item()) == direction


def test_pairs_of_both_kinds_weigh_the_same_in_the_contrastive_loss() -> None:
    same = torch.tensor([False])
    one = ContrastiveLoss()(NONE, NONE, separations_of(0.2, 0.6), neuron(1, 0), torch.tensor([False, True]))
    many = ContrastiveLoss()(
        NONE, NONE, separations_of(0.2, 0.6, 0.6, 0.6), neuron(1, 0), torch.tensor([False, True, True, True])
    )
    assert one.item() == pytest.approx((0.02 + 0.98) / 2)
    assert many.item() == pytest.approx(one.item())
    only = ContrastiveLoss()(NONE, NONE, separations_of(0.2), neuron(1, 0), same)
    assert only.item() == pytest.approx(0.02)


def test_balanced_log_loss_by_hand() -> None:
    logits = separations_of(0.2, 0.8, 0.9, 0.5)
    different = torch.tensor([False, True, True, False])
    same_kind, other_kind = (-math.log(0.8) - math.log(0.5)) / 2, (-math.log(0.8) - math.log(0.9)) / 2
    assert balanced_log_loss(logits, different).item() == pytest.approx((same_kind + other_kind) / 2)
    assert balanced_log_loss(logits[:1], different[:1]).item() == pytest.approx(-math.log(0.8))


def test_label_1_is_different() -> None:
    near, far = separations_of(0.1, 0.9), separations_of(0.9, 0.1)
    different = torch.tensor([False, True])
    right, wrong = (ContrastiveLoss()(NONE, NONE, each, neuron(1, 0), different) for each in (near, far))
    assert right < wrong
    assert balanced_log_loss(near, different) < balanced_log_loss(far, different)


def test_pair_loss_by_hand() -> None:
    loss = PairLoss(class_count=2, units=2, scale=2.0, smoothing=0.1)
    with torch.no_grad():
        loss.directions.copy_(torch.tensor([[3.0, 0.0], [0.0, 0.5]]))  # their lengths do not count
    u, classes = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.tensor([0, 1])
    separations = torch.tensor([[math.sqrt(0.8)]])
    # Cosines (1, 0) and (0.6, 0.8), times 2; the label has 0.95 of the target and the other class 0.05.
    first = -0.95 * 2.0 - 0.05 * 0.0 + math.log(math.exp(2.0) + 1)
    second = -0.95 * 1.6 - 0.05 * 1.2 + math.log(math.exp(1.6) + math.exp(1.2))
    of_pair = math.log(1 + math.exp(-(3 * math.sqrt(0.8) - 1)))
    found = loss(u, classes, separations, neuron(3, -1), torch.tensor([True]))
    assert found.item() == pytest.approx((first + second) / 2 + of_pair, rel=1e-5)


def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return trainable embeddings of three classes, their classes, and the separations and labels of all pairs."""
    torch.manual_seed(0)
    u = torch.randn(9, 4, requires_grad=True)
    classes = torch.arange(3).repeat_interleave(3)
    first, second = (torch.from_numpy(each) for each in all_pairs(9))
    return (
        u,
        classes,
        torch.linalg.vector_norm(u[first] - u[second], dim=1, keepdim=True),
        classes[first] != classes[second],
    )


@pytest.mark.parametrize("name", ["TripletMarginLoss", "SupConLoss", "ProxyAnchorLoss"])
def test_losses_of_pytorch_metric_learning(name: str) -> None:
    u, classes, separations, different = batch()
    loss, sigmoid = build_loss(name, class_count=3, units=4), neuron(1, -1)
    loss(u, classes, separations, sigmoid, different).backward()
    assert u.grad is not None
    assert u.grad.abs().sum() > 0
    assert sigmoid.weight.grad is not None
    assert sigmoid.weight.grad.abs().sum() > 0
    learnt = list(loss.parameters())
    assert len(learnt) == (1 if name == "ProxyAnchorLoss" else 0)
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in learnt)


def test_the_neuron_s_loss_has_no_gradient_at_the_embeddings() -> None:
    class Nothing(nn.Module):
        def forward(self, u: Tensor, classes: Tensor) -> Tensor:
            return 0 * u.sum()

    u, classes, separations, different = batch()
    MetricLoss(Nothing())(u, classes, separations, neuron(1, -1), different).backward()
    assert u.grad is not None
    assert u.grad.abs().sum() == 0


def test_a_batch_of_one_class_has_a_finite_loss() -> None:
    u = torch.randn(3, 4, requires_grad=True)
    separations = torch.ones(3, 1)
    for name in ("pairs", "contrastive", "TripletMarginLoss", "SupConLoss", "ProxyAnchorLoss"):
        loss = build_loss(name, 3, 4)
        found = loss(u, torch.zeros(3, dtype=torch.int64), separations, neuron(1, 0), torch.zeros(3, dtype=torch.bool))
        assert torch.isfinite(found)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(
        ModelError, match=r"^nonsense is not a loss: give one of pairs, contrastive, .*TripletMarginLoss"
    ):
        build_loss("nonsense", 3, 4)


@pytest.mark.parametrize("name", ["GenericPairLoss", "SelfSupervisedLoss", "VICRegLoss", "SmoothAPLoss"])
def test_a_loss_with_further_inputs_is_refused(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        build_loss(name, 3, 4)
    assert str(caught.value).startswith(f"the loss {name} needs more than pictures and classes (")
    assert str(caught.value).endswith("): give another")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["CosFaceLoss", "SubCenterArcFaceLoss"])
def test_a_loss_that_inherits_its_number_of_classes(name: str) -> None:
    (directions,) = build_loss(name, class_count=3, units=4).parameters()
    assert directions.shape[0] == 4
    assert directions.grad is None
