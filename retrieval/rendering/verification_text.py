"""A verification in words and figures, for terminals and pages."""

from retrieval.common.text import percent
from retrieval.explain.illustrated import HEATMAP_KINDS
from retrieval.explain.verification import HiddenRegion, Support, Verification

_SUPPORT_MEANINGS: dict[Support, str] = {
    Support.faithful: "hiding what they name did what they claim, in both ways of hiding",
    Support.weak: "hiding what they name did only in part what they claim",
    Support.not_supported: "hiding what they name did not do what they claim: do not rely on them",
}
VERIFICATION_HEADINGS = ("hidden", "similarity then", "at random", "as claimed")


def describe_support(verification: Verification) -> str:
    """Return the verdict on a pair's heatmaps as a sentence, and how much of the model's changes they foretell."""
    meaning = _SUPPORT_MEANINGS[verification.support]
    return f"Heatmaps {verification.support}: {meaning}. Fidelity: {percent(verification.fidelity)}."


def verification_rows(verification: Verification, titles: tuple[str, str]) -> list[tuple[str, str, str, str]]:
    """Return a row under VERIFICATION_HEADINGS for each region and way of hiding; `titles` name both pictures."""
    regions: list[tuple[str, HiddenRegion]] = [
        (f"{title}, {kind} fifth {way}", getattr(picture, kind))
        for way, check in verification.hidings.items()
        for kind in HEATMAP_KINDS
        for title, picture in zip(titles, (check.query, check.hit), strict=True)
        if picture is not None
    ]
    return [
        (name, percent(region.similarity), percent(region.random_similarity), "yes" if region.as_claimed else "no")
        for name, region in regions
    ]
