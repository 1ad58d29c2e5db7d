"""What a query's hits are worth: the best of them may be far, if nothing in the gallery looks like the query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from retrieval.common.settings import FAMILIAR, THRESHOLD
from retrieval.common.text import percent, whole_percent
from retrieval.explain.hit import Hit


@dataclass(frozen=True)
class Confidence:
    """Whether a query's hits answer it.

    `familiarity` is the best of its hits: below FAMILIAR the query is `foreign` to the gallery. Both are None without
    statistics of the gallery. The hits are `confident` unless the query is foreign, or none of them reaches the
    `confidence` that was set: a probability or, without statistics, a similarity, by default 50 %. `doubt` is a
    sentence if they are not.
    """

    confidence: float | None
    confident: bool
    familiarity: float | None
    foreign: bool | None
    doubt: str | None


def judge_hits(hits: Sequence[Hit], confidence: float | None = None) -> Confidence:
    """Return what a query's hits are worth, if one of them must reach `confidence` (0 to 1)."""
    familiarity = max((hit.familiarity for hit in hits if hit.familiarity is not None), default=None)
    if familiarity is None:
        least = 1 - THRESHOLD if confidence is None else confidence
        doubt = _weakness_doubt([hit.similarity for hit in hits], least, "similar")
        return Confidence(confidence, bool(hits) and doubt is None, None, None, doubt)
    is_foreign = familiarity < FAMILIAR
    if is_foreign:
        doubt = (
            "None of the pictures searched looks like this one: the nearest is farther away than that of"
            f" {whole_percent(1 - familiarity)} of the gallery's own pictures."
        )
    else:
        doubt = _weakness_doubt([hit.probability or 0.0 for hit in hits], confidence or 0.0, "of the same kind")
    return Confidence(confidence, doubt is None, familiarity, is_foreign, doubt)


def _weakness_doubt(shares: Sequence[float], least: float, claim: str) -> str | None:
    best = max(shares, default=least)
    if best >= least:
        return None
    return (
        f"Nothing in this gallery is confidently {claim}: the best hit has {percent(best)}, less than {percent(least)}."
    )
