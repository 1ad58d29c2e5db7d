"""Tests of the network in training: the exported head, frozen layers, and the initial state."""

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


def step(learner: Learner) -> None:
    """Run one step of training on all trainable weights."""
    optimizer = torch.optim.AdamW([each for each in learner.parameters() if each.requires_grad], 0.05)
    learner.train()
    learner.batch_loss(learner.describe(pictures()), CLASSES, FIRST, SECOND).backward()  # type: ignore[no-untyped-call]
    optimizer.step()


@pytest.mark.parametrize("shift", [None, 0.5])
@pytest.mark.parametrize("normalize", [True, False])
def test_mean_and_spread_are_folded_into_the_head(normalize: bool, shift: float | None) -> None:
    torch.manual_seed(3)
    learner = Learner(tiny_trunk(), replace(BRIEF, normalize=normalize, shift=shift, dropout=0.5), 3).eval()
    g = descriptors()
    learner.standardize(g)
    learner.init_calibration(g)
    head = learner.export_head()
    assert head.weight.shape == (8, CHANNELS)
    np.testing.assert_array_equal(head.weight, head.weight.astype(np.float16))
    with torch.no_grad():
        u = learner.embed(g)
        d = learner.network.distance(u[FIRST], u[SECOND])
    exported = head.embed(g.numpy())
    np.testing.assert_allclose(exported, u.numpy(), atol=2e-3 * float(u.max()))
    separations = head.separation(exported[FIRST], exported[SECOND])
    np.testing.assert_allclose(head.distance(separations), d.numpy(), atol=0.02)


def test_standardized_descriptors_by_hand() -> None:
    learner = Learner(tiny_trunk(), BRIEF, 2)
    g = torch.zeros(2, CHANNELS)
    g[:, 0] = torch.tensor([1.0, 5.0])
    learner.standardize(g)
    # m is 3 in the first channel; s is the root of the mean of (x - m)^2, which is 4 in one channel of all
    assert learner.mean[0].item() == 3
    assert learner.mean[1:].abs().sum() == 0
    assert learner.spread.item() == pytest.approx((4 / CHANNELS) ** 0.5)
    plain = Learner(tiny_trunk(), replace(BRIEF, standardize=False), 2)
    plain.standardize(g)
    assert plain.mean.abs().sum() == 0
    assert plain.spread.item() == 1


def test_the_neuron_starts_half_way_at_the_mean_separation() -> None:
    torch.manual_seed(0)
    learner = Learner(tiny_trunk(), replace(BRIEF, normalize=False), 3).eval()
    g = descriptors()
    learner.init_calibration(g)
    with torch.no_grad():
        mean = float(torch.pdist(learner.embed(g)).mean())
    head = learner.export_head()
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
def test_frozen_layers_do_not_change(frozen: float, frozen_statistics: bool, learns: set[str]) -> None:
    torch.manual_seed(0)
    learner = Learner(tiny_trunk(), replace(BRIEF, frozen=frozen, frozen_statistics=frozen_statistics), 3)
    learner.standardize(descriptors())
    before = state(learner.network.backbone)
    step(learner)
    # A bias before batch normalisation by the batch's own statistics has no effect, so that its gradient is nearly 0.
    assert changed(before, learner.network.backbone) - {"0.0.bias", "1.0.bias"} == learns - {"0.0.bias", "1.0.bias"}
    assert learner.is_thawed == (frozen < 1)


def test_it_learns_to_distinguish_the_classes_of_a_batch() -> None:
    torch.manual_seed(0)
    learner = Learner(tiny_trunk(), BRIEF, 3)
    g = descriptors() + 2 * CLASSES[:, None]
    learner.standardize(g)
    learner.eval()
    learner.init_calibration(g)
    optimizer = torch.optim.AdamW(learner.parameters(), 0.01)
    losses = []
    for _ in range(60):
        loss = learner.train().batch_loss(g, CLASSES, FIRST, SECOND)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    with torch.no_grad():
        u = learner.eval().embed(g)
        d = learner.network.distance(u[FIRST], u[SECOND])
    different = CLASSES[FIRST] != CLASSES[SECOND]
    assert d[~different].max() < 0.5 < d[different].min()


# An initial head


def with_initial_head(keep: float = 20.0) -> tuple[Learner, Head]:
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
    learner = Learner(tiny_trunk(), preset, 3, start).eval()
    learner.standardize(descriptors())
    return learner, start


def test_an_initial_head_is_taken_over() -> None:
    learner, start = with_initial_head()
    g = descriptors(5)
    np.testing.assert_allclose(learner.export_head().embed(g.numpy()), start.embed(g.numpy()), atol=2e-3)
    assert len(learner.export_head().bias) == 10  # its units, not the preset's


def test_only_moved_cosines_add_to_the_loss() -> None:
    held, free = with_initial_head(20.0)[0], with_initial_head(0.0)[0]
    for learner in (held, free):
        learner.init_calibration(descriptors())
    free.loss.load_state_dict(held.loss.state_dict())
    g = descriptors()
    before_change = [learner.batch_loss(g, CLASSES, FIRST, SECOND).item() for learner in (held, free)]
    assert before_change[0] == pytest.approx(before_change[1], abs=1e-6)
    with torch.no_grad():
        for learner in (held, free):
            learner.network.dense.bias.add_(torch.linspace(-1, 1, 10))
    moved = [learner.batch_loss(g, CLASSES, FIRST, SECOND).item() for learner in (held, free)]
    before, after = (head.embed(g.numpy()) for head in (with_initial_head()[1], held.export_head()))
    drift = float(np.square(after @ after.T - before @ before.T).mean())
    assert moved[0] - moved[1] == pytest.approx(20 * drift, rel=0.02)
    assert drift > 1e-4


def test_the_initial_head_itself_is_not_trained() -> None:
    learner, start = with_initial_head()
    learner.init_calibration(descriptors())
    step(learner)
    assert learner.initial_dense is not None
    np.testing.assert_array_equal(learner.initial_dense.weight.numpy(), start.weight)
    assert not np.array_equal(learner.export_head().weight, start.weight)


def test_the_default_models_head_is_taken_over() -> None:
    from retrieval.model.backbones import build_backbone
    from retrieval.training.presets import FAST, adapt_preset

    start = find_bundle("default").head
    preset = adapt_preset(FAST, None, None, None, thaw=True, keep_general=True)
    learner = Learner(build_backbone("efficientnet_lite0", pretrained=False), preset, 3, start).eval()
    g = descriptors(2, 1280)
    learner.standardize(g)
    np.testing.assert_allclose(learner.export_head().embed(g.numpy()), start.embed(g.numpy()), atol=2e-3)
