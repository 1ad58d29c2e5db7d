"""The command line: parse, one call, print. The only place that prints and exits."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from indexes.errors import StoreError
from retrieval.errors import GalleryError, PictureError, RetrievalError
from retrieval.names import safe_name
from retrieval.settings import POOL, find_store

if TYPE_CHECKING:
    from retrieval.dataset import Described
    from retrieval.engine import Engine, Result
    from retrieval.network import Step
    from retrieval.report import PairFiles, Shown

out = Console(highlight=False, soft_wrap=False)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class _Commands(TyperGroup):
    """Turns the project's errors into one sentence and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (RetrievalError, StoreError) as error:
            _complain(str(error))
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            _complain("interrupted; what was committed is kept, and the same command goes on from there")
            raise typer.Exit(130) from error


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Find the pictures in your folders that look like this one, and see why.",
)

Store = Annotated[
    Path | None,
    typer.Option(
        "--store",
        envvar="RETRIEVE_STORE",
        help="The store's folder. [default: the nearest .retrieve from here upwards]",
        show_default=False,
    ),
]
Model = Annotated[
    str | None, typer.Option("--model", help="A model's name or a bundle's folder. [default: the store's own]")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@app.command()
def index(
    galleries: Annotated[
        list[Path] | None,
        typer.Argument(metavar="GALLERY…", help="Folders of pictures. [default: all that the store knows]"),
    ] = None,
    store: Store = None,
    model: Model = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Take folders of pictures into the store, or bring it up to date with them.

    Unchanged files are skipped, renamed and copied ones are not embedded again, vanished ones leave the results.
    The parent folder's name becomes a picture's label.

    Example: `retrieve index ~/Pictures /mnt/archive`
    """
    from retrieval.engine import Engine
    from retrieval.indexing import count_files, resolve_gallery
    from retrieval.progress import Bar

    for gallery in galleries or ():
        resolve_gallery(gallery)  # a wrong name makes no store
    with _prepared_steps() as on_step:
        engine = Engine.create(_store(store), model, device, on_step)
        engine.load()
    with Bar(err, "Indexing") as progress:
        report = engine.index(
            *(galleries or ()),
            advance=progress.advance,
            on_folders=lambda folders: progress.start(lambda: count_files(folders)),
        )
    engine.close()
    if as_json:
        from retrieval.answers import index_json

        _print_json(index_json(report))
    else:
        from retrieval.tables import index_lines

        out.print(index_lines(report))


@app.command()
def query(
    pictures: Annotated[list[str], typer.Argument(metavar="PICTURE…", help="Pictures to ask with; - reads one.")],
    top: Annotated[int, typer.Option("--top", "-k", min=1, help="How many hits to show.")] = 5,
    label: Annotated[str | None, typer.Option(help="Only hits with this label.")] = None,
    min_similarity: Annotated[float, typer.Option(min=0, max=1, help="Only hits at least this similar.")] = 0.0,
    explain: Annotated[bool, typer.Option("--explain/--no-explain", help="Make heatmaps of the hits.")] = True,
    folder: Annotated[Path | None, typer.Option("--out", help="A folder for overlays and a contact sheet.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="A file for a self-contained page.")] = None,
    pool: Annotated[int, typer.Option(min=1, help="How many candidates the head rescores.")] = POOL,
    store: Store = None,
    model: Model = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Find the indexed pictures that are most similar to a picture, and why.

    Examples: `retrieve query photo.jpg --top 5 --html why.html`, `curl -s URL | retrieve query -`
    """
    if top > pool:
        raise typer.BadParameter(f"--top {top} is more than the pool of {pool}: raise --pool with it")
    if not explain and (folder or html):
        raise typer.BadParameter("--out and --html show explanations: leave out --no-explain")
    from retrieval.engine import Engine

    started = time.perf_counter()
    with _prepared_steps() as on_step:
        engine = Engine.open(_store(store), model, device, on_step)
        engine.load()
    load = time.perf_counter() - started
    shown: list[Shown] = []
    failed = False
    for number, name in enumerate(pictures, 1):
        try:
            source = sys.stdin.buffer.read() if name == "-" else Path(name)
            result = engine.search(source, top, pool, label, min_similarity, explain)
        except PictureError as error:
            _complain(str(error.named("standard input") if name == "-" else error))
            failed = True
            continue
        if number == 1:
            result.seconds["load"] += load
        place = folder / f"{number:02}" if folder and len(pictures) > 1 else folder
        seen = _report_query(name, source, result, engine, place, bool(html), as_json)
        shown += [seen] if seen else []
    if html and shown:
        _write_page(html, shown, quiet=as_json)
    engine.close()
    if failed:
        raise typer.Exit(1)


@app.command()
def explain(
    a: Annotated[Path, typer.Argument(help="A picture.")],
    b: Annotated[Path, typer.Argument(help="The picture to compare it with.")],
    folder: Annotated[Path, typer.Option("--out", help="A folder for overlays and a contact sheet.")] = Path(
        "explanation"
    ),
    model: Annotated[str, typer.Option("--model", help="A model's name or a bundle's folder.")] = "default",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Say how similar two pictures are, and show why. Needs no store.

    Example: `retrieve explain cat.jpg lynx.jpg --out why`
    """
    from retrieval.answers import pair_json
    from retrieval.bundle import find_bundle
    from retrieval.compare import Comparer
    from retrieval.report import write_pair

    with _prepared_steps() as on_step:
        comparer = Comparer(find_bundle(model), device, on_step)
        comparer.load()
    explanation = comparer.explain(a, b)
    files = write_pair(a, b, explanation, folder)
    if as_json:
        _print_json(pair_json(a, b, comparer.bundle, explanation, files))
        return
    from retrieval.tables import pair_lines

    out.print(pair_lines(explanation, folder))


@app.command()
def evaluate(
    datasets: Annotated[list[Path], typer.Argument(metavar="DATASET…", help="Folders of class folders.")],
    model: Annotated[str, typer.Option("--model", help="A model's name or a bundle's folder.")] = "default",
    seed: Annotated[int, typer.Option(help="Decides which pairs are drawn.")] = 0,
    pool: Annotated[int, typer.Option(min=100, help="How many candidates the head rescores.")] = POOL,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure a model on labelled pictures: retrieval leaving one out, verdicts on pairs, calibration.

    Example: `retrieve evaluate ~/sets/flowers`
    """
    from retrieval.bundle import find_bundle
    from retrieval.evaluate import evaluate as measure
    from retrieval.tables import evaluation_table

    head = find_bundle(model).head
    results = {}
    for dataset in datasets:
        described = _described(dataset, model, device)
        result = measure(head, *described.labelled(), pool, seed)
        results[str(dataset)] = asdict(result)
        if not as_json:
            out.print(evaluation_table(safe_name(dataset), result))
        for path, reason in described.failures:
            _complain(f"{path} {reason}: left out")
    if as_json:
        _print_json({"model": model, "seed": seed, "pool": pool, "datasets": results})


@app.command()
def status(
    failures: Annotated[bool, typer.Option("--failures", help="List every file that failed.")] = False,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Show what the store holds: galleries, pictures, files that failed and why, and its model.

    Example: `retrieve status --failures`
    """
    from indexes.catalogue import Catalogue
    from retrieval.answers import status_json

    catalogue = Catalogue(_store(store))
    if as_json:
        _print_json(status_json(catalogue))
        return
    from retrieval.tables import status_lines

    out.print(status_lines(catalogue, most_failures=sys.maxsize if failures else 20))


@app.command()
def remove(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH…", help="Pictures or folders; may be gone already.")],
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Take pictures or whole folders out of the store. The files themselves stay.

    Example: `retrieve remove ~/Pictures/private`
    """
    from indexes.catalogue import Catalogue

    catalogue = Catalogue(_store(store))
    # A gallery's own links are kept in its pictures' paths, those that lead to the gallery are not.
    counts = {
        str(path): sum(catalogue.remove(os.fsencode(name)) for name in {os.path.abspath(path), os.path.realpath(path)})
        for path in paths
    }
    if as_json:
        _print_json({"removed": counts})
    else:
        out.print(Text(f"{sum(counts.values())} pictures removed from the store"))
    absent = [path for path, count in counts.items() if count == 0]
    if absent:
        raise GalleryError(f"{absent[0]} is not in the store: `retrieve status` shows what is")


@app.command()
def models(
    folders: Annotated[list[Path] | None, typer.Argument(metavar="BUNDLE…", help="Folders of more bundles.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the models: input size, what they were trained on, and their measured quality.

    Example: `retrieve models`
    """
    from retrieval.bundle import find_bundle, shipped_bundles
    from retrieval.tables import models_table

    bundles = [*shipped_bundles(), *(find_bundle(str(folder)) for folder in folders or ())]
    if as_json:
        cards = [asdict(bundle.card) | {"fingerprint": bundle.fingerprint} for bundle in bundles]
        _print_json({"models": cards})
    else:
        out.print(models_table(bundles))


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--out", help="Where the demo's files go.")] = Path("demo"),
    device: Device = "auto",
) -> None:
    """Make a small gallery of real photographs, index it, ask it with a new view of one, and write the page.

    Example: `retrieve demo --out demo`
    """
    from retrieval.demo import make_gallery

    gallery, asked = make_gallery(folder)
    out.print(Text(f"A gallery of photographs is in {safe_name(gallery)}; the question is {safe_name(asked)}"))
    index([gallery], store=folder / ".retrieve", device=device)
    query(
        [str(asked)], store=folder / ".retrieve", device=device, folder=folder / "results", html=folder / "results.html"
    )


def main() -> None:
    """The entry point `retrieve`."""
    app()


def _store(chosen: Path | None) -> Path:
    return chosen if chosen is not None else find_store(Path.cwd())


def _report_query(
    name: str, source: Path | bytes, result: Result, engine: Engine, folder: Path | None, html: bool, as_json: bool
) -> Shown | None:
    """Write a query's files, then print its answer; what the page needs of it."""
    shown: Shown | None = None
    files: dict[int, PairFiles] = {}
    started = time.perf_counter()
    if folder or html:
        from retrieval.report import prepare, write_overlays

        shown = prepare(source, name, result.hits)
        files = write_overlays(shown, folder) if folder else {}
    seconds = result.seconds | ({"render": time.perf_counter() - started} if shown else {})
    seconds["total"] = sum(seconds.values())
    if as_json:
        from retrieval.answers import query_json

        _print_json(query_json(name, engine, result, files, seconds))
    else:
        from retrieval.tables import hits_table, seconds_line

        out.print(hits_table(safe_name(name), result.hits), seconds_line(seconds))
        if folder:
            out.print(Text(f"contact sheet: {safe_name(folder / 'contact-sheet.png')}"))
    return shown


def _write_page(file: Path, shown: list[Shown], quiet: bool) -> None:
    from retrieval.report import write_page

    write_page(shown, file)
    if not quiet:
        out.print(Text(f"page: {safe_name(file)}"))


def _described(dataset: Path, model: str, device: str) -> Described:
    """A data set's descriptors, with progress."""
    from retrieval.dataset import describe
    from retrieval.indexing import count_files
    from retrieval.progress import Bar

    with _prepared_steps() as on_step, Bar(err, f"Embedding {safe_name(dataset.name)}") as progress:
        return describe(
            dataset,
            model,
            device,
            on_step,
            progress.advance,
            lambda folders: progress.start(lambda: count_files(folders)),
        )


@contextmanager
def _prepared_steps() -> Iterator[Step]:
    """Say in one line that a model is being prepared, with a bar of its steps."""
    from retrieval.network import PREPARE_STEPS
    from retrieval.progress import Bar

    with Bar(err, "Preparing the model (first use only)") as progress:

        def on_step(step: str) -> None:
            if step == PREPARE_STEPS[0]:
                if not err.is_terminal:
                    err.print("Preparing the model for this machine (first use only)")
                progress.start(lambda: len(PREPARE_STEPS))
            else:
                progress.advance(1)

        yield on_step


def _complain(sentence: str) -> None:
    err.print(Text.assemble(("error: ", "bold red"), safe_name(sentence)))


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
