"""Losses of a batch, by name: the paper's, the log-loss of all pairs, and those of pytorch-metric-learning.

Each takes embeddings u (B, E), their classes (B,), the separations D (P, 1) of the batch's pairs, the neuron that takes
D to the log-odds w D + b, and the pairs' labels `different` (P,); it returns a scalar.
"""

import copy
import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from retrieval.common.errors import ModelError

OWN_LOSSES = ("pairs", "contrastive")


def build_loss(name: str, class_count: int, units: int) -> nn.Module:
    """Build the loss of this name; its parameters, if any, are trained too. Raises ModelError."""
    if name == "pairs":
        return PairLoss(class_count, units)
    if name == "contrastive":
        return ContrastiveLoss()
    from pytorch_metric_learning import losses

    known: dict[str, Any] = {key: value for key, value in vars(losses).items() if key.endswith("Loss")}
    if name not in known:
        raise ModelError(f"{name} is not a loss: give one of {', '.join([*OWN_LOSSES, *sorted(known)])}")
    parameters = {key for each in known[name].__mro__ for key in inspect.signature(each.__init__).parameters}
    available = {"num_classes": class_count, "embedding_size": units}
    arguments = {key: value for key, value in available.items() if key in parameters}
    try:
        loss = known[name](**arguments)
        _check_loss(copy.deepcopy(loss), units)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(f"the loss {name} needs more than pictures and classes ({reason}): give another") from error
    return MetricLoss(loss)


def _check_loss(loss: nn.Module, units: int) -> None:
    """Try two batches with classes of unequal sizes: some losses raise only then that they do not support them."""
    for _ in range(2):
        loss(torch.randn(5, units, requires_grad=True), torch.tensor([0, 0, 0, 1, 1])).backward()


def contrastive_loss(d: Tensor, y: Tensor, margin: float = 2.0) -> Tensor:
    """Return the mean of ((1 - y) d^2 + y max(0, margin - d)^2) / 2; y is 1 for different (section 4)."""
    return ((1 - y) * d.square() + y * (margin - d).clamp_min(0).square()).mean() / 2


class ContrastiveLoss(nn.Module):
    """The paper's loss of the distances d. Both kinds of pairs weigh the same, however many there are of each."""

    def forward(self, u: Tensor, classes: Tensor, separations: Tensor, neuron: nn.Module, different: Tensor) -> Tensor:
        d = torch.sigmoid(neuron(separations)).squeeze(1)
        kinds = [(d[different == kind], float(kind)) for kind in (False, True)]
        present = [contrastive_loss(of_kind, torch.full_like(of_kind, y)) for of_kind, y in kinds if len(of_kind)]
        return torch.stack(present).mean()


class PairLoss(nn.Module):
    """The log-loss of the verdicts on all pairs, both kinds weighing the same, plus that of the classes.

    The second is the cross entropy of a softmax over the cosines with one learnt direction per class; it says what a
    picture should be near to, while pairs only say how near. Of the pairs of each kind only `hardest_share` counts,
    which a training lowers from 1 as most pairs become easy.
    """

    def __init__(self, class_count: int, units: int, scale: float = 10.0, smoothing: float = 0.1) -> None:
        super().__init__()
        self.hardest_share = 1.0
        self.directions = nn.Parameter(0.05 * torch.randn(class_count, units))
        self.scale = scale
        self.smoothing = smoothing

    def forward(self, u: Tensor, classes: Tensor, separations: Tensor, neuron: nn.Module, different: Tensor) -> Tensor:
        cosines = functional.normalize(u, dim=1) @ functional.normalize(self.directions, dim=1).T
        of_classes = functional.cross_entropy(self.scale * cosines, classes, label_smoothing=self.smoothing)
        return balanced_log_loss(neuron(separations), different, self.hardest_share) + of_classes


class MetricLoss(nn.Module):
    """A loss of pytorch-metric-learning on the embeddings; the sigmoid neuron learns from detached separations."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, u: Tensor, classes: Tensor, separations: Tensor, neuron: nn.Module, different: Tensor) -> Tensor:
        of_embeddings: Tensor = self.loss(u, classes)
        return of_embeddings + balanced_log_loss(neuron(separations.detach()), different)


def balanced_log_loss(logits: Tensor, different: Tensor, hardest_share: float = 1.0) -> Tensor:
    """Return the log-loss of logits (P, 1) against labels (P,): the mean over both kinds of pairs of their means.

    The mean of a kind is over the hardest share of its pairs, at least one.
    """
    losses = functional.binary_cross_entropy_with_logits(logits.squeeze(1), different.float(), reduction="none")
    kinds = [losses[different == kind] for kind in (False, True)]
    return torch.stack([_hardest(kind, hardest_share) for kind in kinds if len(kind)]).mean()


def _hardest(losses: Tensor, share: float) -> Tensor:
    return losses.topk(max(1, round(share * len(losses)))).values.mean() if share < 1 else losses.mean()
