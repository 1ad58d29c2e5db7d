"""The words and figures of a reproduction, as its page and the terminal show them: plain text."""

from retrieval.evaluation.verdicts import PAIR_METRIC_TITLES
from retrieval.training.paper.results import (
    EPOCH_SCORES,
    SCORE_NAMES,
    PairKind,
    Scores,
    SeedStats,
    Study,
    study_of_kind,
)

_TITLES = dict(PAIR_METRIC_TITLES) | {"best_epoch": "Best epoch", "epochs": "Epochs trained"}
SCORE_TITLES = {name: _TITLES[name] for name in SCORE_NAMES}

PAIR_TITLES = {
    PairKind.similar: "One class, judged similar",
    PairKind.different: "Two classes, judged different",
    PairKind.borderline: "Two classes, nearest to a distance of 0.5",
}


def format_score(name: str, value: float, signed: bool = False) -> str:
    """Format a value of `Scores`, or a change of it."""
    return f"{value:{'+' if signed else ''}.{1 if name in EPOCH_SCORES else 4}f}"


def format_paper_score(name: str, row: Scores, lacking: str = "") -> str:
    """Format a figure of the paper; `lacking` if its row has none."""
    return format_score(name, row[name]) if name in row else lacking


def format_stats(name: str, stats: SeedStats, signed: bool = False) -> str:
    """Format a mean with its standard deviation, if it has one."""
    sd = "" if stats.sd is None else f" ± {format_score(name, stats.sd)}"
    return format_score(name, stats.mean, signed) + sd


def paper_reference(kind: PairKind, study: Study) -> str:
    """Say to which of the paper's figures a pair of this kind corresponds, on the data set of `study`."""
    other = study_of_kind(kind)
    one, two = other.labels
    classes = f"two of “{one}”" if one == two else f"“{one}” and “{two}”"
    there = f"there {classes}, with a distance of {other.distance:g}"
    if other is study:
        return f"Corresponds to Figure {other.figure} of the paper: {there}."
    return f"The kind of Figure {other.figure}, which the paper shows for {other.title} only: {there}."
