"""HTML pages from the templates beside this module, each whole in itself: no network access, no scripts."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from PIL import Image

from retrieval.common.settings import THRESHOLD
from retrieval.common.text import format_bytes, percent, safe_name
from retrieval.explain.illustrated import HEATMAP_KINDS
from retrieval.explain.verification import RANDOM_REGIONS
from retrieval.rendering.overlay import encode_image, legend_bar, try_display
from retrieval.rendering.presentation import (
    KIND_MEANINGS,
    NO_HITS,
    ResultView,
    draw_pair_matches,
    heatmap_shape,
    side_views,
)
from retrieval.rendering.verification_text import VERIFICATION_HEADINGS, describe_support, verification_rows

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def render(template: str, **context: Any) -> str:
    """Return a page: a template of this wing, filled in. All values are escaped, and none may be missing."""
    return _environment().get_template(template).render(context)


def render_hits_page(results: Sequence[ResultView]) -> str:
    """Return the page of one or more queries: their hits with their heatmaps."""
    return render("hits.html", results=results)


@cache
def _environment() -> Environment:
    import jinja2  # 30 ms, only for those who want a page

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("retrieval.rendering"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "bytes": format_bytes,
        "commas": "{:,}".format,
        "data_uri": _data_uri,
        "name": _isolated_name,
        "percent": percent,
        "plain": safe_name,
    }
    environment.globals |= {
        "HEATMAP_KINDS": HEATMAP_KINDS,
        "KIND_MEANINGS": KIND_MEANINGS,
        "NO_HITS": NO_HITS,
        "RANDOM_REGIONS": RANDOM_REGIONS,
        "THRESHOLD": THRESHOLD,
        "VERIFICATION_HEADINGS": VERIFICATION_HEADINGS,
        "describe_support": describe_support,
        "draw_pair_matches": draw_pair_matches,
        "heatmap_shape": heatmap_shape,
        "legend_bar": legend_bar,
        "side_views": side_views,
        "try_display": try_display,
        "verification_rows": verification_rows,
    }
    return environment


def _isolated_name(name: str | os.PathLike[str]) -> Markup:
    """Return a name that is safe to show, its direction of writing kept apart from that of the text around it."""
    from markupsafe import Markup

    return Markup("<bdi>{}</bdi>").format(safe_name(name))


def _data_uri(image: Image.Image, format_: str = "JPEG") -> str:
    return f"data:image/{format_.lower()};base64,{base64.b64encode(encode_image(image, format_)).decode('ascii')}"
