"""What people are given as files: overlays with their contact sheet, and the page."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from retrieval.common.atomic_files import explained, write_whole
from retrieval.common.output_names import CONTACT_SHEET, HIT_MATCHES, HIT_OVERLAY, MATCHES, PAIR_OVERLAY
from retrieval.explain.explanation import Explanation
from retrieval.rendering.contact_sheet import contact_sheet, pair_sheet
from retrieval.rendering.correspondence_regions import side_by_side
from retrieval.rendering.hits_page import page
from retrieval.rendering.overlay import encoded
from retrieval.rendering.presentation import KINDS, PairFiles, Shown, ShownHit, Side, matches_of, prepare_pair, sides


def write_overlays(shown: Shown, folder: Path) -> dict[int, PairFiles]:
    """Write each hit's overlays and `contact-sheet.png`; the files by the hit's rank.

    Overlays of an earlier query that this one has not written again are deleted. Raises RetrievalError.
    """
    with ThreadPoolExecutor(2) as threads:
        sheet = threads.submit(lambda: encoded(contact_sheet(shown), "PNG"))
        written = list(threads.map(lambda hit: _write_hit(shown, hit, folder, *_names(hit.rank, folder)), shown.hits))
    write_whole(folder / CONTACT_SHEET, sheet.result())
    _delete_stale(folder, (HIT_OVERLAY, HIT_MATCHES), written)
    return {hit.rank: paths for hit, paths in zip(shown.hits, written, strict=True)}


def write_pair(a: str | Path, b: str | Path, explanation: Explanation, folder: Path) -> PairFiles:
    """Write the overlays of two pictures and their `contact-sheet.png`. Raises RetrievalError."""
    shown = prepare_pair(a, os.fspath(a), b, os.fspath(b), explanation)
    written = _write_hit(shown, shown.hits[0], folder, ("a", "b"), folder / MATCHES)
    write_whole(folder / CONTACT_SHEET, encoded(pair_sheet(shown), "PNG"))
    _delete_stale(folder, (PAIR_OVERLAY, re.compile(re.escape(MATCHES))), [written])
    return written


def write_page(results: Sequence[Shown], file: Path) -> None:
    """Write `page` to a file. Raises RetrievalError."""
    write_html(page(results), file)


def write_html(html: str, file: Path) -> None:
    """Write a page that is made already to a file. Raises RetrievalError."""
    write_whole(file, html.encode("utf-8"))


def _names(rank: int, folder: Path) -> tuple[tuple[str, str], Path]:
    return (f"hit-{rank:02}-query", f"hit-{rank:02}-hit"), folder / f"hit-{rank:02}-{MATCHES}"


def _write_hit(shown: Shown, hit: ShownHit, folder: Path, stems: tuple[str, str], matches: Path) -> PairFiles:
    first, second = (_write_side(side, folder, stem) for side, stem in zip(sides(shown, hit), stems, strict=True))
    drawn = matches_of(shown, hit)
    if drawn is None:
        return PairFiles(first, second)
    write_whole(matches, encoded(side_by_side(*drawn), "PNG"))
    return PairFiles(first, second, matches)


def _write_side(side: Side, folder: Path, stem: str) -> tuple[Path, Path] | None:
    paths = folder / f"{stem}-factual.jpg", folder / f"{stem}-counterfactual.jpg"
    for kind, path in zip(KINDS, paths, strict=True):
        image = side.overlaid(kind)
        if image is None:
            return None
        write_whole(path, encoded(image, "JPEG", quality=92))
    return paths


def _delete_stale(folder: Path, patterns: Sequence[re.Pattern[str]], written: Iterable[PairFiles]) -> None:
    """Delete the overlays in a folder that are of an earlier run: named as this one names them, but not written."""
    kept = {path for pair in written for path in pair.all}
    for path in folder.iterdir():
        if path not in kept and any(pattern.fullmatch(path.name) for pattern in patterns):
            with explained(path):
                path.unlink(missing_ok=True)
