"""The commands on a store: index, status, tune, calibrate, remove."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from rich.text import Text
from typer import Argument, BadParameter, Option

from retrieval.commands.shared import options
from retrieval.commands.shared.arguments import check_outputs, explain_option_errors, path_ending, store_folder
from retrieval.commands.shared.console import report
from retrieval.common.errors import GalleryError
from retrieval.common.settings import RECALL, Device, IndexingBackend
from retrieval.common.text import count_noun, join_words


def index(
    galleries: Annotated[
        list[str] | None,
        Argument(
            metavar="GALLERY…",
            help="Folders of pictures, tars, .txt lists; also s3://, gs://, https://. [default: all indexed before]",
        ),
    ] = None,
    store: options.StoreOption = None,
    catalogue: Annotated[
        str | None,
        Option(
            help="Where a new store keeps its catalogue: postgresql://user@host/database?schema=name. Give a password"
            " in PGPASSWORD or ~/.pgpass, or the whole address in RETRIEVE_CATALOGUE: it is not kept."
            " [default: the store's folder]"
        ),
    ] = None,
    model: options.ModelOption = None,
    device: options.DeviceOption = Device.auto,
    index: Annotated[
        str | None,
        Option(
            metavar="ADDRESS",
            help="Where the index is kept from now on: faiss, milvus://HOST:PORT/NAME, milvus+tls://…, or"
            " milvus:FILE.db.",
        ),
    ] = None,
    engine: Annotated[
        IndexingBackend,
        Option(help="Where pictures are read and embedded: here, or on a Ray cluster."),
    ] = IndexingBackend.local,
    workers: Annotated[
        int | None, Option(min=1, help="With --engine ray. [default: as many as the cluster has room for]")
    ] = None,
    shards: Annotated[
        str | None, Option(metavar="I/N", help="Index only the I-th of N parts; N such runs together do all.")
    ] = None,
    plain_similarity: Annotated[
        bool | None,
        Option(
            "--plain-similarity/--gallery-similarity",
            help="From now on show the model's own similarity, as in the paper, or judge pairs by what is usual in the"
            " gallery. [default: the latter, if the model can]",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool, Option("--force", help="Read and embed every file anew, even one that looks unchanged.")
    ] = False,
    repair: Annotated[
        bool, Option("--repair", help="Check all that the store holds, and make anew what is damaged.")
    ] = False,
    as_json: options.JsonOption = False,
) -> None:
    """Index folders of pictures, or bring the store up to date with them.

    Unchanged files are skipped, renamed and copied ones are not embedded again, and deleted ones leave the results.
    The name of its parent folder becomes a picture's label.

    Examples: `retrieve index ~/Pictures /mnt/archive`, `retrieve index --plain-similarity`
    """
    from indexes.catalogue.database.database_url import URL_VARIABLE
    from indexes.catalogue.open_database import is_store
    from indexes.catalogue.upkeep import repair as repaired_store
    from indexes.vectors.faiss_file import delete_files
    from indexes.vectors.index_address import FAISS, parse_address
    from retrieval.commands.output.store import index_json, index_lines
    from retrieval.commands.shared.progress import ConsoleProgress
    from retrieval.engine import NO_GALLERY, Engine
    from retrieval.sources.gallery import resolve_gallery
    from retrieval.store.indexing.shards import WHOLE, parse_shard
    from retrieval.store.store_model import agree_to_galleries

    with explain_option_errors("--shards"):
        shard = WHOLE if shards is None else parse_shard(shards)
    if force and engine is IndexingBackend.ray:
        raise BadParameter("--force is for --engine local: leave out one of them")
    if workers is not None and engine is IndexingBackend.local:
        raise BadParameter("--workers is for --engine ray: leave it out, or give that")
    folder = store_folder(store)
    if not galleries and not is_store(folder):
        raise GalleryError(NO_GALLERY)
    agree_to_galleries(folder, [resolve_gallery(gallery) for gallery in galleries or ()])  # a wrong name makes no store
    if engine is IndexingBackend.ray:
        import retrieval.store.indexing.ray.cluster  # noqa: F401  # raises ClusterError if Ray is not installed
    with explain_option_errors("--index"):
        parse_address(FAISS if index is None else index)
    notes = repaired_store(folder, delete_files) if repair and is_store(folder) else []
    address = catalogue or (None if is_store(folder) else os.environ.get(URL_VARIABLE))
    progress = ConsoleProgress()
    with Engine.create(folder, model, device, progress, address, engine is IndexingBackend.local, index) as opened:
        result = opened.index(
            *(galleries or ()),
            progress=progress,
            shard=shard,
            backend=engine,
            workers=workers,
            plain_similarity=plain_similarity,
            force=force,
        )
    result = replace(result, notes=(*notes, *result.notes))
    report(as_json, lambda: index_json(result), lambda: index_lines(result))
    if galleries and result.empty_roots and shard.is_all:
        roots = join_words(map(str, result.empty_roots))
        raise GalleryError(f"{roots} {'holds' if len(result.empty_roots) == 1 else 'hold'} no pictures: check the name")


def status(
    failures: Annotated[bool, Option("--failures", help="List every file that failed.")] = False,
    paths: Annotated[bool, Option("--paths", help="Print only the paths of the files that failed.")] = False,
    null: options.NullOption = False,
    store: options.StoreOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Show what the store holds: galleries, pictures, files that failed and why, and its model.

    Examples: `retrieve status --failures`, `retrieve status --paths`
    """
    ending = path_ending(paths, null, as_json)
    from indexes.catalogue.catalogue import Catalogue
    from retrieval.commands.output.store import status_json, status_lines
    from retrieval.commands.shared.configuration import configuration_files
    from retrieval.sources.location import parse_location
    from retrieval.store.status import read_status

    folder = store_folder(store)
    with Catalogue(folder, may_write=False) as catalogue:
        found, failed = read_status(catalogue), catalogue.scans.failures()
    most, files = sys.maxsize if failures else 20, configuration_files(folder)
    report(
        as_json,
        lambda: status_json(found, failed) | {"configuration": files},
        lambda: status_lines(found, failed, most, files),
        paths=(parse_location(path) for path, _ in failed),
        path_ending=ending,
    )


def tune(
    recall: Annotated[
        float, Option(min=0, max=1, help="The share of an exact search's ten best hits to find.")
    ] = RECALL,
    store: options.StoreOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Set how much of the index a search visits, for the recall that you want, as measured on your own pictures.

    A hundred pictures of the store are searched exactly, then with twice as many lists each time until the recall is
    reached. A store of up to 30,000 pictures is always searched exactly.

    Example: `retrieve tune --recall 0.999`
    """
    from retrieval.commands.output.store import tuning_lines
    from retrieval.commands.shared.progress import ConsoleProgress
    from retrieval.engine import Engine

    with Engine.open(store_folder(store)) as engine:
        steps = engine.tune(recall, ConsoleProgress())
    report(as_json, lambda: {"recall": recall, "steps": steps}, lambda: tuning_lines(steps, recall))


def calibrate(
    reset: Annotated[bool, Option("--reset", help="Undo it: return to what needs no labels.")] = False,
    seed: options.SeedOption = 0,
    html: options.HtmlOption = None,
    store: options.StoreOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Make similarity, and the probability of hits, right for your own pictures: fit both to the store's class folders.

    The order of hits stays; these numbers and verdicts change. The gain is measured on pictures that the fit has not
    seen; `retrieve status` shows it. `retrieve query --coverage` then shows as many hits as are needed.

    Example: `retrieve calibrate --html calibration.html`
    """
    if reset and html:
        raise BadParameter("--reset measures nothing: leave out --html")
    check_outputs(None, html)
    if reset:
        _reset_calibration(store_folder(store), as_json)
        return
    from retrieval.commands.output.formats import pick
    from retrieval.commands.output.store import calibration_lines
    from retrieval.engine import Engine
    from retrieval.store.maintenance.calibration_page import calibration_page

    with Engine.open(store_folder(store)) as engine:
        result = engine.calibrate(seed)
    path = engine.catalogue.folder
    report(
        as_json,
        lambda: {"store": path, "calibration": result.calibration, "reliability": pick(result, "before", "after")},
        lambda: calibration_lines(result.calibration),
        html,
        lambda: calibration_page(path, result),
    )


def _reset_calibration(store: Path, as_json: bool) -> None:
    from indexes.catalogue.catalogue import Catalogue
    from retrieval.store.maintenance.calibration import delete_calibration

    with Catalogue(store) as catalogue:
        was_reset = delete_calibration(catalogue)
    sentence = "similarity is no longer calibrated" if was_reset else "similarity was not calibrated"
    report(as_json, lambda: {"store": store, "calibration": None, "reset": was_reset}, lambda: Text(sentence))


def remove(
    paths: Annotated[list[str], Argument(metavar="PATH…", help="Pictures or folders, which need not exist any more.")],
    store: options.StoreOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Remove pictures or whole folders from the store. The files themselves stay.

    The next `retrieve index` of a folder that holds them adds them again.

    Example: `retrieve remove ~/Pictures/private`
    """
    from indexes.catalogue.catalogue import Catalogue
    from retrieval.store.maintenance.removal import remove_paths

    with Catalogue(store_folder(store)) as catalogue:
        removed = remove_paths(catalogue, paths)
    pictures = {path: counts.pictures for path, counts in removed.items()}
    report(
        as_json,
        lambda: {"removed": pictures},
        lambda: Text(f"{count_noun(sum(pictures.values()), 'picture')} removed from the store"),
    )
    absent = [path for path, counts in removed.items() if not counts]
    if absent:
        raise GalleryError(f"{absent[0]} is not in the store: `retrieve status` shows what is")
