"""The page of a store's duplicates: each group's pictures side by side, the one to keep first."""

from pathlib import Path

from PIL import Image

from retrieval.rendering.html import render
from retrieval.rendering.overlay import try_display
from retrieval.sources.location import PictureLocation
from retrieval.store.duplicates.groups import Duplicates, summary_line

MAX_GROUPS, MAX_MEMBERS = 200, 12
"""How many groups a page shows, and pictures of each; a picture takes 20 kB."""

_SIDE = 320  # pixels of a picture's longer side


def duplicates_page(store: Path, duplicates: Duplicates) -> str:
    """Return one HTML page, whole in itself, of the groups."""
    return render(
        "duplicates.html",
        store=store.absolute(),
        summary=summary_line(duplicates),
        groups=duplicates.groups,
        max_groups=MAX_GROUPS,
        max_members=MAX_MEMBERS,
        read_picture=_read_picture,
    )


def _read_picture(path: PictureLocation) -> Image.Image | None:
    image = try_display(path)
    if image is not None:
        image.thumbnail((_SIDE, _SIDE))
    return image
