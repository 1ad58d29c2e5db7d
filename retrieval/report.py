"""What people see of a query: a contact sheet, overlays as files, and one self-contained page."""

from __future__ import annotations

import base64
import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from retrieval.errors import PictureError, RetrievalError
from retrieval.explain import Explanation, Heatmaps, Verdict
from retrieval.names import percent, safe_name
from retrieval.overlay import Kind, display_picture, overlay
from retrieval.pictures import Source
from retrieval.settings import THRESHOLD

if TYPE_CHECKING:  # only a type here: two pictures are explained without any store
    from retrieval.search import Hit

KINDS: tuple[Kind, Kind] = ("factual", "counterfactual")
IDENTICAL = "identical: nothing to explain"
NO_HITS = "No hits: nothing in the index answers this query."
_MEANING: dict[Kind, str] = {"factual": "speaks for the verdict", "counterfactual": "speaks against the verdict"}
_STRENGTHS = ((0.02, "none"), (0.25, "faint"), (0.6, "moderate"))  # below these shares of the strongest; else strong


@dataclass(frozen=True)
class ShownHit:
    """A hit with all that is shown of it; names are safe to show. `picture` is None where it cannot be read."""

    rank: int
    name: str
    folder: str
    label: str | None
    similarity: float
    verdict: Verdict
    index_rank: int | None
    picture: Image.Image | None
    explanation: Explanation | None
    note: str | None


@dataclass(frozen=True)
class Shown:
    """A query with its hits, in display pictures. `scale` is the largest magnitude of all its heatmaps."""

    name: str
    picture: Image.Image | None
    hits: tuple[ShownHit, ...]
    scale: float


@dataclass(frozen=True)
class PairFiles:
    """The overlays written of a pair, (factual, counterfactual) a picture; None where there are none to draw."""

    query: tuple[Path, Path] | None
    hit: tuple[Path, Path] | None


def prepare(query: Source, name: str, hits: Sequence[Hit]) -> Shown:
    """Read the display pictures of a query and its hits. What cannot be read is listed with a note."""
    with ThreadPoolExecutor(2) as threads:
        pictures = list(threads.map(_display, [query, *(hit.path for hit in hits)]))
    shown = tuple(_shown_hit(hit, *read) for hit, read in zip(hits, pictures[1:], strict=True))
    return Shown(safe_name(name), pictures[0][0], shown, _scale([hit.explanation for hit in hits]))


def prepare_pair(a: Source, a_name: str, b: Source, b_name: str, explanation: Explanation) -> Shown:
    """The same of two pictures without an index: `b` as the only hit of `a`."""
    (first, _), (second, note) = _display(a), _display(b)
    hit = ShownHit(
        rank=1,
        name=safe_name(b_name),
        folder="",
        label=None,
        similarity=explanation.similarity,
        verdict=explanation.verdict,
        index_rank=None,
        picture=second,
        explanation=explanation,
        note=note,
    )
    return Shown(safe_name(a_name), first, (hit,), _scale([explanation]))


def write_overlays(shown: Shown, folder: Path) -> dict[int, PairFiles]:
    """Write each hit's overlays and `contact-sheet.png`; the files by the hit's rank. Raises RetrievalError."""
    with ThreadPoolExecutor(2) as threads:
        sheet = threads.submit(lambda: _encoded(contact_sheet(shown), "PNG"))
        written = list(threads.map(lambda hit: _write_hit(shown, hit, folder, _stems(hit.rank)), shown.hits))
    _write(folder / "contact-sheet.png", sheet.result())
    return {hit.rank: paths for hit, paths in zip(shown.hits, written, strict=True)}


def write_pair(a: Path, b: Path, explanation: Explanation, folder: Path) -> PairFiles:
    """Write the overlays of two pictures and their `contact-sheet.png`. Raises RetrievalError."""
    shown = prepare_pair(a, os.fspath(a), b, os.fspath(b), explanation)
    written = _write_hit(shown, shown.hits[0], folder, ("a", "b"))
    _write(folder / "contact-sheet.png", _encoded(pair_sheet(shown), "PNG"))
    return written


def write_page(results: Sequence[Shown], file: Path) -> None:
    """Write `page` to a file. Raises RetrievalError."""
    _write(file, page(results).encode("utf-8"))


def _display(source: Source) -> tuple[Image.Image | None, str | None]:
    """The display picture, or None and why."""
    try:
        return display_picture(source), None
    except PictureError as error:
        return None, f"cannot be shown: it {error.reason}"


def _shown_hit(hit: Hit, picture: Image.Image | None, note: str | None) -> ShownHit:
    found = hit.note or note
    return ShownHit(
        rank=hit.rank,
        name=safe_name(hit.path.name),
        folder=safe_name(hit.path.parent),
        label=safe_name(hit.label) if hit.label else None,
        similarity=hit.similarity,
        verdict=hit.verdict,
        index_rank=hit.index_rank,
        picture=picture,
        explanation=hit.explanation,
        note=safe_name(found) if found else None,
    )


def _scale(explanations: Sequence[Explanation | None]) -> float:
    found = [explanation for explanation in explanations if explanation]
    return max((max(each.query.magnitude, each.hit.magnitude) for each in found), default=0.0)


# One picture of a pair, with its heatmaps on the query's scale


@dataclass(frozen=True)
class _Side:
    title: str
    name: str
    picture: Image.Image | None
    heatmaps: Heatmaps | None
    strength: float
    verdict: Verdict
    missing: str  # what stands in the place of heatmaps that are None

    def overlaid(self, kind: Kind) -> Image.Image | None:
        if self.picture is None or self.heatmaps is None:
            return None
        return overlay(self.picture, getattr(self.heatmaps, kind), kind, self.strength)

    def caption(self, kind: Kind) -> str:
        return f"{'for' if kind == 'factual' else 'against'} “{self.verdict}”"

    def evidence(self, kind: Kind) -> str:
        """How strong the strongest place is, in a word."""
        peak = self.strength * float(getattr(self.heatmaps, kind).max()) if self.heatmaps else 0.0
        return next((word for limit, word in _STRENGTHS if peak < limit), "strong")


def _sides(shown: Shown, hit: ShownHit, titles: tuple[str, str] = ("query", "hit")) -> tuple[_Side, _Side]:
    first, second = (hit.explanation.query, hit.explanation.hit) if hit.explanation else (None, None)
    return (
        _side(shown, hit, titles[0], shown.name, shown.picture, first),
        _side(shown, hit, titles[1], hit.name, hit.picture, second),
    )


def _side(
    shown: Shown, hit: ShownHit, title: str, name: str, picture: Image.Image | None, heatmaps: Heatmaps | None
) -> _Side:
    identical = hit.explanation is not None and hit.explanation.identical
    strength = heatmaps.magnitude / shown.scale if heatmaps and shown.scale > 0 else 0.0
    missing = IDENTICAL if identical else hit.note or "no explanation"
    return _Side(title, name, picture, None if identical else heatmaps, strength, hit.verdict, missing)


# Files


def _stems(rank: int) -> tuple[str, str]:
    return f"hit-{rank:02}-query", f"hit-{rank:02}-hit"


def _write_hit(shown: Shown, hit: ShownHit, folder: Path, stems: tuple[str, str]) -> PairFiles:
    first, second = (_write_side(side, folder, stem) for side, stem in zip(_sides(shown, hit), stems, strict=True))
    return PairFiles(first, second)


def _write_side(side: _Side, folder: Path, stem: str) -> tuple[Path, Path] | None:
    paths = folder / f"{stem}-factual.jpg", folder / f"{stem}-counterfactual.jpg"
    for kind, path in zip(KINDS, paths, strict=True):
        image = side.overlaid(kind)
        if image is None:
            return None
        _write(path, _encoded(image, "JPEG", quality=92))
    return paths


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all: a full disk leaves no half picture behind."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        reason = error.strerror or error
        raise RetrievalError(
            f"{safe_name(path)} cannot be written ({reason}): choose a place that you may write to and that has room"
        ) from error


def _encoded(image: Image.Image, format_: str, quality: int = 85) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, quality=quality, subsampling=0, compress_level=4)
    return buffer.getvalue()


# Contact sheets

_INK, _GREY, _LINE, _PAPER, _PLACE = "#1b1d21", "#656b75", "#d9dce1", "#fbfbfa", "#eeeff1"
_MARGIN, _CELL, _PAIR_CELL, _GAP, _GROUP_GAP, _LEAST = 40, 224, 320, 12, 36, 8
_TOP, _ROW = 150, 94  # where rows begin; a row's height besides its pictures
_SMOOTH = 4  # Pillow draws shapes with hard edges: draw larger, then reduce
_FALLBACK_FONTS = ("DejaVuSans.ttf", "Arial Unicode.ttf", "NotoSansCJK-Regular.ttc", "msyh.ttc", "arial.ttf")


def contact_sheet(shown: Shown) -> Image.Image:
    """A row a hit: the query as it is, factual, counterfactual, and the hit likewise, with a legend above. RGB."""
    lefts = [_MARGIN + i * (_CELL + _GAP) + (i > 2) * (_GROUP_GAP - _GAP) for i in range(6)]
    width = lefts[-1] + _CELL + _MARGIN
    rows = [_row_height(_sides(shown, hit), _CELL) for hit in shown.hits] or [_CELL]
    sheet = _Sheet(width, _TOP + sum(_ROW + height for height in rows) + 16)
    count = f"{len(shown.hits)} {'hit' if len(shown.hits) == 1 else 'hits'}, most similar first"
    _header(sheet, f"Query: {shown.name}", f"{count} · one scale of evidence for all" if shown.hits else NO_HITS)
    if not shown.hits and shown.picture:
        sheet.picture(shown.picture, _MARGIN, _TOP, _CELL)
    top = _TOP
    for hit, height in zip(shown.hits, rows, strict=False):
        sheet.line(top)
        _hit_line(sheet, hit, top + 18, lefts)
        for side, own in zip(_sides(shown, hit), (lefts[:3], lefts[3:]), strict=True):
            _side_cells(sheet, side, own, top + 52, _CELL, height)
        top += _ROW + height
    return sheet.image


def pair_sheet(shown: Shown) -> Image.Image:
    """Two rows, picture A and B: each as it is, factual, counterfactual; similarity and verdict above. RGB."""
    hit = shown.hits[0]
    sides = _sides(shown, hit, ("A", "B"))
    lefts = [_MARGIN + i * (_PAIR_CELL + _GAP) for i in range(3)]
    rows = [_row_height((side,), _PAIR_CELL) for side in sides]
    sheet = _Sheet(lefts[-1] + _PAIR_CELL + _MARGIN, _TOP + 64 + sum(_ROW - 16 + height for height in rows) + 16)
    _header(sheet, "How similar, and why", f"A: {_name_of(shown.name)} · B: {_name_of(hit.name)}")
    sheet.line(_TOP)
    sheet.similarity(_MARGIN, _TOP + 20, hit)
    top = _TOP + 64
    for side, height in zip(sides, rows, strict=True):
        sheet.text((_MARGIN, top), f"{side.title}  {_name_of(side.name)}", 16, bold=True, most=3 * _PAIR_CELL)
        _side_cells(sheet, side, lefts, top + 28, _PAIR_CELL, height)
        top += _ROW - 16 + height
    return sheet.image


def _name_of(name: str) -> str:
    return Path(name).name or name


def _header(sheet: _Sheet, title: str, subtitle: str) -> None:
    sheet.text((_MARGIN, 32), title, 25, bold=True, most=sheet.width - 2 * _MARGIN)
    sheet.text((_MARGIN, 68), subtitle, 15, _GREY, most=sheet.width - 2 * _MARGIN)
    for kind, left in zip(KINDS, (_MARGIN, _MARGIN + 490), strict=True):
        used = sheet.text((left, 106), f"{kind.capitalize()}: {_MEANING[kind]}", 14)
        used += 14 + sheet.text((left + used + 14, 107), "faint", 12, _GREY)
        sheet.image.paste(legend_bar(kind, 120, 14), (left + used + 7, 107))
        sheet.text((left + used + 134, 107), "strong", 12, _GREY)


def _hit_line(sheet: _Sheet, hit: ShownHit, top: int, lefts: list[int]) -> None:
    room = lefts[3] - _GROUP_GAP - _MARGIN
    used = sheet.text((_MARGIN, top), f"{hit.rank}", 18, bold=True) + 12
    label = f"label {hit.label}" if hit.label else ""
    label_room = min(200, sheet.measure(label, 14)) + 16 if label else 0
    used += sheet.text((_MARGIN + used, top), hit.name, 18, bold=True, most=room - used - label_room) + 14
    sheet.text((_MARGIN + used, top + 3), label, 14, _GREY, most=200)
    sheet.similarity(lefts[3], top, hit)


def _side_cells(sheet: _Sheet, side: _Side, lefts: list[int], top: int, cell: int, height: int) -> None:
    """One picture as it is and its two overlays, each under its caption."""
    sheet.text((lefts[0], top), f"{side.title}, as it is", 13, _GREY)
    below = top + 22
    if side.picture is None:
        sheet.place((lefts[0], below, lefts[0] + cell, below + height), "cannot be shown")
    else:
        sheet.picture(side.picture, lefts[0], below, cell)
    if side.heatmaps is None or side.picture is None:
        sheet.place((lefts[1], below, lefts[2] + cell, below + height), side.missing)
        return
    for kind, left in zip(KINDS, lefts[1:], strict=True):
        sheet.image.paste(legend_bar(kind, 12, 12, least=0.75), (left, top + 1))
        used = sheet.text((left + 18, top), side.caption(kind), 13)
        sheet.text((left + 18 + used, top), f": {side.evidence(kind)}", 13, _GREY)
        overlaid = side.overlaid(kind)
        if overlaid is not None:
            sheet.picture(overlaid, left, below, cell)


def _fitted(size: tuple[int, int], cell: int) -> tuple[int, int]:
    scale = cell / max(size)
    width, height = (max(_LEAST, round(side * scale)) for side in size)
    return width, height


def _row_height(sides: Sequence[_Side], cell: int) -> int:
    tallest = max((_fitted(side.picture.size, cell)[1] for side in sides if side.picture), default=0)
    return max(tallest, 64)


def legend_bar(kind: Kind, width: int, height: int, least: float = 0.0) -> Image.Image:
    """Evidence from `least` (0: none) to the strongest, drawn over mid grey as an overlay draws it: RGB."""
    ramp = np.repeat(np.linspace(least, 1, width, dtype=np.float32)[None], height, axis=0)
    return overlay(Image.new("RGB", (width, height), (150, 150, 150)), ramp, kind)


class _Sheet:
    """A light sheet with the few things that are drawn on it."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width, height), _PAPER)
        self.width = width
        self._draw = ImageDraw.Draw(self.image)

    def measure(self, text: str, size: int) -> int:
        shown, font = _typeset(text, size)
        return round(font.getlength(shown))

    def text(
        self, at: tuple[int, int], text: str, size: int, colour: str = _INK, bold: bool = False, most: int | None = None
    ) -> int:
        """Draw a line, shortened in its middle to `most` pixels; the width that it took."""
        if most is not None:
            text = self._cut(text, size, most)
        shown, font = _typeset(text, size)
        self._draw.text(at, shown, colour, font, stroke_width=0.35 if bold else 0)
        return round(font.getlength(shown))

    def line(self, top: int) -> None:
        self._draw.line((_MARGIN, top, self.width - _MARGIN, top), _LINE)

    def place(self, box: tuple[int, int, int, int], words: str) -> None:
        """A quiet field where a picture cannot be, with the reason in its middle."""
        self.rounded(box, 6, _PLACE)
        lines = list(_wrapped(words, 15, box[2] - box[0] - 24))[: max(1, (box[3] - box[1]) // 22)]
        top = (box[1] + box[3]) / 2 - 11 * (len(lines) - 1)
        for number, line in enumerate(lines):
            shown, font = _typeset(line, 15)
            self._draw.text(((box[0] + box[2]) / 2, top + 22 * number), shown, _GREY, font, anchor="mm")

    def picture(self, image: Image.Image, left: int, top: int, cell: int) -> None:
        """The whole picture in its proportions, under its caption."""
        self.image.paste(image.resize(_fitted(image.size, cell), Image.Resampling.LANCZOS), (left, top))

    def rounded(self, box: tuple[int, int, int, int], radius: int, colour: str) -> None:
        """A filled box (left, top, right, bottom) with smooth round corners."""
        size = box[2] - box[0], box[3] - box[1]
        mask = Image.new("L", (size[0] * _SMOOTH, size[1] * _SMOOTH))
        corner = (mask.width - 1, mask.height - 1)
        ImageDraw.Draw(mask).rounded_rectangle((0, 0, *corner), radius * _SMOOTH, 255)
        self.image.paste(colour, box, mask.resize(size, Image.Resampling.BOX))

    def similarity(self, left: int, top: int, hit: ShownHit) -> None:
        """A bar with the threshold marked, the percentage, the verdict, and the rank before rescoring."""
        self.rounded((left, top + 5, left + 160, top + 15), 5, _LINE)
        self.rounded((left, top + 5, left + max(10, round(160 * hit.similarity)), top + 15), 5, _INK)
        mark = left + round(160 * (1 - THRESHOLD))
        self._draw.line((mark, top + 1, mark, top + 19), _GREY)
        end = left + 172 + self.text((left + 172, top), percent(hit.similarity), 18, bold=True)
        end += 10 + self._pill(end + 10, top, hit.verdict)
        if hit.index_rank is not None:
            self.text((end + 12, top + 3), f"rank {hit.index_rank} in the index, before rescoring", 14, _GREY)

    def _pill(self, left: int, top: int, verdict: Verdict) -> int:
        """The verdict: filled for similar, an outline for different; its width."""
        width = self.measure(verdict, 14) + 22
        self.rounded((left, top - 2, left + width, top + 22), 12, _INK)
        if verdict == "different":
            self.rounded((left + 1, top - 1, left + width - 1, top + 21), 11, _PAPER)
        ink = _PAPER if verdict == "similar" else _INK
        self.text((left + 11, top + 2), verdict, 14, ink)
        return width

    def _cut(self, text: str, size: int, most: int) -> str:
        head, tail = text[: (len(text) + 1) // 2], text[(len(text) + 1) // 2 :]
        cut = text
        while self.measure(cut, size) > most and (head or tail):
            head, tail = (head[:-1], tail) if len(head) > len(tail) else (head, tail[1:])
            cut = f"{head}…{tail}"
        return cut


def _wrapped(text: str, size: int, most: int) -> Iterator[str]:
    line = ""
    for word in text.split():
        joined = f"{line} {word}".strip()
        if line and _typeset(joined, size)[1].getlength(joined) > most:
            yield line
            line = word
        else:
            line = joined
    yield line


def _typeset(text: str, size: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """The text with a font that has its letters; letters that no font has are written as \\uNNNN."""
    font = min(_fonts(size), key=lambda each: len(_lacking(text, each)))
    lacking = _lacking(text, font)
    return "".join(f"\\u{ord(each):04x}" if each in lacking else each for each in text), font


@cache
def _fonts(size: int) -> tuple[ImageFont.FreeTypeFont, ...]:
    """Pillow's own font first, which is on every machine but knows only ASCII; then what the machine has."""
    found = [ImageFont.load_default(size)]
    for name in _FALLBACK_FONTS:
        with contextlib.suppress(OSError):
            found.append(ImageFont.truetype(name, size))
    return tuple(font for font in found if isinstance(font, ImageFont.FreeTypeFont))


def _lacking(text: str, font: ImageFont.FreeTypeFont) -> set[str]:
    return {each for each in set(text) if not each.isspace() and _drawn(each, font) == _drawn("\uffff", font)}


@cache
def _drawn(character: str, font: ImageFont.FreeTypeFont) -> bytes:
    """The letter's dots; of what a font lacks, those of an empty box."""
    return bytes(font.getmask(character))


# The page


def page(results: Sequence[Shown]) -> str:
    """One HTML page, whole in itself, of one or more queries. It asks no network and runs no script."""
    style = files("retrieval").joinpath("report.css").read_text("utf-8")
    title = f"Most similar to {results[0].name}" if len(results) == 1 else f"The hits of {len(results)} queries"
    queries = "\n".join(_query_html(shown) for shown in results) or "<p>No queries.</p>"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>The most similar pictures, and why</h1>
{_legend_html(results)}
</header>
<main>
{queries}
</main>
</body>
</html>
"""


def _legend_html(results: Sequence[Shown]) -> str:
    bars = "".join(
        f'<li><b>{kind.capitalize()}</b> {_MEANING[kind]}<span class="scale"><span>faint</span>'
        f'<img src="{_data_uri(legend_bar(kind, 256, 16), "PNG")}" alt="from grey to bright: faint to strong">'
        "<span>strong</span></span></li>"
        for kind in KINDS
    )
    return f"""<section class="reading" aria-labelledby="reading">
<h2 id="reading">How to read this</h2>
<ul class="legend">{bars}</ul>
<p>Each row shows the query and one hit: the picture as it is, then where the model found evidence <b>for</b> its
verdict (factual), then <b>against</b> it (counterfactual: what would have to weigh more for the verdict to turn).
“Similar” means a similarity above {percent(1 - THRESHOLD)}. All hits of a query share one scale, so faint evidence
looks faint. Select a picture to enlarge it.</p>
<p>The limits: {_places(results)}, so their edges are not the edges of
things. They show what the model’s verdict rests on. They prove nothing about the pictures, and the model may be right
for the wrong reasons.</p>
</section>"""


def _places(results: Sequence[Shown]) -> str:
    for explanation in (hit.explanation for shown in results for hit in shown.hits):
        if explanation:
            rows, columns = explanation.query.factual.shape
            return f"heatmaps are {rows} × {columns} places, enlarged"
    return "heatmaps are a few places, enlarged"


def _query_html(shown: Shown) -> str:
    hits = "\n".join(_hit_html(shown, hit) for hit in shown.hits) or f'<p class="empty">{NO_HITS}</p>'
    picture = _figure(shown.picture, "query, as it is", f"The query {shown.name}") if not shown.hits else ""
    return f"""<section class="query">
<h2>Query: {_name_html(shown.name)}</h2>
{picture}{hits}
</section>"""


def _hit_html(shown: Shown, hit: ShownHit) -> str:
    label = f"<span>label <b>{_name_html(hit.label)}</b></span>" if hit.label else ""
    index = f"<span>rank {hit.index_rank} in the index, before rescoring</span>" if hit.index_rank is not None else ""
    folder = f'<p class="folder">{_name_html(hit.folder)}</p>' if hit.folder else ""
    sides = "\n".join(_side_html(side) for side in _sides(shown, hit))
    return f"""<article>
<h3><span class="rank">{hit.rank}</span> {_name_html(hit.name)}</h3>
{folder}<p class="facts"><span class="bar" aria-hidden="true"><i style="width:{100 * hit.similarity:.1f}%"></i></span>
<b class="percent">{percent(hit.similarity)}</b><b class="verdict {hit.verdict}">{hit.verdict}</b>{label}{index}</p>
<div class="pair">
{sides}
</div>
</article>"""


def _side_html(side: _Side) -> str:
    plain = _figure(side.picture, f"{side.title}, as it is", f"The {side.title} {side.name}")
    if side.heatmaps is None or side.picture is None:
        return f'<div class="side">{plain}<p class="missing">{escape(side.missing)}</p></div>'
    overlaid = "".join(
        _figure(
            side.overlaid(kind),
            f'<i class="{kind}"></i>{escape(side.caption(kind))}: {side.evidence(kind)}',
            f"The {side.title} with its {kind} heatmap, {side.caption(kind)}: {side.evidence(kind)}",
        )
        for kind in KINDS
    )
    return f'<div class="side">{plain}{overlaid}</div>'


def _figure(image: Image.Image | None, caption: str, alt: str) -> str:
    """A picture with its caption (HTML); one that can be enlarged by selecting it."""
    if image is None:
        return f'<figure><p class="missing">cannot be shown</p><figcaption>{caption}</figcaption></figure>'
    width, height = image.size
    source = f'src="{_data_uri(image, "JPEG")}" width="{width}" height="{height}"'
    return (
        f'<figure><div class="frame" style="aspect-ratio:{width}/{height}">'
        f'<img {source} alt="{escape(alt)}" tabindex="0"></div><figcaption>{caption}</figcaption></figure>'
    )


def _name_html(name: str) -> str:
    return f"<bdi>{escape(name)}</bdi>"


def _data_uri(image: Image.Image, format_: str) -> str:
    return f"data:image/{format_.lower()};base64,{base64.b64encode(_encoded(image, format_)).decode('ascii')}"
