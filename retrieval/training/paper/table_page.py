"""The page of Table 1: two models over the seeds, crops, pairs and their crops."""

from __future__ import annotations

from retrieval.datasets.crop_page import draw_crop
from retrieval.rendering.html import render
from retrieval.training.paper.results import (
    PAPER_CROP_PAIR,
    PAPER_CROPPED,
    PAPER_ORIGINAL,
    SCORE_NAMES,
    PaperRow,
    TableResult,
)
from retrieval.training.paper.results_json import plan_json
from retrieval.training.paper.wording import SCORE_TITLES, format_paper_score, format_score, format_stats, settings

NO_FIGURE = "–"  # the paper gives none


def table_page(result: TableResult) -> str:
    """Return one HTML page, whole in itself."""
    return render(
        "paper_table.html",
        result=result,
        heads=[SCORE_TITLES[name] for name in SCORE_NAMES],
        rows=_table_rows(result),
        seed_rows=_seed_rows(result),
        draw_crop=draw_crop,
        paper_distances=PAPER_CROP_PAIR,
        settings=settings(result.plan, plan_json(result.plan)["versions"]),
    )


def _table_rows(result: TableResult) -> list[list[str]]:
    """Return Table 1, the paper's rows first."""

    def paper(row: PaperRow, title: str) -> list[str]:
        return [title, *(format_paper_score(name, row, NO_FIGURE) for name in SCORE_NAMES)]

    scores = result.comparisons
    return [
        paper(PAPER_ORIGINAL, "The paper: original"),
        paper(PAPER_CROPPED, "The paper: “cropped”"),
        ["The paper: change", *(_paper_change(name) for name in SCORE_NAMES)],
        ["Here: original", *(format_stats(name, scores[name].original) for name in SCORE_NAMES)],
        ["Here: “cropped”", *(format_stats(name, scores[name].cropped) for name in SCORE_NAMES)],
        ["Here: change", *(format_stats(name, scores[name].change, signed=True) for name in SCORE_NAMES)],
    ]


def _paper_change(name: str) -> str:
    if not hasattr(PAPER_ORIGINAL, name):
        return NO_FIGURE
    return format_score(name, getattr(PAPER_CROPPED, name) - getattr(PAPER_ORIGINAL, name), signed=True)


def _seed_rows(result: TableResult) -> list[list[str]]:
    """Return three rows a seed: both models and the change."""
    return [
        [
            f"Seed {run.seed}: {title}",
            *(
                format_score(name, getattr(comparison, kind).values[number], signed=kind == "change")
                for name, comparison in result.comparisons.items()
            ),
        ]
        for number, run in enumerate(result.runs)
        for kind, title in (("original", "original"), ("cropped", "“cropped”"), ("change", "change"))
    ]
