"""The commands that search for similar pictures and explain a pair."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, BadParameter, Exit, Option

from retrieval.commands.output.preview import choose_protocol, show_picture
from retrieval.commands.shared import options
from retrieval.commands.shared.arguments import check_outputs, name_mistake, path_ending, store_folder
from retrieval.commands.shared.console import print_message, print_saved, report
from retrieval.common.atomic_files import write_atomically
from retrieval.common.errors import PictureError
from retrieval.common.output_names import CONTACT_SHEET
from retrieval.common.parallel import batched
from retrieval.common.settings import DEFAULT_METHOD, DEFAULT_MODEL, POOL, Device, ExplainOptions
from retrieval.sources.location import display_location, is_address, parse_location

if TYPE_CHECKING:
    from indexes.catalogue.catalogue import Catalogue
    from retrieval.model.encoder import Encoder
    from retrieval.model.preprocessing import Source
    from retrieval.rendering.presentation import PairFiles, ResultView
    from retrieval.store.filters import Selection
    from retrieval.store.opened_store import OpenedStore
    from retrieval.store.query import PreparedQuery, Queries, QueryResult
    from retrieval.store.similarity import StoreSimilarity

_QUERY_BATCH = 128  # pictures of one search
DIFFERENT = 3
"""The exit code of `explain --exit-code` if the pictures are different: 1 and 2 are errors."""


def query(
    pictures: Annotated[
        list[str], Argument(metavar="PICTURE…", help="Pictures to search for; - reads one from standard input.")
    ],
    top: Annotated[int, Option("--top", "-k", min=1, help="The number of hits.")] = 5,
    label: options.LabelOption = None,
    folder: options.FolderOption = None,
    since: options.SinceOption = None,
    until: options.UntilOption = None,
    min_similarity: Annotated[float, Option(min=0, max=1, help="Only hits at least this similar.")] = 0.0,
    confidence: Annotated[
        float | None,
        Option(
            min=0,
            max=1,
            help="Warn if no hit shows the same kind with at least this probability; in a store without statistics, if"
            " none is at least this similar. [default: warn only if nothing looks like the picture]",
        ),
    ] = None,
    coverage: Annotated[
        float | None,
        Option(
            min=0.01,
            max=0.999,
            help="Show, in place of --top, as many hits as are needed so that one shows the same kind with this"
            " probability, by the labels of a store after `retrieve calibrate`.",
        ),
    ] = None,
    collapse: Annotated[
        bool | None,
        Option(
            "--collapse/--no-collapse",
            help="Put near-duplicates under the best of them, or show every copy. [default: equal files are one hit]",
            show_default=False,
        ),
    ] = None,
    explain: Annotated[bool, Option("--explain/--no-explain", help="Make heatmaps of the hits.")] = True,
    out: Annotated[Path | None, Option(help="A folder for overlays and a contact sheet.")] = None,
    html: options.HtmlOption = None,
    method: options.MethodOption = DEFAULT_METHOD,
    size: options.SizeOption = None,
    verify: options.VerifyOption = False,
    correspond: options.CorrespondOption = False,
    pool: Annotated[int, Option(min=1, help="The number of candidates that the head rescores.")] = POOL,
    preview: options.PreviewOption = options.Preview.none,
    paths: options.PathsOption = False,
    null: options.NullOption = False,
    store: options.StoreOption = None,
    model: options.ModelOption = None,
    device: options.DeviceOption = Device.auto,
    as_json: Annotated[bool, Option("--json", help="Print JSON Lines: one object for each picture.")] = False,
) -> None:
    """Find the indexed pictures that are most similar to a picture, and show why.

    Examples: `retrieve query photo.jpg --top 5 --html why.html`, `retrieve query photo.jpg --confidence 0.8`,
    `retrieve query photo.jpg --coverage 0.9`, `curl -s URL | retrieve query -`,
    `retrieve query photo.jpg -0 | xargs -0 cp -t similar`
    """
    if top > pool:
        raise BadParameter(f"--top {top} is more than the pool of {pool}: raise --pool with it")
    if not explain and (out or html):
        raise BadParameter("--out and --html show explanations: leave out --no-explain")
    check_outputs(out, html)
    ending = path_ending(paths, null, as_json)
    shown = choose_protocol(preview if explain and not as_json and ending is None else options.Preview.none)
    explain = explain and (ending is None or out is not None or html is not None)
    if len(pictures) == 1:
        _leave_cores_to_network()  # before NumPy is imported
    from retrieval.store.emptiness import SearchFilters, explain_nothing
    from retrieval.store.filters import make_selection

    if coverage is not None and (label or folder or since or until or min_similarity or collapse or pool != POOL):
        raise BadParameter(
            "--coverage is measured on the whole store: leave out --label, --folder, --since, --until,"
            " --min-similarity, --collapse and --pool"
        )
    filters = SearchFilters(label, folder, since, until)
    make_selection(since=since, until=until)  # a wrong date is said at once
    how, failed = ExplainOptions(method, size, verify, correspond), False
    with closing(_open_store(store_folder(store), model, device, how if explain else None)) as opened:
        from retrieval.store.query import Queries

        selection = filters.select(opened.catalogue)
        queries, rule = Queries(opened), None if coverage is None else opened.coverage_rule(coverage)
        answers = _Answers(opened, confidence, bool(html), shown, as_json, ending)
        all_prepared = _batched_queries(queries, opened.catalogue, pictures, pool, selection)
        for number, (name, source, prepared) in enumerate(all_prepared, 1):
            if isinstance(prepared, PictureError):
                error = prepared.with_name("standard input") if name == "-" else name_mistake(name, prepared)
                print_message(str(error))
                failed = True
                continue
            result = queries.finish(prepared, top, min_similarity, explain, how, rule, collapse)
            if not result.hits:
                result = replace(
                    result, nothing=explain_nothing(opened.catalogue, filters, min_similarity, result.best)
                )
            answers.add(name, source, result, out / f"{number:02}" if out and len(pictures) > 1 else out)
        if html and answers.views:
            from retrieval.rendering.html import render_hits_page

            write_atomically(html, render_hits_page(answers.views))
            if answers.is_table:
                print_saved("page", html)
    if failed:
        raise Exit(1)


def _leave_cores_to_network() -> None:
    """Let NumPy use a quarter of the cores: for one query, waking more threads takes longer than its small products."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // 4)))


def _open_store(folder: Path, model: str | None, device: str, how: ExplainOptions | None) -> OpenedStore:
    """Open a store; its network is opened on a thread while the rest is imported, for heatmaps too if `how` says so."""
    from retrieval.commands.shared.progress import ConsoleProgress
    from retrieval.store.store_model import open_catalogue

    catalogue, encoder = open_catalogue(folder, model, device, ConsoleProgress())
    encoder.load_ahead(how is not None, how.size if how else None)
    from retrieval.store.opened_store import OpenedStore

    return OpenedStore(catalogue, encoder)


def _batched_queries(
    queries: Queries, catalogue: Catalogue, names: list[str], pool: int, selection: Selection
) -> Iterator[tuple[str, Source, PreparedQuery | PictureError]]:
    """Yield the pictures with their candidates, searched in batches, as one search is quicker than many."""
    for batch in batched(names, _QUERY_BATCH):
        sources = [_fetch_source(catalogue, name) for name in batch]
        yield from zip(batch, sources, queries.prepare(sources, pool, selection), strict=True)


def _fetch_source(catalogue: Catalogue, name: str) -> Source:
    """Return what a picture is read from; a remote one, or a tar's member by its displayed name, is fetched once."""
    if name == "-":
        return sys.stdin.buffer.read() if sys.stdin else b""  # None if it was closed
    from retrieval.sources.files import bytes_at
    from retrieval.store.maintenance.removal import tar_members_named

    members = tar_members_named(catalogue, name)
    location = next((os.fspath(parse_location(member)) for member in members), name)
    try:
        return bytes_at(location) if is_address(location) else location
    except PictureError:
        return location  # the error is reported when it is read


@dataclass
class _Answers:
    """Prints the answers of queries, and collects what a page shows of them if `has_page`.

    `path_ending` is for paths only, as in `report`.
    """

    store: OpenedStore
    confidence: float | None
    has_page: bool
    preview: options.Preview
    as_json: bool
    path_ending: bytes | None
    views: list[ResultView] = field(default_factory=list)

    @property
    def is_table(self) -> bool:
        """Whether people read the answers."""
        return not self.as_json and self.path_ending is None

    def add(self, name: str, source: Source, result: QueryResult, folder: Path | None) -> None:
        """Write the overlays of a query into the folder, if one is given, then print its answer."""
        from retrieval.commands.output.query import query_json, query_lines

        files: dict[int, PairFiles] = {}
        title = "standard input" if name == "-" else name
        if folder or self.has_page or self.preview is not options.Preview.none:
            from retrieval.rendering.output_files import write_overlays
            from retrieval.rendering.presentation import build_result_view

            started = time.perf_counter()
            view = build_result_view(source, title, result.hits, self.confidence)
            files = write_overlays(view, folder) if folder else {}
            result.seconds["render"] = time.perf_counter() - started
            self.views += [view] if self.has_page else []
        result.seconds["total"] = sum(result.seconds.values())
        if result.nothing and not self.is_table:
            print_message(result.nothing, "note")
        report(
            self.as_json,
            lambda: query_json(name, self.store, result, files, self.confidence),
            lambda: query_lines(title, self.store, result, self.confidence),
            paths=(display_location(hit.path) for hit in result.hits),
            path_ending=self.path_ending,
        )
        if self.preview is not options.Preview.none:
            from retrieval.rendering.contact_sheet import draw_contact_sheet

            show_picture(draw_contact_sheet(view), self.preview)
        if folder and self.is_table:
            print_saved("contact sheet", folder / CONTACT_SHEET)


def explain(
    a: Annotated[str, Argument(help="A picture.")],
    b: Annotated[str, Argument(help="The picture to compare it with.")],
    out: Annotated[Path, Option(help="A folder for overlays and a contact sheet.")] = Path("explanation"),
    method: options.MethodOption = DEFAULT_METHOD,
    size: options.SizeOption = None,
    verify: options.VerifyOption = False,
    correspond: options.CorrespondOption = False,
    preview: options.PreviewOption = options.Preview.none,
    exit_code: Annotated[
        bool, Option("--exit-code", help="End with 0 if they are similar, with 3 if they are different.")
    ] = False,
    store: Annotated[Path | None, Option(help="A store: the pair is judged by what is usual in its gallery.")] = None,
    model: Annotated[
        str | None, Option(help="A model's name or a bundle's folder. [default: the store's own, or default]")
    ] = None,
    device: options.DeviceOption = Device.auto,
    as_json: options.JsonOption = False,
) -> None:
    """Show how similar two pictures are, and why: by the model alone, or by what is usual in a store's gallery.

    Examples: `retrieve explain cat.jpg lynx.jpg --out why`, `retrieve explain a.jpg b.jpg --exit-code -q`,
    `retrieve explain a.jpg b.jpg --store ~/Pictures/.retrieve`
    """
    check_outputs(out)
    shown = choose_protocol(options.Preview.none if as_json else preview)
    from retrieval.commands.output.query import pair_json, pair_lines
    from retrieval.explain.pair_explainer import PairExplainer
    from retrieval.rendering.output_files import write_pair

    encoder, similarity = _open_judge(store, model, device)
    encoder.load()
    own, plain = similarity.head if similarity else encoder.bundle.head, encoder.bundle.head
    try:
        explanation = PairExplainer(encoder, own).explain(a, b, ExplainOptions(method, size, verify, correspond))
    except PictureError as error:
        raise name_mistake(b, name_mistake(a, error)) from error
    plain_distance = None
    if own is not plain:
        first, second = encoder.describe([encoder.decode(a), encoder.decode(b)])
        plain_distance = float(plain.descriptor_distances(first, second))
    files = write_pair(a, b, explanation, out)
    report(
        as_json,
        lambda: pair_json(a, b, encoder.bundle, explanation, files, similarity, plain_distance),
        lambda: pair_lines(explanation, out, similarity),
    )
    if shown is not options.Preview.none:
        from PIL import Image

        with Image.open(out / CONTACT_SHEET) as sheet:
            show_picture(sheet.convert("RGB"), shown)
    if exit_code and explanation.verdict == "different":
        raise Exit(DIFFERENT)


def _open_judge(store: Path | None, model: str | None, device: str) -> tuple[Encoder, StoreSimilarity | None]:
    """Return what describes a pair, and what judges it if not the model alone."""
    from retrieval.commands.shared.progress import ConsoleProgress

    if store is None:
        from retrieval.model.bundle import find_bundle
        from retrieval.model.encoder import Encoder

        return Encoder(find_bundle(model or DEFAULT_MODEL), device, ConsoleProgress()), None
    from retrieval.store.maintenance.calibration import shown_similarity
    from retrieval.store.store_model import open_catalogue

    catalogue, encoder = open_catalogue(store, model, device, ConsoleProgress())
    with closing(catalogue):
        return encoder, shown_similarity(catalogue, encoder.bundle)
