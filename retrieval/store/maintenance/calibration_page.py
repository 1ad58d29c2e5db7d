"""The page of a calibration: reliability before and after, and the figures."""

from pathlib import Path

from retrieval.rendering.html import render
from retrieval.store.maintenance.calibration import CalibrationResult


def calibration_page(store: Path, result: CalibrationResult) -> str:
    """Return one HTML page, whole in itself, of what calibrating the store in this folder gained."""
    before, after, auc = result.calibration.before, result.calibration.after, f"{result.calibration.roc_auc:.4f}"
    hits = result.calibration.hits
    rows = [
        ("Calibration error of pairs", f"{before.error:.4f}", f"{after.error:.4f}"),
        *([("Calibration error of the first five hits", f"{hits.before:.4f}", f"{hits.after:.4f}")] if hits else []),
        ("Accuracy of verdicts", f"{before.accuracy:.4f}", f"{after.accuracy:.4f}"),
        ("ROC AUC", auc, auc),
    ]
    return render("calibration.html", store=store, result=result, rows=rows)
