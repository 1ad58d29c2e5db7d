"""The words and figures of a reproduction, as its page and the terminal show them: plain text."""

from __future__ import annotations

from retrieval.evaluation.verdicts import PAIR_METRIC_TITLES
from retrieval.training.paper.results import SCORE_NAMES, PairKind, PaperRow, Plan, SeedStats, Study, study_of_kind

_TITLES = dict(PAIR_METRIC_TITLES) | {"best_epoch": "Best epoch", "epochs": "Epochs trained"}
SCORE_TITLES = {name: _TITLES[name] for name in SCORE_NAMES}
"""Of the fields of `Scores`, in their order."""

PAIR_TITLES = {
    PairKind.similar: "One class, judged similar",
    PairKind.different: "Two classes, judged different",
    PairKind.borderline: "Two classes, nearest to a distance of 0.5",
}


def format_score(name: str, value: float, signed: bool = False) -> str:
    """A value of a field of `Scores`, or a change of it."""
    if name in ("best_epoch", "epochs"):
        return f"{value:+.1f}" if signed else f"{value:.1f}"
    return f"{value:+.4f}" if signed else f"{value:.4f}"


def format_paper_score(name: str, row: PaperRow, lacking: str = "") -> str:
    """A figure of the paper; `lacking` where its row has none."""
    value = getattr(row, name, None)
    return lacking if value is None else format_score(name, value)


def format_stats(name: str, stats: SeedStats, signed: bool = False) -> str:
    """The mean and the standard deviation, where there is one."""
    sd = "" if stats.sd is None else f" ± {format_score(name, stats.sd)}"
    return format_score(name, stats.mean, signed) + sd


def paper_reference(kind: PairKind, study: Study) -> str:
    """Which of the paper's figures a pair of this kind corresponds to, on the data set of `study`."""
    other = study_of_kind(kind)
    one, two = other.labels
    classes = f"two of “{one}”" if one == two else f"“{one}” and “{two}”"
    there = f"there {classes}, with a distance of {other.distance:g}"
    if other is study:
        return f"Corresponds to Figure {other.figure} of the paper: {there}."
    return f"The kind of Figure {other.figure}, which the paper shows for {other.title} only: {there}."


def settings(plan: Plan, versions: dict[str, str]) -> list[tuple[str, str]]:
    """What a run was made with, by name."""
    preset = [(f"preset: {name}", str(value)) for name, value in vars(plan.preset).items()]
    return [
        ("command", plan.command or "not recorded"),
        ("seeds", ", ".join(str(seed) for seed in plan.all_seeds)),
        ("device", str(plan.device)),
        *versions.items(),
        ("weights", plan.weights.name if plan.weights else "ImageNet"),
        *preset,
    ]
