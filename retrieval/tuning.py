"""How well and how fast the index searches, as it was measured: kept in the store. Needs no index."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from indexes.catalogue.catalogue import Catalogue

_SETTING = "tuning"


@dataclass(frozen=True)
class Tuning:
    """An index's kind and search parameter, and what was measured with it when the gallery had `pictures`.

    `recall` is the share of the ten best hits of an exact search (after rescoring) that the index has among the
    candidates that it hands on, over `queries` pictures of the gallery, each asked for the others. `milliseconds` is
    the median of one search. An exact index has no `recall` to measure.
    """

    kind: str
    pictures: int
    lists: int = 0
    probes: int = 0
    recall: float | None = None
    queries: int = 0
    milliseconds: float | None = None


def read_tuning(catalogue: Catalogue) -> Tuning | None:
    """What was measured last of the store's index. Raises StoreError."""
    kept = catalogue.setting(_SETTING)
    return Tuning(**json.loads(kept)) if kept else None


def keep_tuning(catalogue: Catalogue, tuning: Tuning) -> None:
    """Keep it in the store, whose searches take its parameter from then on. Raises StoreError."""
    catalogue.set_settings(**{_SETTING: json.dumps(asdict(tuning))})
