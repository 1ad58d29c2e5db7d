"""The page of Table 1: two models over the seeds, crops, pairs and their crops; and what other pages share with it."""

from __future__ import annotations

from html import escape
from pathlib import Path

from PIL import Image

from retrieval.common.errors import PictureError
from retrieval.common.text import percent, safe_name
from retrieval.datasets.crop_page import crop_html
from retrieval.rendering.html import figure_html, heads_html, name_html, render_document, table_html
from retrieval.rendering.overlay import display_picture
from retrieval.training.paper.results import (
    PAPER_CROP_PAIR,
    PAPER_CROPPED,
    PAPER_ORIGINAL,
    SCORE_NAMES,
    CropPair,
    PaperRow,
    Plan,
    ScoreComparison,
    SeedRun,
    TableResult,
)
from retrieval.training.paper.results_json import plan_json
from retrieval.training.paper.wording import SCORE_TITLES, format_paper_score, format_score, format_stats, settings

NO_FIGURE = "–"  # the paper gives none


def table_page(result: TableResult) -> str:
    """One HTML page, whole in itself."""
    title = "Original and “cropped” flowers: section 4.4 of the paper again"
    header = f"""<h1>{title}</h1>
<section class="reading" aria-labelledby="reading">
<h2 id="reading">How to read this</h2>
{_reading_html(result)}
</section>"""
    main = f"""<section class="query">
<h2>Table 1</h2>
<article class="wide">{_comparisons_html(result.comparisons)}{paper_note()}</article>
<article class="wide">{_runs_html(result)}</article>
</section>
<section class="query">
<h2>Crops, as in Figure 5</h2>
<p>Drawn by the seed {result.runs[0].seed} among the crops of its data set. The heat is where the model
found evidence that the picture is similar to its partner.</p>
{_crops_html(result)}
</section>
<section class="query">
<h2>Pairs and their crops, as in Figure 6</h2>
<p>Training pictures of one class, drawn by the seed {result.runs[0].seed} among those that were cropped, each pair of
another class. The distance of the whole pictures is by the model trained on these, that of the crops by the model
trained on crops. The paper’s pair of daisies had {PAPER_CROP_PAIR[0]} and {PAPER_CROP_PAIR[1]}; it calls them
similarity
scores, but lower is closer there: they are distances.</p>
{_crop_pairs_html(result)}
</section>
{settings_html(result.plan)}"""
    return render_document(title, header, main)


def _reading_html(result: TableResult) -> str:
    rules = result.runs[0].crops.rules
    spread = "± is the sample standard deviation over the seeds." if len(result.runs) > 1 else "There is one seed only."
    return f"""<p>For each seed a model is trained on the original pictures. It then crops the data set: each training
picture meets a random other one of its class, and where their similarity is above {percent(rules.similarity)}, the box
around what made them similar takes its place. A second model is trained in the same way on that data set. The split is
the same for both, and pictures to validate and test on stay whole: both models are measured on the very same unseen
pictures and pairs.</p>
<p>The seed decides the split and all that is drawn. {spread} The change is that of “cropped” against original by seed.
The best epoch is the first with the greatest validation ROC AUC. {_schedule(result.plan)}</p>"""


def _schedule(plan: Plan) -> str:
    if plan.preset.schedule == "cosine":
        return f"The learning rate falls over {plan.preset.epochs} epochs, whenever the best one is."
    return f"A training has at most {plan.preset.epochs} epochs, and ends where validation gets no better."


def _comparisons_html(comparisons: dict[str, ScoreComparison]) -> str:
    def paper(row: PaperRow, title: str) -> list[str]:
        return [title, *(format_paper_score(name, row, NO_FIGURE) for name in SCORE_NAMES)]

    rows = [
        paper(PAPER_ORIGINAL, "The paper: original"),
        paper(PAPER_CROPPED, "The paper: “cropped”"),
        ["The paper: change", *(_paper_change(name) for name in SCORE_NAMES)],
        ["Here: original", *(format_stats(name, comparisons[name].original) for name in SCORE_NAMES)],
        ["Here: “cropped”", *(format_stats(name, comparisons[name].cropped) for name in SCORE_NAMES)],
        ["Here: change", *(format_stats(name, comparisons[name].change, signed=True) for name in SCORE_NAMES)],
    ]
    return table_html("", [heads_html(*(SCORE_TITLES[name] for name in SCORE_NAMES))], rows)


def _paper_change(name: str) -> str:
    if not hasattr(PAPER_ORIGINAL, name):
        return NO_FIGURE
    return format_score(name, getattr(PAPER_CROPPED, name) - getattr(PAPER_ORIGINAL, name), signed=True)


def _runs_html(result: TableResult) -> str:
    kinds = ("original", "cropped", "change")
    rows = [
        [
            f"Seed {run.seed}: {'“cropped”' if kind == 'cropped' else kind}",
            *(
                format_score(name, getattr(contrast, kind).values[place], signed=kind == "change")
                for name, contrast in result.comparisons.items()
            ),
        ]
        for place, run in enumerate(result.runs)
        for kind in kinds
    ]
    notes = "".join(f'<p class="note">{_run_note(run)}</p>' for run in result.runs)
    return table_html("By seed", [heads_html(*(SCORE_TITLES[name] for name in SCORE_NAMES))], rows) + notes


def _run_note(run: SeedRun) -> str:
    kept = run.crops.median_share
    area = "" if kept is None else f", to a median of {percent(kept)} of their area"
    return (
        f"Seed {run.seed}: {len(run.crops.crops):,} of {run.original.parts['train']:,} training pictures"
        f" ({percent(run.share_cropped)}) were cropped{area}. Measured on {run.unseen.pictures:,} unseen pictures,"
        f" {run.unseen.pairs:,} pairs of one class and as many of two."
    )


def _crops_html(result: TableResult) -> str:
    crops = "\n".join(crop_html(rank, crop) for rank, crop in enumerate(result.crops, 1))
    return crops or '<p class="empty">No picture was cropped.</p>'


def _crop_pairs_html(result: TableResult) -> str:
    out = result.runs[0].crops.out
    found = "\n".join(_crop_pair_html(twins, out) for twins in result.crop_pairs)
    return found or '<p class="empty">No class has two cropped pictures.</p>'


def _crop_pair_html(pair: CropPair, out: Path) -> str:
    whole = [_figure_html(crop.source, crop.source.name) for crop in pair.crops]
    cropped = [_figure_html(out / crop.written, f"the crop of {crop.source.name}") for crop in pair.crops]
    return f"""<article>
<h3>{name_html(safe_name(pair.label))}</h3>
<p class="facts"><span>whole: d = <b>{pair.original:.4f}</b></span>
<span>cropped: d = <b>{pair.cropped:.4f}</b></span></p>
<div class="pair">
<div class="side">{"".join(whole)}</div>
<div class="side">{"".join(cropped)}</div>
</div>
</article>"""


def _figure_html(path: Path, title: str) -> str:
    try:
        picture: Image.Image | None = display_picture(path)
    except PictureError:  # gone or changed since
        picture = None
    return figure_html(picture, name_html(safe_name(title)), safe_name(title))


def paper_cells(name: str, row: PaperRow | None) -> list[str]:
    """The cell of a figure in a row of the paper; none where there is no row."""
    return [] if row is None else [format_paper_score(name, row, NO_FIGURE)]


def paper_note() -> str:
    """What the paper's precision and recall stand beside, and why, as a paragraph."""
    return """<p class="note">The paper does not say of which verdict its precision and recall are. On as many
similar as different pairs the mean recall of both verdicts equals the accuracy and the ROC AUC of the verdicts, as
the paper’s does in its first row: so they stand beside the means. They were measured on another split and other
pairs.</p>"""


def settings_html(plan: Plan) -> str:
    """What a run was made with, as a section."""
    rows = [
        [escape(safe_name(name)), name_html(safe_name(value))]
        for name, value in settings(plan, plan_json(plan)["versions"])
    ]
    table = table_html("", [], rows)
    return f'<section class="query">\n<h2>Made with</h2>\n<article class="settings">{table}</article>\n</section>'
