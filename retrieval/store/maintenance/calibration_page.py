"""The page of a calibration: reliability before and after, and the figures, whole in itself."""

from __future__ import annotations

from pathlib import Path

from retrieval.common.settings import CONFIDENCE
from retrieval.common.text import percent, safe_name
from retrieval.rendering.html import heads_html, name_html, render_document, table_html
from retrieval.rendering.reliability_diagram import reliability_html
from retrieval.store.maintenance.calibration import Calibration, CalibrationResult


def calibration_page(store: Path, result: CalibrationResult) -> str:
    """One HTML page, whole in itself, of what the calibration of the store in this folder gained."""
    name, reliable = safe_name(store), result.reliability
    header = f"<h1>How sure, in {name_html(name)}</h1>\n{_reading_html(result.calibration)}"
    return render_document(
        f"How sure, in {name}",
        header,
        f"""<section class="query">
<div class="measures">
<article><h3>Before: the model’s own similarity</h3>{reliability_html(reliable.before)}</article>
<article><h3>After: calibrated to this gallery</h3>{reliability_html(reliable.after)}</article>
<article><h3>The figures</h3>{_figures_html(result.calibration)}</article>
</div>
</section>""",
    )


def _reading_html(calibration: Calibration) -> str:
    return f"""<section class="reading" aria-labelledby="reading">
<h2 id="reading">How to read this</h2>
<p>Similarity is calibrated where, of all pairs said to be 80 % similar, 80 % are of one class folder. The
<b>calibration error</b> is how far it is from that, on average. Pairs are each picture with one of its class and one of
another; “similar” means a similarity above {percent(CONFIDENCE)}. Only two numbers of the model
{name_html(safe_name(calibration.model))} were fitted anew, so the order of hits, and with it the ROC AUC, stays.</p>
<p>{calibration.pictures:,} pictures in {calibration.classes:,} classes were fitted to, drawn with the seed
{calibration.seed}. All figures are cross-fitted: the gallery was halved, and each half judged by what the other half
gave, so that it had seen none of the {calibration.unseen} that it judged.</p>
</section>"""


def _figures_html(calibration: Calibration) -> str:
    before, after = calibration.before, calibration.after
    rows = [
        ["Calibration error", f"{before.error:.4f}", f"{after.error:.4f}"],
        ["Accuracy of verdicts", f"{before.accuracy:.4f}", f"{after.accuracy:.4f}"],
        ["ROC AUC", *[f"{calibration.roc_auc:.4f}"] * 2],
    ]
    return table_html("", [heads_html("before", "after")], rows)
