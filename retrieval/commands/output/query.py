"""The hits of a query, and the explanation of a pair, in a terminal and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Column
from rich.text import Text

from retrieval.commands.output.formats import JsonObject, pick, simple_table
from retrieval.commands.output.tables import AnswerTable, FirstThatFits, WholeWords, name_line
from retrieval.common.output_names import CONTACT_SHEET, MATCHES
from retrieval.common.settings import THRESHOLD
from retrieval.common.text import percent, safe_name
from retrieval.explain.confidence import judge_hits
from retrieval.explain.correspondence import Correspondence
from retrieval.explain.explanation import Explanation, Heatmaps
from retrieval.explain.hit import Hit
from retrieval.explain.illustrated import HEATMAP_KINDS
from retrieval.explain.verification import PictureCheck, Support, Verification
from retrieval.rendering.verification_text import VERIFICATION_HEADINGS, describe_support, verification_rows
from retrieval.sources.location import PictureAddress, PictureLocation, display_location

if TYPE_CHECKING:  # `explain` needs no store
    from retrieval.model.bundle import Bundle
    from retrieval.rendering.presentation import PairFiles
    from retrieval.store.opened_store import OpenedStore
    from retrieval.store.query import QueryResult
    from retrieval.store.similarity import StoreSimilarity

_BAR = 10  # characters of a full bar
_SECONDS = ("load", "embed", "search", "rescore", "explain", "render", "total")
_DIGITS = 4  # of the values of heatmaps
_SUPPORT_STYLES = {Support.faithful: "green", Support.weak: "yellow", Support.not_supported: "bold red"}
_EIGHTHS = " ▏▎▍▌▋▊▉"


def query_lines(title: str, store: OpenedStore, result: QueryResult, confidence: float | None) -> RenderableType:
    """Return a query's hits, notes if they do not answer it or could be judged better, and how long each stage took."""
    similarity = store.similarity
    notes = [judge_hits(result.hits, confidence).doubt]
    if similarity.is_outdated:
        notes.append(f"The similarity is {similarity.description}.")
    notes += [result.coverage.sentence] if result.coverage else []
    stages = " · ".join(f"{stage} {1000 * value:.0f} ms" for stage, value in result.seconds.items())
    table = hits_table(safe_name(title), result.hits, result.nothing)
    said = (WholeWords(Text(safe_name(note), "yellow")) for note in notes if note)
    return Group(table, *said, Text(stages, style="dim"))


def hits_table(name: str, hits: Sequence[Hit], nothing: str | None = None) -> RenderableType:
    """Return a query's hits: rank, picture, label, similarity (with a bar if there is room), verdict, first rank.

    If there are none, `nothing` says why. Between them is the probability that a hit is of the same kind, if the store
    has statistics of its gallery.
    """
    title = name_line("Most similar to ", (name, "bold"))
    if not hits:
        why = f": {safe_name(nothing)}" if nothing else ""
        return Group(title, name_line(f"  nothing found{why}", style="yellow"))
    return Group(title, FirstThatFits(_hits_table(hits, bars=True), _hits_table(hits, bars=False)))


def _hits_table(hits: Sequence[Hit], bars: bool) -> AnswerTable:
    has_kinds = any(hit.probability is not None for hit in hits)
    checks = {"heatmaps": _heatmaps_text, "matches": _held_text}
    words = {name: [text(hit.explanation) for hit in hits] for name, text in checks.items()}
    words = {name: found for name, found in words.items() if any(found)}
    table = simple_table(
        Column("#", justify="right"),
        *("picture", "label", "similarity", "verdict"),
        *(Column(name, justify="right") for name in ["same kind"] * has_kinds + ["index rank"]),
        *words,
        name="picture",
    )
    for place, hit in enumerate(hits):
        style = _style(hit)
        table.add_row(
            str(hit.rank),
            Text.assemble(safe_name(relative_to_cwd(hit.path)), (_remarks(hit), "dim")),
            Text(safe_name(hit.label or "")),
            Text.assemble((f"{text_bar(hit.similarity)} " if bars else "", style), f"{percent(hit.similarity):>7}"),
            Text(hit.verdict, style),
            *([percent(hit.probability or 0.0)] if has_kinds else []),
            str(hit.index_rank),
            *(found[place] for found in words.values()),
        )
    return table


def _remarks(hit: Hit) -> str:
    remarks = [*([hit.note] if hit.note else []), *([f"and {len(hit.copies):,} more"] if hit.copies else [])]
    return f" ({', '.join(remarks)})" if remarks else ""


def _style(compared: Hit | Explanation) -> str:
    return "green" if compared.verdict == "similar" else "yellow"


def _heatmaps_text(why: Explanation | None) -> Text:
    """Return what the check found of a pair's heatmaps, and which pictures have no region that matters."""
    from retrieval.rendering.presentation import AS_WHOLES

    if why is None or why.identical:
        return Text()
    if why.as_wholes:
        return Text(AS_WHOLES[why.verdict])
    wholes = [f"{name} as a whole" for name in ("query", "hit") if why.is_nearly_empty(getattr(why, name))]
    support = why.verification and why.verification.support
    style = _SUPPORT_STYLES[support] if support else ""
    return Text(",\n".join([*([str(support)] if support else []), *wholes]), style)


def relative_to_cwd(path: PictureLocation) -> PictureLocation:
    """Return the path relative to the working folder, if the picture lies below it."""
    if isinstance(path, PictureAddress):
        return display_location(path)
    try:
        here = Path.cwd()
    except FileNotFoundError:  # it was deleted
        return path
    return path.relative_to(here) if path.is_relative_to(here) else path


def text_bar(share: float) -> str:
    """Return a bar of 10 characters for a share from 0 to 1, in steps of an eighth of a character."""
    full, rest = divmod(math.floor(share * _BAR * 8), 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(_BAR)


def pair_lines(explanation: Explanation, folder: Path, similarity: StoreSimilarity | None = None) -> RenderableType:
    """Return the similarity of a pair, by what it is judged, and where its pictures are."""
    judged = similarity.description if similarity else "the model's own"
    answer = Text.assemble(
        f"similarity {percent(explanation.similarity)} ({judged}): ", (explanation.verdict, _style(explanation))
    )
    lines = [answer, name_line(f"contact sheet: {safe_name(folder / CONTACT_SHEET)}")]
    lines[1:1] = _missing_lines(explanation)
    if explanation.correspondence:
        matches = f": {safe_name(folder / MATCHES)}" if explanation.correspondence.held else ""
        lines.append(name_line(f"correspondences: {_held_text(explanation)}{matches}"))
    verification = explanation.verification
    if verification is None:
        return Group(*lines)
    found = Text(describe_support(verification), _SUPPORT_STYLES[verification.support])
    return Group(*lines, found, simple_table(*VERIFICATION_HEADINGS, rows=verification_rows(verification, ("A", "B"))))


def _missing_lines(explanation: Explanation) -> list[Text]:
    """Return why a pair has no heatmaps, or one of its pictures."""
    from retrieval.rendering.presentation import missing_evidence

    first, second = (missing_evidence(explanation, side) for side in (explanation.query, explanation.hit))
    if first and second:
        return [Text(first)]
    return [Text(f"{name}: {reason}") for name, reason in (("A", first), ("B", second)) if reason]


def query_json(
    name: str, store: OpenedStore, result: QueryResult, files: Mapping[int, PairFiles], confidence: float | None
) -> JsonObject:
    """Return a query's hits; `files` are the overlays that were written, by the hit's rank."""
    similarity = store.similarity
    return {
        "query": name,
        "store": store.catalogue.folder,
        "model": model_json(store.bundle),
        "threshold": THRESHOLD,
        "similarity_by": similarity.by,
        "calibrated": similarity.is_calibrated,
        **vars(judge_hits(result.hits, confidence)),
        "coverage": result.coverage and pick(result.coverage, "coverage", "measured", "pictures"),
        "pool": result.pool,
        "nothing": result.nothing,
        "hits": [_hit_json(hit, files.get(hit.rank)) for hit in result.hits],
        "seconds": {stage: result.seconds.get(stage, 0.0) for stage in _SECONDS},
    }


def _hit_json(hit: Hit, files: PairFiles | None) -> JsonObject:
    names = ("rank", "label", "similarity", "distance", "verdict", "probability", "familiarity")
    more = ("plain_similarity", "plain_distance", "index_rank", "index_distance", "width", "height")
    explanation = _explanation_json(hit.explanation, files) if hit.explanation else None
    return pick(hit, *names, *more, "path", "note", "copies") | {"explanation": explanation}


def pair_json(
    a: str | Path,
    b: str | Path,
    bundle: Bundle,
    explanation: Explanation,
    files: PairFiles,
    similarity: StoreSimilarity | None = None,
    plain_distance: float | None = None,
) -> JsonObject:
    """Return the explanation of a pair; if a store judged it, `plain_distance` is the model's own."""
    plain_distance = explanation.distance if plain_distance is None else plain_distance
    return {
        "a": a,
        "b": b,
        "model": model_json(bundle),
        "threshold": THRESHOLD,
        "similarity_by": similarity.by if similarity else "model",
        **pick(explanation, "similarity", "distance", "verdict"),
        "plain_similarity": 1 - plain_distance,
        "plain_distance": plain_distance,
        "explanation": _explanation_json(explanation, files),
    }


def _held_text(why: Explanation | None) -> Text:
    """Return how many of a pair's matches hold."""
    found = why and why.correspondence
    if not found:
        return Text()
    return Text(f"{found.held} of {len(found.matches)} hold" if found.matches else "none stands out")


def _explanation_json(explanation: Explanation, files: PairFiles | None) -> JsonObject:
    return {
        **pick(explanation, "method", "identical"),
        **_maps_json(explanation, files),
        "correspondence": _correspondence_json(explanation.correspondence, files),
        "gradcam": explanation.gradcam and _maps_json(explanation.gradcam, files and files.gradcam),
    }


def _maps_json(explanation: Explanation, files: PairFiles | None) -> JsonObject:
    return {
        "as_wholes": explanation.as_wholes,
        "query": _heatmaps_json(explanation.query, files.query if files else None),
        "hit": _heatmaps_json(explanation.hit, files.hit if files else None),
        "verification": _verification_json(explanation.verification),
    }


def _heatmaps_json(heatmaps: Heatmaps, files: tuple[Path, Path] | None) -> JsonObject:
    """Return one picture's maps: the `files` of their overlays, and their `values`, rows from top to bottom."""
    return {
        **dict(zip(HEATMAP_KINDS, files or (None, None), strict=True)),
        "magnitude": heatmaps.magnitude,
        "seen": heatmaps.seen and heatmaps.seen._asdict(),
        "values": {kind: getattr(heatmaps, kind).astype("float64").round(_DIGITS) for kind in HEATMAP_KINDS},
    }


def _verification_json(verification: Verification | None) -> JsonObject | None:
    """Return, by way of hiding, similarities once a fifth was hidden, beside those for random regions of the shape."""
    if verification is None:
        return None
    ways = {
        way: pick(check, "support") | {side: _picture_check_json(picture) for side, picture in vars(check).items()}
        for way, check in verification.hidings.items()
    }
    return pick(verification, "support", "similarity", "fidelity") | {"hidings": ways}


def _picture_check_json(check: PictureCheck | None) -> JsonObject | None:
    if check is None:
        return None
    return {kind: vars(hidden) | pick(hidden, "as_claimed") for kind, hidden in vars(check).items()}


def _correspondence_json(correspondence: Correspondence | None, files: PairFiles | None) -> JsonObject | None:
    """Return regions as cells [row, column] of each picture's grid, which lies over the part that the network sees.

    `table` says how much each place of the query (by rows) gives with each place of the hit.
    """
    if correspondence is None:
        return None
    matches = [
        {"number": number, "query": sorted(match.first), "hit": sorted(match.second)}
        | pick(match, "share", "holds")
        | {"checks": {way: vars(check) for way, check in match.checks.items()}}
        for number, match in enumerate(correspondence.matches, 1)
    ]
    return {
        "picture": files.matches if files else None,
        "query_grid": correspondence.shape,
        "hit_grid": correspondence.other_shape,
        "matches": matches,
        "table": correspondence.table,
    }


def model_json(bundle: Bundle) -> JsonObject:
    """Return what tells a model from others."""
    return {"name": bundle.card.name, "fingerprint": bundle.fingerprint}
