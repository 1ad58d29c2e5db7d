"""Output files: overlays with their contact sheet."""

import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

from retrieval.common.atomic_files import explain_write_errors, write_atomically
from retrieval.common.output_names import CONTACT_SHEET, GRADCAM_PART, HIT_FILES, MATCHES, PAIR_FILES
from retrieval.explain.explanation import Explanation
from retrieval.explain.illustrated import HEATMAP_KINDS
from retrieval.rendering.contact_sheet import MAX_HITS, draw_contact_sheet, draw_pair_sheet
from retrieval.rendering.correspondence_regions import side_by_side
from retrieval.rendering.overlay import encode_image
from retrieval.rendering.png import encode_png
from retrieval.rendering.presentation import (
    HitView,
    PairFiles,
    ResultView,
    Sides,
    SideView,
    build_pair_view,
    draw_pair_matches,
    gradcam_views,
    side_views,
)

_WRITERS = 8  # threads: they draw and encode for less time than they wait for the disk


def write_overlays(view: ResultView, folder: Path) -> dict[int, PairFiles]:
    """Write each hit's overlays and `contact-sheet.png`; return the overlays' files by the hit's rank.

    Overlays of an earlier query that this one does not overwrite are deleted. Raises RetrievalError.
    """
    pairs = [side_views(view, hit) for hit in view.hits[:MAX_HITS]]
    drawings = [(side, kind) for sides in pairs for side in sides for kind in HEATMAP_KINDS]
    with ThreadPoolExecutor(_WRITERS) as threads:
        list(threads.map(lambda drawing: SideView.draw_overlay(*drawing), drawings))  # for the files and the sheet
        writing = [threads.submit(write_hit, view, hit, folder, sides) for hit, sides in zip_longest(view.hits, pairs)]
        sheet = encode_png(draw_contact_sheet(view, pairs))
        written = [each.result() for each in writing]
    write_atomically(folder / CONTACT_SHEET, sheet)
    _delete_stale(folder, HIT_FILES, written)
    return {hit.rank: paths for hit, paths in zip(view.hits, written, strict=True)}


def write_pair(a: str | Path, b: str | Path, explanation: Explanation, folder: Path) -> PairFiles:
    """Write the overlays of two pictures and their `contact-sheet.png`; return the overlays. Raises RetrievalError."""
    view = build_pair_view(a, os.fspath(a), b, os.fspath(b), explanation)
    hit = view.hits[0]
    written = _write_hit(view, hit, side_views(view, hit), folder, ("a-", "b-"), folder / MATCHES)
    write_atomically(folder / CONTACT_SHEET, encode_png(draw_pair_sheet(view)))
    _delete_stale(folder, PAIR_FILES, [written])
    return written


def write_hit(
    view: ResultView, hit: HitView, folder: Path, sides: Sides | None = None, method_part: str = ""
) -> PairFiles:
    """Write the overlays of one hit, named by its rank, from its views if there are any. Raises RetrievalError.

    `method_part` is in the names if the view is of the heatmaps beside those that are shown: GRADCAM_PART.
    """
    stem = f"hit-{hit.rank:02}"
    stems, matches = (f"{stem}-query-{method_part}", f"{stem}-hit-{method_part}"), folder / f"{stem}-{MATCHES}"
    return _write_hit(view, hit, sides or side_views(view, hit), folder, stems, matches)


def _write_hit(
    view: ResultView, hit: HitView, sides: Sides, folder: Path, stems: tuple[str, str], matches: Path
) -> PairFiles:
    written, beside = _write_sides(sides, folder, stems), gradcam_views(view, hit)
    if beside:
        stems = stems[0] + GRADCAM_PART, stems[1] + GRADCAM_PART
        written = replace(written, gradcam=_write_sides(beside, folder, stems))
    drawn = draw_pair_matches(view, hit)
    if drawn:
        write_atomically(matches, encode_png(side_by_side(*drawn)))
    return replace(written, matches=matches if drawn else None)


def _write_sides(sides: Sides, folder: Path, stems: tuple[str, str]) -> PairFiles:
    first, second = (_write_side(side, folder, stem) for side, stem in zip(sides, stems, strict=True))
    return PairFiles(first, second)


def _write_side(side: SideView, folder: Path, stem: str) -> tuple[Path, Path] | None:
    paths = folder / f"{stem}factual.jpg", folder / f"{stem}counterfactual.jpg"
    for kind, path in zip(HEATMAP_KINDS, paths, strict=True):
        image = side.draw_overlay(kind)
        if image is None:
            return None
        write_atomically(path, encode_image(image, "JPEG", quality=92))
    return paths


def _delete_stale(folder: Path, names: re.Pattern[str], written: Iterable[PairFiles]) -> None:
    """Delete the overlays of an earlier run: files with names such as this one gives, which it has not written."""
    current = {path for pair in written for path in pair.paths}
    for path in folder.iterdir():
        if path not in current and names.fullmatch(path.name):
            with explain_write_errors(path):
                path.unlink(missing_ok=True)
