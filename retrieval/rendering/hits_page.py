"""The page of queries: their hits with their heatmaps."""

from __future__ import annotations

from collections.abc import Sequence

from retrieval.rendering.html import render
from retrieval.rendering.presentation import ResultView


def render_hits_page(results: Sequence[ResultView]) -> str:
    """Return one HTML page, whole in itself, of one or more queries."""
    return render("hits.html", results=results)
