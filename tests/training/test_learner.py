"""The network while it learns: what is folded into its head, what stays as it is, and where it begins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from retrieval.datasets.pair_sampling import all_pairs
from retrieval.model.bundle import find_bundle
from retrieval.model.head import Head
from retrieval.training.learner import Learner
from tests.support.training import BRIEF, CHANNELS, tiny_trunk

CLASSES = torch.arange(3).repeat_interleave(4)
FIRST, SECOND = (torch.from_numpy(each) for each in all_pairs(12))


def descriptors(seed: int = 0, channels: int = CHANNELS, count: int = 12) -> Tensor:
    return torch.rand(count, channels, generator=torch.Generator().manual_seed(seed)) * 3


def pictures() -> Tensor:
    return torch.randn(12, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def step(trainee: Learner) -> None:
    """One step of training on all that may learn."""
    optimizer = torch.optim.AdamW([each for each in trainee.parameters() if each.requires_grad], 0.05)
    trainee.train()
    trainee.batch_loss(trainee.describe(pictures()), CLASSES, FIRST, SECOND).backward()  # type: ignore[no-untyped-call]
    optimizer.step()


@pytest.mark.parametrize("shift", [None, 0.5])
@pytest.mark.parametrize("normalize", [True, False])
def test_mean_and_spread_are_folded_into_the_head(normalize: bool, shift: float | None) -> None:
    torch.manual_seed(3)
    trainee = Learner(tiny_trunk(), replace(BRIEF, normalize=normalize, shift=shift, dropout=0.5), 3).eval()
    g = descriptors()
    trainee.standardize(g)
    trainee.init_calibration(g)
    head = trainee.export_head()
    assert head.weight.shape == (8, CHANNELS)
    np.testing.assert_array_equal(head.weight, head.weight.astype(np.float16))
    with torch.no_grad():
        u = trainee.embed(g)
        d = trainee.network.distance(u[FIRST], u[SECOND])
    mine = head.embed(g.numpy())
    np.testing.assert_allclose(mine, u.numpy(), atol=2e-3 * float(u.max()))
    separations = head.separation(mine[FIRST], mine[SECOND])
    np.testing.assert_allclose(head.distance(separations), d.numpy(), atol=0.02)


def test_standardized_descriptors_by_hand() -> None:
    trainee = Learner(tiny_trunk(), BRIEF, 2)
    g = torch.zeros(2, CHANNELS)
    g[:, 0] = torch.tensor([1.0, 5.0])
    trainee.standardize(g)
    # m is 3 in the first channel; s is the root of the mean of (x - m)^2, which is 4 in one channel of all
    assert trainee.mean[0].item() == 3
    assert trainee.mean[1:].abs().sum() == 0
    assert trainee.spread.item() == pytest.approx((4 / CHANNELS) ** 0.5)
    plain = Learner(tiny_trunk(), replace(BRIEF, standardize=False), 2)
    plain.standardize(g)
    assert plain.mean.abs().sum() == 0
    assert plain.spread.item() == 1


def test_the_neuron_begins_half_way_at_the_mean_separation() -> None:
    torch.manual_seed(0)
    trainee = Learner(tiny_trunk(), replace(BRIEF, normalize=False), 3).eval()
    g = descriptors()
    trainee.init_calibration(g)
    with torch.no_grad():
        mean = float(torch.pdist(trainee.embed(g)).mean())
    head = trainee.export_head()
    assert head.slope == pytest.approx(4 / mean)
    assert head.intercept == -4
    assert head.distance(np.array([0.0, mean])) == pytest.approx([1 / (1 + np.exp(4)), 0.5], abs=1e-6)


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def changed(before: dict[str, Tensor], module: nn.Module) -> set[str]:
    return {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}


FIRST_STAGES = {"0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias"}
LAST_STAGES = {"1.0.weight", "1.0.bias", "1.1.weight", "1.1.bias"}


def statistics(stage: int) -> set[str]:
    return {f"{stage}.1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}


@pytest.mark.parametrize(
    ("frozen", "frozen_statistics", "learns"),
    [
        (0.0, False, FIRST_STAGES | LAST_STAGES | statistics(0) | statistics(1)),
        (0.5, False, LAST_STAGES | statistics(1)),
        (0.5, True, LAST_STAGES),
        (1.0, False, set()),
        (1.0, True, set()),
    ],
)
def test_what_is_frozen_stays_as_it_is(frozen: float, frozen_statistics: bool, learns: set[str]) -> None:
    torch.manual_seed(0)
    trainee = Learner(tiny_trunk(), replace(BRIEF, frozen=frozen, frozen_statistics=frozen_statistics), 3)
    trainee.standardize(descriptors())
    before = state(trainee.network.backbone)
    step(trainee)
    # A bias before batch normalisation by the batch's own statistics has no effect, so that its gradient is nearly 0.
    assert changed(before, trainee.network.backbone) - {"0.0.bias", "1.0.bias"} == learns - {"0.0.bias", "1.0.bias"}
    assert trainee.is_thawed == (frozen < 1)


def test_it_learns_to_tell_the_classes_of_a_batch_apart() -> None:
    torch.manual_seed(0)
    trainee = Learner(tiny_trunk(), BRIEF, 3)
    g = descriptors() + 2 * CLASSES[:, None]
    trainee.standardize(g)
    trainee.eval()
    trainee.init_calibration(g)
    optimizer = torch.optim.AdamW(trainee.parameters(), 0.01)
    losses = []
    for _ in range(60):
        loss = trainee.train().batch_loss(g, CLASSES, FIRST, SECOND)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    with torch.no_grad():
        u = trainee.eval().embed(g)
        d = trainee.network.distance(u[FIRST], u[SECOND])
    different = CLASSES[FIRST] != CLASSES[SECOND]
    assert d[~different].max() < 0.5 < d[different].min()


# A head to begin with


def begun(keep: float = 20.0) -> tuple[Learner, Head]:
    random = np.random.default_rng(0)
    start = Head(
        random.normal(0, 0.3, (10, CHANNELS)).astype(np.float16).astype(np.float32),
        random.normal(0, 0.1, 10).astype(np.float32),
        9.0,
        -4.0,
        normalize=True,
        shift=0.5,
    )
    preset = replace(BRIEF, shift=0.5, keep_general=keep, frozen=1.0)
    trainee = Learner(tiny_trunk(), preset, 3, start).eval()
    trainee.standardize(descriptors())
    return trainee, start


def test_a_head_to_begin_with_is_taken_over() -> None:
    trainee, start = begun()
    g = descriptors(5)
    np.testing.assert_allclose(trainee.export_head().embed(g.numpy()), start.embed(g.numpy()), atol=2e-3)
    assert len(trainee.export_head().bias) == 10  # its units, not the preset's


def test_nothing_is_to_pay_at_the_start_for_cosines_that_have_not_moved() -> None:
    held, free = begun(20.0)[0], begun(0.0)[0]
    for trainee in (held, free):
        trainee.init_calibration(descriptors())
    free.loss.load_state_dict(held.loss.state_dict())
    g = descriptors()
    of_both = [trainee.batch_loss(g, CLASSES, FIRST, SECOND).item() for trainee in (held, free)]
    assert of_both[0] == pytest.approx(of_both[1], abs=1e-6)
    with torch.no_grad():
        for trainee in (held, free):
            trainee.network.dense.bias.add_(torch.linspace(-1, 1, 10))
    moved = [trainee.batch_loss(g, CLASSES, FIRST, SECOND).item() for trainee in (held, free)]
    before, after = (head.embed(g.numpy()) for head in (begun()[1], held.export_head()))
    drift = float(np.square(after @ after.T - before @ before.T).mean())
    assert moved[0] - moved[1] == pytest.approx(20 * drift, rel=0.02)
    assert drift > 1e-4


def test_the_head_that_it_began_as_does_not_learn() -> None:
    trainee, start = begun()
    trainee.init_calibration(descriptors())
    step(trainee)
    assert trainee.began_as is not None
    np.testing.assert_array_equal(trainee.began_as.weight.numpy(), start.weight)
    assert not np.array_equal(trainee.export_head().weight, start.weight)


def test_the_default_models_head_is_taken_over() -> None:
    from retrieval.model.backbones import build_backbone
    from retrieval.training.presets import FAST, adapt_preset

    start = find_bundle("default").head
    preset = adapt_preset(FAST, None, None, None, thaw=True, keep_general=True)
    trainee = Learner(build_backbone("efficientnet_lite0", pretrained=False), preset, 3, start).eval()
    g = descriptors(2, 1280)
    trainee.standardize(g)
    np.testing.assert_allclose(trainee.export_head().embed(g.numpy()), start.embed(g.numpy()), atol=2e-3)
