"""The commands that search for similar pictures and explain a pair."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from retrieval.commands.shared.arguments import check_outputs, store_folder
from retrieval.commands.shared.console import print_message, print_saved, report, stderr, stdout
from retrieval.commands.shared.options import (
    CorrespondOption,
    DeviceOption,
    FolderOption,
    HtmlOption,
    JsonOption,
    LabelOption,
    MethodOption,
    ModelOption,
    NamedModelOption,
    SinceOption,
    SizeOption,
    StoreOption,
    UntilOption,
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

_QUERY_BATCH = 128  # pictures of one search
_WIDE = 100  # columns from which a table has room for bars beside the paths


def query(
    pictures: Annotated[
        list[str], typer.Argument(metavar="PICTURE…", help="Pictures to search for; - reads one from standard input.")
    ],
    top: Annotated[int, typer.Option("--top", "-k", min=1, help="The number of hits.")] = 5,
    label: LabelOption = None,
    folder: FolderOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    min_similarity: Annotated[float, typer.Option(min=0, max=1, help="Only hits at least this similar.")] = 0.0,
    confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Warn if no hit is at least this similar.")
    ] = CONFIDENCE,
    explain: Annotated[bool, typer.Option("--explain/--no-explain", help="Make heatmaps of the hits.")] = True,
    out: Annotated[Path | None, typer.Option("--out", help="A folder for overlays and a contact sheet.")] = None,
    html: HtmlOption = None,
    method: MethodOption = DEFAULT_METHOD,
    size: SizeOption = None,
    verify: VerifyOption = False,
    correspond: CorrespondOption = False,
    pool: Annotated[int, typer.Option(min=1, help="The number of candidates that the head rescores.")] = POOL,
    store: StoreOption = None,
    model: ModelOption = None,
    device: DeviceOption = Device.auto,
    as_json: JsonOption = False,
) -> None:
    """Find the indexed pictures that are most similar to a picture, and show why.

    Examples: `retrieve query photo.jpg --top 5 --html why.html`, `curl -s URL | retrieve query -`
    """
    if top > pool:
        raise typer.BadParameter(f"--top {top} is more than the pool of {pool}: raise --pool with it")
    if not explain and (out or html):
        raise typer.BadParameter("--out and --html show explanations: leave out --no-explain")
    check_outputs(out, html)
    options = ExplainOptions(method, size, verify, correspond)
    from retrieval.commands.shared.progress import ConsoleProgress
    from retrieval.engine import Engine
    from retrieval.store.filters import make_selection

    selection = make_selection(label, folder, since, until)
    started = time.perf_counter()
    failed = False
    with Engine.open(store_folder(store), model, device, ConsoleProgress()) as engine:
        engine.load()
        load = time.perf_counter() - started
        if label is not None and label not in (labels := engine.catalogue.pictures.labels()):
            stderr.print(
                Text(f"no picture has the label {safe_name(label)}; there are: {safe_name(', '.join(labels))}")
            )
        answers = _Answers(engine, confidence, bool(html), as_json)
        for number, (name, source, prepared) in enumerate(_batched_queries(engine, pictures, pool, selection), 1):
            if isinstance(prepared, PictureError):
                print_message(str(prepared.with_name("standard input") if name == "-" else prepared))
                failed = True
                continue
            result = engine.queries.finish(prepared, top, min_similarity, explain, options)
            result.seconds["load"] += load
            load = 0.0  # reported with the first answer
            answers.add(name, source, result, out / f"{number:02}" if out and len(pictures) > 1 else out)
        if html and answers.views:
            from retrieval.rendering.output_files import write_hits_page

            write_hits_page(answers.views, html)
            if not as_json:
                print_saved("page", html)
    if failed:
        raise typer.Exit(1)


def _batched_queries(
    engine: Engine, names: list[str], pool: int, selection: Selection
) -> Iterator[tuple[str, Source, PreparedQuery | PictureError]]:
    """Yield the pictures with their candidates, searched in batches, as one search is quicker than many."""
    for start in range(0, len(names), _QUERY_BATCH):
        batch = names[start : start + _QUERY_BATCH]
        sources = [_fetch_source(engine, name) for name in batch]
        yield from zip(batch, sources, engine.queries.prepare(sources, pool, selection), strict=True)


def _fetch_source(engine: Engine, name: str) -> Source:
    """Return what a picture is read from; a remote one is fetched once."""
    if name == "-":
        return _read_stdin()
    from retrieval.sources.files import bytes_at

    location = _find_tar_member(engine, name) or name
    try:
        return bytes_at(location) if is_address(location) else location
    except PictureError:
        return location  # the error is reported when it is read


def _find_tar_member(engine: Engine, name: str) -> str | None:
    """Return the location of the member of an indexed tar that is displayed by this name; None if there is none."""
    if ".tar/" not in name.lower():
        return None
    from retrieval.sources.location import parse_location
    from retrieval.store.maintenance.removal import tar_members_named

    return next((os.fspath(parse_location(path)) for path in tar_members_named(engine.catalogue, name)), None)


def _read_stdin() -> bytes:
    return sys.stdin.buffer.read() if sys.stdin else b""  # None if it was closed


@dataclass
class _Answers:
    """Prints the answers of queries, and collects what a page shows of them if `has_page`."""

    engine: Engine
    confidence: float
    has_page: bool
    as_json: bool
    views: list[ResultView] = field(default_factory=list)

    def add(self, name: str, source: Source, result: QueryResult, folder: Path | None) -> None:
        """Write the overlays of a query into the folder, if one is given, then print its answer."""
        from retrieval.commands.output.results_json import query_json

        files: dict[int, PairFiles] = {}
        title = "standard input" if name == "-" else name
        seconds = dict(result.seconds)
        if folder or self.has_page:
            from retrieval.rendering.output_files import write_overlays
            from retrieval.rendering.presentation import build_result_view

            started = time.perf_counter()
            view = build_result_view(source, title, result.hits, self.confidence)
            files = write_overlays(view, folder) if folder else {}
            seconds["render"] = time.perf_counter() - started
            self.views += [view] if self.has_page else []
        seconds["total"] = sum(seconds.values())
        report(
            self.as_json,
            lambda: query_json(name, self.engine, result, files, seconds, self.confidence),
            lambda: self._lines(title, result, seconds),
        )
        if folder and not self.as_json:
            print_saved("contact sheet", folder / CONTACT_SHEET)

    def _lines(self, title: str, result: QueryResult, seconds: dict[str, float]) -> RenderableType:
        from retrieval.commands.output.query_table import hits_table, seconds_line
        from retrieval.rendering.presentation import low_confidence_note

        note = low_confidence_note([hit.similarity for hit in result.hits], self.confidence)
        return Group(
            hits_table(safe_name(title), result.hits, bars=stdout.width >= _WIDE),
            *([Text(note, style="yellow")] if note else []),
            seconds_line(seconds),
        )


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
    """Show how similar two pictures are, and why. Needs no store.

    Example: `retrieve explain cat.jpg lynx.jpg --out why`
    """
    check_outputs(out)
    from retrieval.commands.output.query_table import pair_lines
    from retrieval.commands.output.results_json import pair_json
    from retrieval.commands.shared.progress import ConsoleProgress
    from retrieval.explain.pair_explainer import PairExplainer
    from retrieval.model.bundle import find_bundle
    from retrieval.model.encoder import Encoder
    from retrieval.rendering.output_files import write_pair

    encoder = Encoder(find_bundle(model), device, ConsoleProgress())
    encoder.load()
    explainer = PairExplainer(encoder, encoder.bundle.head)
    explanation = explainer.explain(a, b, ExplainOptions(method, size, verify, correspond))
    files = write_pair(a, b, explanation, out)
    report(
        as_json,
        lambda: pair_json(a, b, encoder.bundle, explanation, files),
        lambda: pair_lines(explanation, out),
    )
