"""The page of a reproduction: figures beside the paper's, explained pairs, Table 1, crops."""

from __future__ import annotations

import json
from pathlib import Path

from retrieval.common.atomic_files import write_atomically
from retrieval.evaluation.ranking import RANKING_METRIC_TITLES
from retrieval.evaluation.verdicts import PAIR_METRIC_TITLES
from retrieval.rendering.html import render
from retrieval.rendering.output_files import write_html
from retrieval.training.paper.results import StudyResult, TableResult
from retrieval.training.paper.results_json import plan_json, results_json
from retrieval.training.paper.table_page import NO_FIGURE, table_page
from retrieval.training.paper.wording import PAIR_TITLES, format_paper_score, paper_reference, settings


def write_results(result: StudyResult | TableResult) -> tuple[Path, Path]:
    """Write the page and the JSON of a case into its folder and return their paths. Raises RetrievalError."""
    page, values = (result.plan.out / f"{result.plan.case}.{ending}" for ending in ("html", "json"))
    write_html(results_page(result), page)
    write_atomically(values, json.dumps(results_json(result), indent=1) + "\n")
    return page, values


def results_page(result: StudyResult | TableResult) -> str:
    """Return one HTML page, whole in itself."""
    return table_page(result) if isinstance(result, TableResult) else _study_page(result)


def _study_page(result: StudyResult) -> str:
    paper, evaluations = result.plan.study.row, result.results.values()
    rows = [
        [
            title,
            *(f"{getattr(each.pairs, name):.4f}" for each in evaluations),
            *([format_paper_score(name, paper, NO_FIGURE)] if paper else []),
        ]
        for name, title in PAIR_METRIC_TITLES
    ]
    rows += [
        [
            f"{title}, rescored",
            *(f"{getattr(each.rescored, name):.4f}" for each in evaluations),
            *([NO_FIGURE] if paper else []),
        ]
        for name, title in RANKING_METRIC_TITLES
    ]
    return render(
        "paper_study.html",
        result=result,
        rows=rows,
        pair_titles=PAIR_TITLES,
        paper_reference=paper_reference,
        settings=settings(result.plan, plan_json(result.plan)["versions"]),
    )
