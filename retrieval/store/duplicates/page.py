"""The page of a store's duplicates: each group's pictures side by side, the one to keep first."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from retrieval.common.errors import PictureError
from retrieval.common.text import format_bytes, percent, safe_name
from retrieval.rendering.html import figure_html, name_html, render_document
from retrieval.rendering.overlay import display_picture
from retrieval.sources.location import PictureLocation
from retrieval.store.duplicates.groups import DuplicateKind, Duplicates, Group, GroupMember, summary_line

MAX_GROUPS, MAX_MEMBERS = 200, 12
"""How many groups a page shows, and pictures of each; a picture takes 20 kB."""

_SIDE = 320  # pixels of a picture's longer side


def duplicates_page(store: Path, duplicates: Duplicates) -> str:
    """One HTML page, whole in itself, of the groups."""
    shown = duplicates.groups[:MAX_GROUPS]
    articles = "\n".join(_group_html(number, group) for number, group in enumerate(shown, 1))
    more = len(duplicates.groups) - len(shown)
    if more:
        articles += f'\n<p class="note">{more:,} more groups are not shown here; --json has all.</p>'
    name = safe_name(store.absolute())
    header = f"""<h1>Pictures that are there more than once</h1>
<p><b>{summary_line(duplicates)}</b></p>
<p class="folder">{name_html(name)}</p>
<section class="reading" aria-labelledby="reading">
<h2 id="reading">How to read this</h2>
<p>Nothing was deleted. The first picture of a group is the one to keep: it has the most pixels, else the largest file,
else it is the oldest. <b>Identical</b> files are equal byte by byte. <b>Near-identical</b> is the same photograph saved
anew, resized or slightly cropped; laid over the first, its details agree as far as it says. <b>Alike</b> are pictures
that the model finds similar, which are not counted as more than needed. Select a picture to enlarge it.</p>
</section>"""
    return render_document(
        "Pictures that are there more than once", header, articles or "<p>No picture is there twice.</p>"
    )


def _group_html(number: int, group: Group) -> str:
    figures = "\n".join(_member_html(group, member) for member in group.members[:MAX_MEMBERS])
    more = len(group.members) - MAX_MEMBERS
    rest = f'\n<p class="note">and {more:,} more</p>' if more > 0 else ""
    spare = (
        f"<span><b>{group.spare:,}</b> more than needed, {format_bytes(group.spare_bytes)}</span>"
        if group.spare
        else ""
    )
    return f"""<article>
<h3><span class="rank">{number}</span> {group.kind.capitalize()}</h3>
<p class="facts"><span>{len(group.members):,} pictures</span>{spare}</p>
<div class="copies">
{figures}
</div>{rest}
</article>"""


def _member_html(group: Group, member: GroupMember) -> str:
    name, folder = safe_name(member.path.name), safe_name(member.path.parent)
    first = "first" if group.kind is DuplicateKind.alike else "keep"
    kind = first if member.kind is None else str(member.kind)
    if member.kind in (DuplicateKind.near, DuplicateKind.alike):
        kind += f", {percent(member.similarity)}"
    caption = f"""<b class="kind{" keep" if kind == "keep" else ""}">{kind}</b> {name_html(name)}
<small>{member.width} × {member.height}, {format_bytes(member.size_bytes)}</small> <small>{name_html(folder)}</small>"""
    return figure_html(_picture(member.path), caption, f"The picture {name}")


def _picture(path: PictureLocation) -> Image.Image | None:
    try:
        image = display_picture(path)
    except PictureError:  # gone since it was looked at
        return None
    image.thumbnail((_SIDE, _SIDE))
    return image
