"""Commands on a store: fill it, see what it holds, set how it searches, take pictures out."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from retrieval.commands.shared.arguments import (
    check_index_address,
    check_outputs,
    check_ray_installed,
    parse_shard_option,
    store_folder,
)
from retrieval.commands.shared.console import print_json, print_saved, stdout
from retrieval.commands.shared.options import (
    DeviceOption,
    EngineOption,
    HtmlOption,
    IndexOption,
    JsonOption,
    ModelOption,
    SeedOption,
    ShardsOption,
    StoreOption,
    WorkersOption,
)
from retrieval.common.errors import GalleryError
from retrieval.common.settings import RECALL, Device, IndexingBackend


def index(
    galleries: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="GALLERY…",
            help="Folders of pictures, tars, .txt lists; also as s3://, gs://, https://. [default: all that are known]",
        ),
    ] = None,
    store: StoreOption = None,
    catalogue: Annotated[
        str | None,
        typer.Option(
            help="Where a new store keeps its catalogue: postgresql://user@host/database?schema=name. Give a password"
            " in PGPASSWORD or ~/.pgpass, or the whole address in RETRIEVE_CATALOGUE: it is not kept."
            " [default: the store's folder]",
            show_default=False,
        ),
    ] = None,
    model: ModelOption = None,
    device: DeviceOption = Device.auto,
    index_at: IndexOption = None,
    runs_on: EngineOption = IndexingBackend.local,
    workers: WorkersOption = None,
    shards: ShardsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take folders of pictures into the store, or bring it up to date with them.

    Unchanged files are skipped, renamed and copied ones are not embedded again, vanished ones leave the results.
    The parent folder's name becomes a picture's label.

    Example: `retrieve index ~/Pictures /mnt/archive`
    """
    from indexes.catalogue.database.database_url import URL_VARIABLE
    from indexes.catalogue.open_database import is_store
    from retrieval.commands.shared.progress import ConsoleProgress
    from retrieval.engine import NO_GALLERY, Engine
    from retrieval.sources.gallery import resolve_gallery

    shard = parse_shard_option(shards)
    if workers is not None and runs_on is IndexingBackend.local:
        raise typer.BadParameter("--workers is for --engine ray: leave it out, or give that")
    place = store_folder(store)
    if not galleries and not is_store(place):
        raise GalleryError(NO_GALLERY)
    for gallery in galleries or ():
        resolve_gallery(gallery)  # a wrong name makes no store
    check_ray_installed(runs_on)
    check_index_address(index_at)
    address = catalogue or (None if is_store(place) else os.environ.get(URL_VARIABLE))
    is_here = runs_on is IndexingBackend.local
    progress = ConsoleProgress()
    with Engine.create(place, model, device, progress, address, is_here, index_at) as engine:
        report = engine.index(*(galleries or ()), progress=progress, shard=shard, backend=runs_on, workers=workers)
    if as_json:
        from retrieval.commands.output.results_json import index_json

        print_json(index_json(report))
    else:
        from retrieval.commands.output.store_table import index_lines

        stdout.print(index_lines(report))


def status(
    failures: Annotated[bool, typer.Option("--failures", help="List every file that failed.")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what the store holds: galleries, pictures, files that failed and why, and its model.

    Example: `retrieve status --failures`
    """
    from indexes.catalogue.catalogue import Catalogue
    from retrieval.commands.output.results_json import status_json

    with Catalogue(store_folder(store)) as catalogue:
        if as_json:
            print_json(status_json(catalogue))
            return
        from retrieval.commands.output.store_table import status_lines

        stdout.print(status_lines(catalogue, max_failures=sys.maxsize if failures else 20))


def tune(
    recall: Annotated[
        float, typer.Option(min=0, max=1, help="The share of an exact search's ten best hits that must be found.")
    ] = RECALL,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set how far searches look, for the recall that you want, as measured on your own pictures.

    A hundred pictures of the store are searched exactly, then with twice as many lists each time until it is reached.
    A store of up to 30,000 pictures is always searched exactly.

    Example: `retrieve tune --recall 0.999`
    """
    from retrieval.commands.shared.progress import ConsoleProgress
    from retrieval.engine import Engine

    with Engine.open(store_folder(store)) as engine:
        steps = engine.tune(recall, ConsoleProgress())
    if as_json:
        print_json({"recall": recall, "steps": [asdict(step) for step in steps]})
        return
    from retrieval.commands.output.store_table import tuning_lines

    stdout.print(tuning_lines(steps, recall))


def calibrate(
    reset: Annotated[bool, typer.Option("--reset", help="Take it back: the model's own similarities return.")] = False,
    seed: SeedOption = 0,
    html: HtmlOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make similarity a probability for your own pictures: fit it to the store's class folders.

    The order of hits stays; similarities and verdicts change. What it gains is measured on pictures that the fit has
    not seen, and `retrieve status` shows it.

    Example: `retrieve calibrate --html calibration.html`
    """
    if reset and html:
        raise typer.BadParameter("--reset measures nothing: leave out --html")
    check_outputs(None, html)
    if reset:
        _reset_calibration(store_folder(store), as_json)
        return
    from retrieval.commands.output.results_json import calibration_json
    from retrieval.commands.output.store_table import calibration_lines
    from retrieval.engine import Engine

    with Engine.open(store_folder(store)) as engine:
        found = engine.calibrate(seed)
    if html:
        from retrieval.rendering.output_files import write_html
        from retrieval.store.maintenance.calibration_page import calibration_page

        write_html(calibration_page(engine.catalogue.folder, found), html)
    if as_json:
        print_json(calibration_json(engine.catalogue, found))
        return
    stdout.print(calibration_lines(found.calibration))
    if html:
        print_saved("page", html)


def _reset_calibration(store: Path, as_json: bool) -> None:
    from indexes.catalogue.catalogue import Catalogue
    from retrieval.store.maintenance.calibration import delete_calibration

    with Catalogue(store) as catalogue:
        was_kept = delete_calibration(catalogue)
    if as_json:
        print_json({"store": str(store), "calibration": None, "reset": was_kept})
    else:
        stdout.print(Text("similarity is the model's own again" if was_kept else "similarity was not calibrated"))


def remove(
    paths: Annotated[list[str], typer.Argument(metavar="PATH…", help="Pictures or folders; may be gone already.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take pictures or whole folders out of the store. The files themselves stay.

    The next `retrieve index` of a folder that holds them brings them back.

    Example: `retrieve remove ~/Pictures/private`
    """
    from indexes.catalogue.catalogue import Catalogue
    from retrieval.store.maintenance.removal import remove_paths

    with Catalogue(store_folder(store)) as catalogue:
        removed = remove_paths(catalogue, paths)
    if as_json:
        print_json({"removed": {path: counts.pictures for path, counts in removed.items()}})
    else:
        stdout.print(Text(f"{sum(counts.pictures for counts in removed.values())} pictures removed from the store"))
    absent = [path for path, counts in removed.items() if not counts]
    if absent:
        raise GalleryError(f"{absent[0]} is not in the store: `retrieve status` shows what is")
