"""The page of a reproduction: figures beside the paper's, explained pairs, Table 1, crops."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retrieval.common.atomic_files import write_atomically
from retrieval.common.jsonable import to_json
from retrieval.datasets.crop_page import draw_crop
from retrieval.evaluation.ranking import RANKING_METRIC_TITLES, RankingMetrics
from retrieval.evaluation.verdicts import PAIR_METRIC_TITLES, PairMetrics
from retrieval.rendering.html import render
from retrieval.training.paper.results import (
    PAPER_CROP_PAIR,
    PAPER_CROPPED,
    PAPER_ORIGINAL,
    Plan,
    Scores,
    StudyResult,
    TableResult,
)
from retrieval.training.paper.results_json import package_versions, results_json
from retrieval.training.paper.wording import (
    PAIR_TITLES,
    SCORE_TITLES,
    format_paper_score,
    format_score,
    format_stats,
    paper_reference,
)

_NO_FIGURE = "–"  # the paper gives none


def write_results(result: StudyResult | TableResult) -> tuple[Path, Path]:
    """Write the page and the JSON of a case into its folder and return their paths. Raises RetrievalError."""
    page, values = (result.plan.out / f"{result.plan.case}.{ending}" for ending in ("html", "json"))
    write_atomically(page, results_page(result))
    write_atomically(values, to_json(results_json(result), indent=1) + "\n")
    return page, values


def results_page(result: StudyResult | TableResult) -> str:
    """Return one HTML page, whole in itself."""
    if isinstance(result, TableResult):
        template, context = "paper/table.html", _table_context(result)
    else:
        template, context = "paper/study.html", _study_context(result)
    return render(template, result=result, settings=_settings(result.plan), **context)


def _study_context(result: StudyResult) -> dict[str, Any]:
    paper = [result.plan.study.row] if result.plan.study.row else []

    def row(name: str, title: str, metrics: Sequence[PairMetrics | RankingMetrics]) -> list[str]:
        figures = (f"{getattr(each, name):.4f}" for each in metrics)
        return [title, *figures, *(format_paper_score(name, scores, _NO_FIGURE) for scores in paper)]

    evaluations = result.results.values()
    pairs, rescored = [each.pairs for each in evaluations], [each.rescored for each in evaluations]
    rows = [row(name, title, pairs) for name, title in PAIR_METRIC_TITLES]
    rows += [row(name, f"{title}, rescored", rescored) for name, title in RANKING_METRIC_TITLES]
    return {"rows": rows, "pair_titles": PAIR_TITLES, "paper_reference": paper_reference}


def _table_context(result: TableResult) -> dict[str, Any]:
    comparisons = result.comparisons
    kinds = (("original", "original"), ("cropped", "“cropped”"), ("change", "change"))

    def paper(scores: Scores) -> list[str]:
        return [format_paper_score(name, scores, _NO_FIGURE) for name in SCORE_TITLES]

    def paper_change(name: str) -> str:
        if name not in PAPER_ORIGINAL:
            return _NO_FIGURE
        return format_score(name, PAPER_CROPPED[name] - PAPER_ORIGINAL[name], signed=True)

    rows = [
        ["The paper: original", *paper(PAPER_ORIGINAL)],
        ["The paper: “cropped”", *paper(PAPER_CROPPED)],
        ["The paper: change", *map(paper_change, SCORE_TITLES)],
    ]
    seed_rows = [[f"Seed {run.seed}: {title}"] for run in result.runs for _, title in kinds]
    for row, (kind, title) in enumerate(kinds):
        stats = {name: getattr(comparison, kind) for name, comparison in comparisons.items()}
        signed = kind == "change"
        rows.append([f"Here: {title}", *(format_stats(name, each, signed) for name, each in stats.items())])
        for number, seed_row in enumerate(seed_rows[row :: len(kinds)]):
            seed_row += [format_score(name, each.values[number], signed) for name, each in stats.items()]
    return {
        "heads": list(SCORE_TITLES.values()),
        "rows": rows,
        "seed_rows": seed_rows,
        "draw_crop": draw_crop,
        "paper_distances": PAPER_CROP_PAIR,
    }


def _settings(plan: Plan) -> list[tuple[str, str]]:
    """Return what a run was made with, by name."""
    return [
        ("command", plan.command or "not recorded"),
        ("seeds", ", ".join(str(seed) for seed in plan.all_seeds)),
        ("device", str(plan.device)),
        *package_versions().items(),
        ("weights", plan.weights.name if plan.weights else "ImageNet"),
        *((f"preset: {name}", str(value)) for name, value in vars(plan.preset).items()),
    ]
