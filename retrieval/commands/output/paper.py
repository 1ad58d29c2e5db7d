"""A reproduction of the paper in a terminal."""

from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from retrieval.commands.output.formats import figures_table
from retrieval.commands.output.tables import name_line
from retrieval.common.text import percent, safe_name
from retrieval.training.paper.results import PAPER_CROPPED, PAPER_ORIGINAL, StudyResult, TableResult
from retrieval.training.paper.wording import PAIR_TITLES, SCORE_TITLES, format_paper_score, format_stats


def results_lines(result: StudyResult | TableResult, files: tuple[Path, Path]) -> RenderableType:
    """Return the main figures of a case, and where its page and its JSON are."""
    lines = _table_lines(result) if isinstance(result, TableResult) else _study_lines(result)
    page, values = (safe_name(file) for file in files)
    return Group(*lines, name_line(f"page: {page}"), name_line(f"JSON: {values}"))


def _study_lines(result: StudyResult) -> list[RenderableType]:
    unseen, row = result.unseen.pairs, result.plan.study.row
    models = (Text(safe_name(name)) for name in (*result.results, *(["paper"] if row else [])))
    table = figures_table(f"{unseen.similar} similar + {unseen.different} different", models)
    for name, title in SCORE_TITLES.items():
        if name in ("best_epoch", "epochs"):
            continue
        cells = [f"{getattr(each.pairs, name):.4f}" for each in result.results.values()]
        table.add_row(title, *cells, *([format_paper_score(name, row)] if row else []))
    best = f"{result.plan.study.title}: best epoch {result.model.best_epoch} of {result.model.epochs}"
    return [
        Text(best, style="bold"),
        table,
        *(Text(f"{PAIR_TITLES[pair.kind]}: d = {pair.distance:.4f}") for pair in result.pairs),
    ]


def _table_lines(result: TableResult) -> list[RenderableType]:
    rows = (
        (
            SCORE_TITLES[name],
            *(format_paper_score(name, paper) for paper in (PAPER_ORIGINAL, PAPER_CROPPED)),
            *(format_stats(name, stats) for stats in (contrast.original, contrast.cropped)),
            format_stats(name, contrast.change, signed=True),
        )
        for name, contrast in result.comparisons.items()
    )
    columns = ("paper\noriginal", "paper\ncropped", "original", "cropped", "change")
    table = figures_table(f"seeds {', '.join(str(run.seed) for run in result.runs)}", columns, rows)
    shares = ", ".join(percent(run.share_cropped) for run in result.runs)
    twins = [
        f"{safe_name(each.label)}, a pair of training pictures: d = {each.original:.4f}, cropped {each.cropped:.4f}"
        for each in result.crop_pairs
    ]
    return [table, Text(f"training pictures cropped, by seed: {shares}"), *map(Text, twins)]
