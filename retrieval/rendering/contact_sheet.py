"""Contact sheets: a query and its hits, or two pictures, in one captioned picture."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cache
from math import inf
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from retrieval.common.settings import THRESHOLD
from retrieval.common.text import count_noun, percent
from retrieval.explain.explanation import Verdict
from retrieval.explain.illustrated import HEATMAP_KINDS
from retrieval.explain.verification import Support, Verification
from retrieval.rendering.overlay import fit_size, legend_bar
from retrieval.rendering.presentation import (
    KIND_MEANINGS,
    NO_HITS,
    HitView,
    ResultView,
    Sides,
    SideView,
    side_views,
)
from retrieval.rendering.verification_text import describe_support

_INK, _GREY, _LINE, _PAPER, _PLACEHOLDER_COLOUR = "#1b1d21", "#656b75", "#d9dce1", "#fbfbfa", "#eeeff1"
_MARGIN, _CELL, _PAIR_CELL, _GAP, _GROUP_GAP = 40, 224, 320, 12, 36
_TOP, _ROW = 150, 94  # the top of the first row; a row's height besides its pictures
_DOUBT = 34  # the height of the line that says that no hit is confidently similar
_CHECK = 34  # the height of the band that says what the check of a pair's heatmaps found
_BANDS = {  # its fill and its ink
    Support.faithful: ("#e3f1e8", "#1b1d21"),
    Support.weak: ("#fbe7c2", "#1b1d21"),
    Support.not_supported: ("#b3261e", "#ffffff"),
}
MAX_HITS = 20  # a sheet grows by a megapixel every few hits
_SUPERSAMPLING = 4  # Pillow draws shapes with hard edges: draw larger, then reduce
_LOOK_UP_SIZE = 16
_FONTS = (  # Pillow's own, which every machine has but which is only ASCII, then those of the machine
    "",
    *("DejaVuSans.ttf", "Arial Unicode.ttf", "NotoSansCJK-Regular.ttc", "msyh.ttc", "arial.ttf"),
)


def draw_contact_sheet(view: ResultView, pairs: Sequence[Sides] | None = None) -> Image.Image:
    """Draw a row for each hit: the query plain, factual and counterfactual, then the hit; a legend above. RGB.

    `pairs` are the views of its first MAX_HITS hits, if their overlays may be drawn already.
    """
    pairs = pairs or [side_views(view, hit) for hit in view.hits[:MAX_HITS]]
    lefts = [_MARGIN + i * (_CELL + _GAP) + (i > 2) * (_GROUP_GAP - _GAP) for i in range(6)]
    width = lefts[-1] + _CELL + _MARGIN
    hits, more = view.hits[:MAX_HITS], len(view.hits) - MAX_HITS
    rows = [_row_height(sides, _CELL) for sides in pairs] or [_CELL]
    bands = sum(_CHECK for hit in hits if _verification(hit))
    top = _TOP + (_DOUBT if view.doubt else 0)
    sheet = _Sheet(width, top + sum(_ROW + height for height in rows) + bands + 16)
    count = f"{count_noun(len(hits), 'hit')}, most similar first"
    count += f", and {more} more" if more > 0 else ""
    _header(sheet, f"Query: {view.name}", f"{count} · one scale of evidence for all" if view.hits else NO_HITS)
    if view.doubt:
        sheet.text((_MARGIN, _TOP - 6), view.doubt, 16, bold=True, max_width=width - 2 * _MARGIN)
    if not view.hits and view.picture:
        sheet.picture(view.picture, _MARGIN, top, _CELL)
    for hit, sides, height in zip(hits, pairs, rows, strict=False):
        sheet.line(top)
        _hit_line(sheet, hit, top + 18, lefts)
        top += sheet.check_band(top + 48, hit)
        for side, columns in zip(sides, (lefts[:3], lefts[3:]), strict=True):
            _side_cells(sheet, side, columns, top + 52, _CELL, height)
        top += _ROW + height
    return sheet.image


def draw_pair_sheet(view: ResultView) -> Image.Image:
    """Draw picture A above B, each plain, factual and counterfactual; similarity and verdict above. RGB."""
    hit = view.hits[0]
    sides = side_views(view, hit, ("A", "B"))
    lefts = [_MARGIN + i * (_PAIR_CELL + _GAP) for i in range(3)]
    rows = [_row_height((side,), _PAIR_CELL) for side in sides]
    top = _TOP + 64 + (_CHECK if _verification(hit) else 0)
    sheet = _Sheet(lefts[-1] + _PAIR_CELL + _MARGIN, top + sum(_ROW - 16 + height for height in rows) + 16)
    _header(sheet, "How similar, and why", f"A: {_name_of(view.name)} · B: {_name_of(hit.name)}")
    sheet.line(_TOP)
    sheet.similarity_bar(_MARGIN, _TOP + 20, hit)
    sheet.check_band(_TOP + 56, hit)
    for side, height in zip(sides, rows, strict=True):
        sheet.text((_MARGIN, top), f"{side.title}  {_name_of(side.name)}", 16, bold=True, max_width=3 * _PAIR_CELL)
        _side_cells(sheet, side, lefts, top + 28, _PAIR_CELL, height)
        top += _ROW - 16 + height
    return sheet.image


def _verification(hit: HitView) -> Verification | None:
    return hit.explanation.verification if hit.explanation else None


def _name_of(name: str) -> str:
    return Path(name).name or name


def _header(sheet: _Sheet, title: str, subtitle: str) -> None:
    room = sheet.image.width - 2 * _MARGIN
    sheet.text((_MARGIN, 32), title, 25, bold=True, max_width=room)
    sheet.text((_MARGIN, 68), f"{subtitle} · dark edges were not seen by the model", 15, _GREY, max_width=room)
    for kind, left in zip(HEATMAP_KINDS, (_MARGIN, _MARGIN + 490), strict=True):
        used = sheet.text((left, 106), f"{kind.capitalize()}: {KIND_MEANINGS[kind]}", 14)
        used += 14 + sheet.text((left + used + 14, 107), "faint", 12, _GREY)
        sheet.image.paste(legend_bar(kind, 120, 14), (left + used + 7, 107))
        sheet.text((left + used + 134, 107), "strong", 12, _GREY)


def _hit_line(sheet: _Sheet, hit: HitView, top: int, lefts: list[int]) -> None:
    room = lefts[3] - _GROUP_GAP - _MARGIN
    used = sheet.text((_MARGIN, top), f"{hit.rank}", 18, bold=True) + 12
    label = f"label {hit.label}" if hit.label else ""
    label_room = min(200, sheet.measure(label, 14)) + 16 if label else 0
    used += sheet.text((_MARGIN + used, top), hit.name, 18, bold=True, max_width=room - used - label_room) + 14
    sheet.text((_MARGIN + used, top + 3), label, 14, _GREY, max_width=200)
    sheet.similarity_bar(lefts[3], top, hit)


def _side_cells(sheet: _Sheet, side: SideView, lefts: list[int], top: int, cell: int, height: int) -> None:
    """Draw one picture as it is and its two overlays, each under its caption."""
    sheet.text((lefts[0], top), f"{side.title}, as it is", 13, _GREY)
    below = top + 22
    if side.picture is None:
        sheet.placeholder((lefts[0], below, lefts[0] + cell, below + height), "cannot be shown")
    else:
        sheet.picture(side.picture, lefts[0], below, cell)
    if side.heatmaps is None or side.picture is None:
        sheet.placeholder((lefts[1], below, lefts[2] + cell, below + height), side.placeholder)
        return
    for kind, left in zip(HEATMAP_KINDS, lefts[1:], strict=True):
        sheet.image.paste(legend_bar(kind, 12, 12, least=0.75), (left, top + 1))
        used = sheet.text((left + 18, top), side.caption(kind), 13)
        sheet.text((left + 18 + used, top), f": {side.strength_word(kind)}", 13, _GREY)
        overlaid = side.draw_overlay(kind)
        if overlaid is not None:
            sheet.picture(overlaid, left, below, cell)


def _row_height(sides: Sequence[SideView], cell: int) -> int:
    return max([64, *(fit_size(side.picture.size, cell)[1] for side in sides if side.picture)])


class _Sheet:
    """A light sheet and the few shapes that can be drawn on it."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width, height), _PAPER)
        self._draw = ImageDraw.Draw(self.image)

    def measure(self, text: str, size: int) -> int:
        typeset, font = _typeset(text, size)
        return round(font.getlength(typeset))

    def text(
        self, at: tuple[int, int], text: str, size: int, colour: str = _INK, bold: bool = False, max_width: float = inf
    ) -> int:
        """Draw a line of text, cut in its middle to `max_width` pixels; return its width."""
        typeset, font = _typeset(self._truncate(text, size, max_width), size)
        self._draw.text(at, typeset, colour, font, stroke_width=0.35 if bold else 0)
        return round(font.getlength(typeset))

    def line(self, top: int) -> None:
        self._draw.line((_MARGIN, top, self.image.width - _MARGIN, top), _LINE)

    def check_band(self, top: int, hit: HitView) -> int:
        """Draw what the check of a hit's heatmaps found, if there was one; return the height that it takes."""
        verification = _verification(hit)
        if verification is None:
            return 0
        fill, ink = _BANDS[verification.support]
        self.rounded_box((_MARGIN, top, self.image.width - _MARGIN, top + 26), 6, fill)
        room = self.image.width - 2 * _MARGIN - 24
        self.text((_MARGIN + 12, top + 5), describe_support(verification), 15, ink, bold=True, max_width=room)
        return _CHECK

    def placeholder(self, box: tuple[int, int, int, int], words: str) -> None:
        """Draw a grey field in place of a picture, with the reason in its middle."""
        self.rounded_box(box, 6, _PLACEHOLDER_COLOUR)
        lines = list(_wrap(words, 15, box[2] - box[0] - 24))[: max(1, (box[3] - box[1]) // 22)]
        top = (box[1] + box[3]) / 2 - 11 * (len(lines) - 1)
        for number, line in enumerate(lines):
            typeset, font = _typeset(line, 15)
            self._draw.text(((box[0] + box[2]) / 2, top + 22 * number), typeset, _GREY, font, anchor="mm")

    def picture(self, image: Image.Image, left: int, top: int, cell: int) -> None:
        """Draw a whole picture in its proportions, scaled to a cell."""
        self.image.paste(image.resize(fit_size(image.size, cell), Image.Resampling.LANCZOS), (left, top))

    def rounded_box(self, box: tuple[int, int, int, int], radius: int, colour: str) -> None:
        """Draw a filled box (left, top, right, bottom) with smooth round corners."""
        size = box[2] - box[0], box[3] - box[1]
        mask = Image.new("L", (size[0] * _SUPERSAMPLING, size[1] * _SUPERSAMPLING))
        corner = (mask.width - 1, mask.height - 1)
        ImageDraw.Draw(mask).rounded_rectangle((0, 0, *corner), radius * _SUPERSAMPLING, 255)
        self.image.paste(colour, box, mask.resize(size, Image.Resampling.BOX))

    def similarity_bar(self, left: int, top: int, hit: HitView) -> None:
        """Draw a bar with the threshold marked, the percentage, the verdict, the probability, and the index rank."""
        self.rounded_box((left, top + 5, left + 160, top + 15), 5, _LINE)
        self.rounded_box((left, top + 5, left + max(10, round(160 * hit.similarity)), top + 15), 5, _INK)
        mark = left + round(160 * (1 - THRESHOLD))
        self._draw.line((mark, top + 1, mark, top + 19), _GREY)
        end = left + 172 + self.text((left + 172, top), percent(hit.similarity), 18, bold=True)
        end += 10 + self._pill(end + 10, top, hit.verdict)
        if hit.probability is not None:
            end += 12 + self.text((end + 12, top + 3), f"same kind {percent(hit.probability)}", 14)
        if hit.index_rank is not None:
            self.text((end + 12, top + 3), f"rank {hit.index_rank} in the index, before rescoring", 14, _GREY)

    def _pill(self, left: int, top: int, verdict: Verdict) -> int:
        """Draw the verdict, filled for similar, outlined for different; return its width."""
        width = self.measure(verdict, 14) + 22
        self.rounded_box((left, top - 2, left + width, top + 22), 12, _INK)
        if verdict == "different":
            self.rounded_box((left + 1, top - 1, left + width - 1, top + 21), 11, _PAPER)
        ink = _PAPER if verdict == "similar" else _INK
        self.text((left + 11, top + 2), verdict, 14, ink)
        return width

    def _truncate(self, text: str, size: int, max_width: float) -> str:
        """Return the text, or as many letters of its beginning and end as fit in `max_width` pixels."""
        if self.measure(text, size) <= max_width:
            return text

        def cut(count: int) -> str:
            return f"{text[: (count + 1) // 2]}…{text[len(text) - count // 2 :]}"

        too_many = bisect_left(range(len(text)), True, key=lambda count: self.measure(cut(count), size) > max_width)
        return cut(max(too_many - 1, 0))


def _wrap(text: str, size: int, max_width: int) -> Iterator[str]:
    line = ""
    for word in text.split():
        joined = f"{line} {word}".strip()
        if line and _typeset(joined, size)[1].getlength(joined) > max_width:
            yield line
            line = word
        else:
            line = joined
    yield line


def _typeset(text: str, size: int) -> tuple[str, ImageFont.FreeTypeFont]:
    r"""Return the text and a font that has its letters; letters that no font has become \uNNNN."""
    name, missing = _choose_font(text)
    font = _font(name, size)
    assert font is not None, "Pillow was built without fonts"
    return "".join(f"\\u{ord(letter):04x}" if letter in missing else letter for letter in text), font


def _choose_font(text: str) -> tuple[str, set[str]]:
    """Return the first font that has all letters, else the one that lacks fewest, and these."""
    choice, least = _FONTS[0], set(text)
    for name in _FONTS:
        missing = _missing_glyphs(text, name)
        if len(missing) < len(least) or not missing:
            choice, least = name, missing
        if not missing:
            break
    return choice, least


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    """Return a font of the machine, or Pillow's own if `name` is empty; None if there is no such font."""
    try:
        font = ImageFont.truetype(name, size) if name else ImageFont.load_default(size)
    except OSError:
        return None
    return font if isinstance(font, ImageFont.FreeTypeFont) else None


def _missing_glyphs(text: str, name: str) -> set[str]:
    """Return the letters that a font lacks, which does not depend on the size."""
    font = _font(name, _LOOK_UP_SIZE)
    if font is None:
        return set(text)
    empty = _glyph_bitmap("\uffff", font)
    return {letter for letter in set(text) if not letter.isspace() and _glyph_bitmap(letter, font) == empty}


@cache
def _glyph_bitmap(character: str, font: ImageFont.FreeTypeFont) -> bytes:
    """Return the letter's pixels; letters that the font lacks are an empty box."""
    return bytes(font.getmask(character))
