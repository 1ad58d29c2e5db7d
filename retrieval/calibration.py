"""How a store's similarity is calibrated to its own gallery, and how well: kept in the store."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum

from indexes.catalogue.catalogue import Catalogue
from retrieval.common.errors import ModelError
from retrieval.model.bundle import find_bundle

_SETTING = "calibration"


class Unseen(StrEnum):
    """What a half of the gallery was unseen by: the neuron that judged it was fitted on none of its classes, or none
    of its pictures."""

    classes = "classes"
    pictures = "pictures"


@dataclass(frozen=True)
class Judged:
    """Verdicts on unseen pairs: the share that is right, and the expected calibration error (0 to 1)."""

    accuracy: float
    error: float


@dataclass(frozen=True)
class Calibration:
    """The sigmoid neuron fitted to a gallery, for the head of this `digest`: d = sigmoid(slope D + intercept).

    `model` is the head's name. It was fitted to `pairs` pairs of `pictures` pictures in `classes` classes, half of the
    pairs of one class. `before` and `after` are of pairs that the judging neuron was not fitted on, as `unseen` says;
    `roc_auc` is the same for both.
    """

    model: str
    digest: str
    slope: float
    intercept: float
    pictures: int
    classes: int
    pairs: int
    seed: int
    unseen: Unseen
    roc_auc: float
    before: Judged
    after: Judged


def read_calibration(catalogue: Catalogue) -> Calibration | None:
    """The calibration that a store keeps, of whatever head. Raises StoreError."""
    kept = catalogue.setting(_SETTING)
    if not kept:
        return None
    values = json.loads(kept)
    judged = {name: Judged(**values[name]) for name in ("before", "after")}
    return Calibration(**values | judged | {"unseen": Unseen(values["unseen"])})


def in_use(calibration: Calibration, catalogue: Catalogue) -> bool:
    """Whether it is for the head that the store's own model has now. Raises StoreError."""
    try:
        return find_bundle(catalogue.setting("model") or calibration.model).head.digest == calibration.digest
    except ModelError:  # the model is gone
        return False


def keep_calibration(catalogue: Catalogue, calibration: Calibration) -> None:
    """Keep it in the store, whose hits have its similarities from then on. Raises StoreError."""
    catalogue.set_settings(**{_SETTING: json.dumps(asdict(calibration))})


def drop_calibration(catalogue: Catalogue) -> bool:
    """Take it back: the head's own similarities return. Whether there was one. Raises StoreError."""
    was_kept = bool(catalogue.setting(_SETTING))
    if was_kept:
        catalogue.set_settings(**{_SETTING: ""})
    return was_kept
