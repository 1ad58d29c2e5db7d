"""The page of a reproduction: figures beside the paper's, explained pairs, Table 1, crops. Whole in itself."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

from retrieval.common.atomic_files import write_atomically
from retrieval.common.settings import THRESHOLD
from retrieval.common.text import safe_name
from retrieval.evaluation.page import PAIR_METRICS, RANKING_METRICS
from retrieval.evaluation.ranking import Evaluation
from retrieval.rendering.html import (
    facts_html,
    heads_html,
    legend_html,
    limits_html,
    name_html,
    render_document,
    side_html,
    table_html,
)
from retrieval.rendering.output_files import write_html
from retrieval.rendering.presentation import side_views
from retrieval.training.paper.results import PairKind, PairView, StudyResult, TableResult, UnseenCounts
from retrieval.training.paper.results_json import results_json
from retrieval.training.paper.table_page import NO_FIGURE, paper_cells, paper_note, settings_html, table_page
from retrieval.training.paper.wording import PAIR_TITLES, paper_reference


def write_results(result: StudyResult | TableResult) -> tuple[Path, Path]:
    """Write the page and the JSON of a case into its folder: their paths. Raises RetrievalError."""
    page, values = (result.plan.out / f"{result.plan.case}.{ending}" for ending in ("html", "json"))
    write_html(results_page(result), page)
    write_atomically(values, json.dumps(results_json(result), indent=1) + "\n")
    return page, values


def results_page(result: StudyResult | TableResult) -> str:
    """One HTML page, whole in itself."""
    return table_page(result) if isinstance(result, TableResult) else _study_page(result)


# A data set


def _study_page(result: StudyResult) -> str:
    study = result.plan.study
    title = f"{study.title}: section {study.section} of the paper again"
    shown = [pair.view for pair in result.pairs]
    header = f"""<h1>{escape(title)}</h1>
<section class="reading" aria-labelledby="reading">
<h2 id="reading">How to read this</h2>
<p>{_training_summary(result)} Its verdict on a pair is “similar” where the distance d is below {THRESHOLD}; the
similarity is
1 - d. Right is what the class folders say.</p>
{legend_html()}
{limits_html(shown)}
</section>"""
    main = f"""<section class="query">
<h2>On unseen pictures</h2>
<article class="wide">{_results_html(result)}</article>
</section>
<section class="query">
<h2>Pairs, as in Figures 2 to 4</h2>
<p>One pair of each kind among the pairs measured, drawn by the seed {result.plan.seed} and not by its looks: the first
that fits in a random order; the borderline one is the nearest to {THRESHOLD}. Their heatmaps share one scale.</p>
{_pairs_html(result)}
</section>
{settings_html(result.plan)}"""
    return render_document(title, header, main)


def _training_summary(result: StudyResult) -> str:
    model, parts = result.model, result.model.parts
    return (
        f"The model {name_html(safe_name(model.folder.name))} learnt from {parts['train']:,} pictures and chose by"
        f" {parts['validation']:,} the epoch {model.best_epoch} of {model.epochs}. {_test_summary(result.unseen)}"
    )


def _test_summary(unseen: UnseenCounts) -> str:
    return (
        f"It was measured on the {unseen.pictures:,} pictures in {unseen.classes} classes that it has not seen: on"
        f" {unseen.pairs:,} pairs of one class and as many of two."
    )


def _results_html(result: StudyResult) -> str:
    row = result.plan.study.row
    heads = [name_html(safe_name(name)) for name in result.results]
    rows = [
        [title, *(f"{getattr(each.pairs, name):.4f}" for each in result.results.values()), *paper_cells(name, row)]
        for name, title in PAIR_METRICS
    ]
    rows += [
        [f"{title}, rescored", *_ranked(name, result.results), *([NO_FIGURE] if row else [])]
        for name, title in RANKING_METRICS
    ]
    note = paper_note() if row else '<p class="note">The paper gives no figures for this data set.</p>'
    return table_html("", [heads_html(*heads, *(["the paper, Table 1"] if row else []))], rows) + note


def _ranked(name: str, results: dict[str, Evaluation]) -> list[str]:
    return [f"{getattr(each.rescored, name):.4f}" for each in results.values()]


def _pairs_html(result: StudyResult) -> str:
    lacking = [kind for kind in PairKind if kind not in {pair.kind for pair in result.pairs}]
    articles = [_pair_html(pair, result) for pair in result.pairs]
    articles += [f'<p class="empty">{PAIR_TITLES[kind]}: none of the pairs measured.</p>' for kind in lacking]
    return "\n".join(articles)


def _pair_html(pair: PairView, result: StudyResult) -> str:
    labels = [name_html(safe_name(sample.label)) for sample in pair.samples]
    classes = (
        f"both are <b>{labels[0]}</b>"
        if pair.kind is PairKind.similar
        else " and ".join(f"<b>{label}</b>" for label in labels)
    )
    facts = f"<span>d = <b>{pair.distance:.4f}</b></span> <span>{classes}</span>"
    pictures = "\n".join(
        side_html(side) for side in side_views(pair.view, pair.hit, ("first picture", "second picture"))
    )
    return f"""<article>
<h3>{PAIR_TITLES[pair.kind]}</h3>
<p class="folder">{name_html(pair.view.name)} and {name_html(pair.hit.name)}</p>
{facts_html(pair.hit, facts)}
<div class="pair">
{pictures}
</div>
<p class="note">{escape(paper_reference(pair.kind, result.plan.study))}</p>
</article>"""
