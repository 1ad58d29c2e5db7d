"""The page of an audit: recommendations with their pictures, where the model looks, and what it confuses."""

from PIL import Image

from retrieval.common.text import count_noun
from retrieval.evaluation.audit.attention import Corner
from retrieval.evaluation.audit.findings import Audit, Evidence, Example
from retrieval.explain.illustrated import HeatmapKind
from retrieval.rendering.html import render
from retrieval.rendering.overlay import overlay, try_display

_TILE = 240  # pixels of a picture's long side
_MAX_TILES = 8  # pictures shown with a recommendation, whose files are all listed


def audit_page(audit: Audit) -> str:
    """Return one HTML page, whole in itself."""
    parts = audit.findings.parts
    part_rows = [
        ["Pictures", *(f"{part.pictures:,}" for part in parts)],
        ["Pairs explained", *(f"{part.explained_pairs:,}" for part in parts)],
        ["Accuracy of verdicts", *(f"{part.verdicts.accuracy:.4f}" for part in parts)],
        ["ROC AUC of distances", *(f"{part.verdicts.roc_auc:.4f}" for part in parts)],
    ]
    return render(
        "audit.html",
        audit=audit,
        part_rows=part_rows,
        corners=list(Corner),
        class_counts=[{each.label: each.pictures for each in part.classes} for part in parts if len(parts) > 1],
        max_tiles=_MAX_TILES,
        mean_overlay=mean_overlay,
        draw_example=_draw_example,
        count_noun=count_noun,
    )


def mean_overlay(evidence: Evidence, kind: HeatmapKind) -> Image.Image:
    """Return the mean heatmap of a class over the mean of its pictures: RGB, square."""
    ground = Image.fromarray(evidence.mean_picture).resize((_TILE, _TILE), Image.Resampling.BICUBIC)
    return overlay(ground, evidence.mean(kind), kind)


def _draw_example(example: Example) -> Image.Image | None:
    picture = try_display(example.path)
    if picture is None:
        return None
    if example.heatmap is not None:
        picture = overlay(picture, example.heatmap, "factual")
    picture.thumbnail((_TILE, _TILE))
    return picture
