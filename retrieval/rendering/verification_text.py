"""A verification in words and figures, for terminals and pages."""

from retrieval.common.text import percent
from retrieval.explain.verification import HiddenRegion, Support, Verification

_SUPPORT_MEANINGS: dict[Support, str] = {
    Support.faithful: "hiding what they name did what they claim, in both pictures",
    Support.weak: "hiding what they name did only in part what they claim",
    Support.not_supported: "hiding what they name did not do what they claim: do not rely on them",
}
VERIFICATION_HEADINGS = ("blurred", "similarity then", "random regions", "as claimed")


def describe_support(verification: Verification) -> str:
    """Return the verdict on a pair's heatmaps as a sentence."""
    return f"Heatmaps {verification.support}: {_SUPPORT_MEANINGS[verification.support]}."


def verification_rows(verification: Verification, titles: tuple[str, str]) -> list[tuple[str, str, str, str]]:
    """Return a row under VERIFICATION_HEADINGS for each blurred region; `titles` name both pictures."""
    regions: list[tuple[str, HiddenRegion]] = [
        (f"{title}, most {kind} fifth", getattr(check, kind))
        for kind in ("factual", "counterfactual")
        for title, check in zip(titles, (verification.query, verification.hit), strict=True)
    ]
    return [
        (name, percent(region.similarity), percent(region.random_similarity), "yes" if region.as_claimed else "no")
        for name, region in regions
    ]
