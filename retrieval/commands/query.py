"""Commands that ask: what looks like this picture, and why."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from retrieval.commands.shared.arguments import check_outputs, store_folder
from retrieval.commands.shared.console import print_json, print_message, print_saved, stderr, stdout
from retrieval.commands.shared.options import (
    CorrespondOption,
    DeviceOption,
    HtmlOption,
    JsonOption,
    MethodOption,
    ModelOption,
    NamedModelOption,
    SizeOption,
    StoreOption,
    VerifyOption,
)
from retrieval.common.errors import PictureError
from retrieval.common.output_names import CONTACT_SHEET
from retrieval.common.settings import CONFIDENCE, DEFAULT_METHOD, DEFAULT_MODEL, POOL, Device, ExplainOptions
from retrieval.common.text import safe_name
from retrieval.sources.location import is_address

if TYPE_CHECKING:
    from retrieval.engine import Engine
    from retrieval.model.preprocessing import Source
    from retrieval.rendering.presentation import PairFiles, ResultView
    from retrieval.store.filters import Selection
    from retrieval.store.query import PreparedQuery, QueryResult

_QUERY_BATCH = 128  # query pictures of one search
_WIDE = 100  # columns from which a table has room for bars beside the paths


def query(
    pictures: Annotated[list[str], typer.Argument(metavar="PICTURE…", help="Pictures to ask with; - reads one.")],
    top: Annotated[int, typer.Option("--top", "-k", min=1, help="How many hits to show.")] = 5,
    label: Annotated[str | None, typer.Option(help="Only hits with this label.")] = None,
    folder: Annotated[str | None, typer.Option("--folder", help="Only hits below this folder.")] = None,
    since: Annotated[str | None, typer.Option(help="Only hits taken from this day on, such as 2024-05.")] = None,
    until: Annotated[str | None, typer.Option(help="Only hits taken until the end of this day.")] = None,
    min_similarity: Annotated[float, typer.Option(min=0, max=1, help="Only hits at least this similar.")] = 0.0,
    confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Say so where no hit is at least this similar.")
    ] = CONFIDENCE,
    explain: Annotated[bool, typer.Option("--explain/--no-explain", help="Make heatmaps of the hits.")] = True,
    out: Annotated[Path | None, typer.Option("--out", help="A folder for overlays and a contact sheet.")] = None,
    html: HtmlOption = None,
    method: MethodOption = DEFAULT_METHOD,
    size: SizeOption = None,
    verify: VerifyOption = False,
    correspond: CorrespondOption = False,
    pool: Annotated[int, typer.Option(min=1, help="How many candidates the head rescores.")] = POOL,
    store: StoreOption = None,
    model: ModelOption = None,
    device: DeviceOption = Device.auto,
    as_json: JsonOption = False,
) -> None:
    """Find the indexed pictures that are most similar to a picture, and why.

    Examples: `retrieve query photo.jpg --top 5 --html why.html`, `curl -s URL | retrieve query -`
    """
    if top > pool:
        raise typer.BadParameter(f"--top {top} is more than the pool of {pool}: raise --pool with it")
    if not explain and (out or html):
        raise typer.BadParameter("--out and --html show explanations: leave out --no-explain")
    check_outputs(out, html)
    how = ExplainOptions(method, size, verify, correspond)
    from retrieval.commands.shared.progress import ConsoleProgress
    from retrieval.engine import Engine
    from retrieval.store.filters import make_selection

    among = make_selection(label, folder, since, until)
    started = time.perf_counter()
    shown: list[ResultView] = []
    failed = False
    with Engine.open(store_folder(store), model, device, ConsoleProgress()) as engine:
        engine.load()
        load = time.perf_counter() - started
        if label is not None and label not in (labels := engine.catalogue.pictures.labels()):
            stderr.print(
                Text(f"no picture has the label {safe_name(label)}; there are: {safe_name(', '.join(labels))}")
            )
        for number, (name, source, question) in enumerate(_batched_queries(engine, pictures, pool, among), 1):
            if isinstance(question, PictureError):
                print_message(str(question.with_name("standard input") if name == "-" else question))
                failed = True
                continue
            result = engine.queries.finish(question, top, min_similarity, explain, how)
            result.seconds["load"] += load
            load = 0.0  # told with the first answer
            place = out / f"{number:02}" if out and len(pictures) > 1 else out
            seen = _report_query(name, source, result, engine, confidence, place, bool(html), as_json)
            shown += [seen] if seen else []
        if html and shown:
            _write_page(html, shown, quiet=as_json)
    if failed:
        raise typer.Exit(1)


def _batched_queries(
    engine: Engine, names: list[str], pool: int, selection: Selection
) -> Iterator[tuple[str, Source, PreparedQuery | PictureError]]:
    """The pictures with their candidates, many at once, as one search is quicker than one for each."""
    for start in range(0, len(names), _QUERY_BATCH):
        some = names[start : start + _QUERY_BATCH]
        sources = [_fetch_source(engine, name) for name in some]
        yield from zip(some, sources, engine.queries.prepare(sources, pool, selection), strict=True)


def _fetch_source(engine: Engine, name: str) -> Source:
    """What a picture is read from; one from elsewhere is fetched once."""
    if name == "-":
        return _read_stdin()
    from retrieval.sources.files import bytes_at

    place = _find_tar_member(engine, name) or name
    try:
        return bytes_at(place) if is_address(place) else place
    except PictureError:
        return place  # and is told where it is read


def _find_tar_member(engine: Engine, name: str) -> str | None:
    """Where the member of an indexed tar lies that is shown by this name; None where it is none."""
    if ".tar/" not in name.lower():
        return None
    from retrieval.sources.location import parse_location
    from retrieval.store.maintenance.removal import tar_members_named

    return next((os.fspath(parse_location(path)) for path in tar_members_named(engine.catalogue, name)), None)


def _read_stdin() -> bytes:
    return sys.stdin.buffer.read() if sys.stdin else b""  # Python has none where it was closed


def _report_query(
    name: str,
    source: Source,
    result: QueryResult,
    engine: Engine,
    confidence: float,
    folder: Path | None,
    html: bool,
    as_json: bool,
) -> ResultView | None:
    """Write a query's files, then print its answer; what the page needs of it."""
    shown: ResultView | None = None
    files: dict[int, PairFiles] = {}
    title = "standard input" if name == "-" else name
    started = time.perf_counter()
    if folder or html:
        from retrieval.rendering.output_files import write_overlays
        from retrieval.rendering.presentation import build_result_view

        shown = build_result_view(source, title, result.hits, confidence)
        files = write_overlays(shown, folder) if folder else {}
    seconds = result.seconds | ({"render": time.perf_counter() - started} if shown else {})
    seconds["total"] = sum(seconds.values())
    if as_json:
        from retrieval.commands.output.results_json import query_json

        print_json(query_json(name, engine, result, files, seconds, confidence))
    else:
        from retrieval.commands.output.query_table import hits_table, seconds_line
        from retrieval.rendering.presentation import low_confidence_note

        stdout.print(hits_table(safe_name(title), result.hits, bars=stdout.width >= _WIDE))
        if doubt := low_confidence_note([hit.similarity for hit in result.hits], confidence):
            stdout.print(Text(doubt, style="yellow"))
        stdout.print(seconds_line(seconds))
        if folder:
            print_saved("contact sheet", folder / CONTACT_SHEET)
    return shown


def _write_page(file: Path, views: list[ResultView], quiet: bool) -> None:
    from retrieval.rendering.output_files import write_hits_page

    write_hits_page(views, file)
    if not quiet:
        print_saved("page", file)


def explain(
    a: Annotated[str, typer.Argument(help="A picture.")],
    b: Annotated[str, typer.Argument(help="The picture to compare it with.")],
    out: Annotated[Path, typer.Option("--out", help="A folder for overlays and a contact sheet.")] = Path(
        "explanation"
    ),
    method: MethodOption = DEFAULT_METHOD,
    size: SizeOption = None,
    verify: VerifyOption = False,
    correspond: CorrespondOption = False,
    model: NamedModelOption = DEFAULT_MODEL,
    device: DeviceOption = Device.auto,
    as_json: JsonOption = False,
) -> None:
    """Say how similar two pictures are, and show why. Needs no store.

    Example: `retrieve explain cat.jpg lynx.jpg --out why`
    """
    check_outputs(out)
    from retrieval.commands.output.results_json import pair_json
    from retrieval.commands.shared.progress import ConsoleProgress
    from retrieval.explain.pair_explainer import PairExplainer
    from retrieval.model.bundle import find_bundle
    from retrieval.model.encoder import Encoder
    from retrieval.rendering.output_files import write_pair

    comparer = Encoder(find_bundle(model), device, ConsoleProgress())
    comparer.load()
    explanation = PairExplainer(comparer, comparer.bundle.head).explain(
        a, b, ExplainOptions(method, size, verify, correspond)
    )
    files = write_pair(a, b, explanation, out)
    if as_json:
        print_json(pair_json(a, b, comparer.bundle, explanation, files))
        return
    from retrieval.commands.output.query_table import pair_lines

    stdout.print(pair_lines(explanation, out))
