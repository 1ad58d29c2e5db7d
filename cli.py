"""The command line: parse, one call, print. The only place that prints and exits."""

from __future__ import annotations

import codecs
import io
import json
import os
import shlex
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from indexes.errors import StoreError
from retrieval.errors import GalleryError, PictureError, RetrievalError
from retrieval.names import CONTACT_SHEET, in_plain_letters, safe_name, unsure
from retrieval.settings import (
    CONFIDENCE,
    DEFAULT_METHOD,
    POOL,
    RECALL,
    Case,
    Device,
    How,
    MethodName,
    PresetName,
    find_store,
)

if TYPE_CHECKING:
    from retrieval.bundle import Bundle
    from retrieval.engine import Engine, Question, Result
    from retrieval.measure import Measured, Subject, Terms
    from retrieval.sanity import SanityReport
    from retrieval.shown import PairFiles, Shown

warnings.filterwarnings("ignore", module="PIL")  # of odd metadata; a picture that fails is told with its name

_KEPT = {  # by command, what an interruption leaves
    "index": "; what was committed is kept, and the same command goes on from there",
    "train": "; whole epochs are kept, and the same command with --resume goes on from there",
    "reproduce": "; what is finished is kept, and the same command goes on from there",
}
_AT_ONCE = 128  # query pictures of one search
_WIDE = 100  # columns from which a table has room for bars beside the paths

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
        except BrokenPipeError:  # whoever read the output has enough of it
            raise
        except OSError as error:
            _give_up_output()
            _complain(_sentence(error))
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            _complain(f"interrupted{_KEPT.get(ctx.invoked_subcommand, '')}")
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
Method = Annotated[
    MethodName, typer.Option("--method", help="How heatmaps are made; scorecam and sbsm take seconds a picture.")
]
Size = Annotated[
    int | None,
    typer.Option("--size", min=64, max=1024, help="The side of pictures for heatmaps: larger is finer and slower."),
]
Verify = Annotated[bool, typer.Option("--verify", help="Check each heatmap: hide what it names, and see.")]
Correspond = Annotated[
    bool, typer.Option("--correspond", help="Draw which part of one picture matches which of the other.")
]
Model = Annotated[
    str | None, typer.Option("--model", help="A model's name or a bundle's folder. [default: the store's own]")
]
OnDevice = Annotated[Device, typer.Option("--device", help="Where the network runs.")]
Backbone = Annotated[
    str | None,
    typer.Option(
        "--backbone",
        help="efficientnet_lite0, resnet50, or a convolutional model of timm. [default: the first, or the preset's]",
    ),
]
Weights = Annotated[Path | None, typer.Option("--weights", help="A file of the backbone's weights.")]
Preset = Annotated[PresetName, typer.Option("--preset", help="fast: minutes on a CPU; paper: as the paper trains.")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Decides all that is drawn.")]
Epochs = Annotated[int | None, typer.Option("--epochs", min=1, help="At most so many. [default: the preset's]")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@app.command()
def index(
    galleries: Annotated[
        list[Path] | None,
        typer.Argument(metavar="GALLERY…", help="Folders of pictures. [default: all that the store knows]"),
    ] = None,
    store: Store = None,
    model: Model = None,
    device: OnDevice = Device.auto,
    as_json: AsJson = False,
) -> None:
    """Take folders of pictures into the store, or bring it up to date with them.

    Unchanged files are skipped, renamed and copied ones are not embedded again, vanished ones leave the results.
    The parent folder's name becomes a picture's label.

    Example: `retrieve index ~/Pictures /mnt/archive`
    """
    from indexes.database import is_store
    from retrieval.engine import NO_GALLERY, Engine
    from retrieval.indexing import resolve_gallery
    from retrieval.progress import Bar
    from retrieval.walk import count_files
    from retrieval.watching import prepared_steps

    place = _store(store)
    if not galleries and not is_store(place):
        raise GalleryError(NO_GALLERY)
    for gallery in galleries or ():
        resolve_gallery(gallery)  # a wrong name makes no store
    with prepared_steps(err) as on_step:
        engine = Engine.create(place, model, device, on_step)
        engine.load()
    with Bar(err, "Indexing") as progress:
        report = engine.index(
            *(galleries or ()),
            advance=progress.advance,
            on_folders=lambda folders: progress.start(lambda: count_files(folders)),
            on_stage=lambda title, count: progress.restart(title, lambda: count or None),
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
    confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Say so where no hit is at least this similar.")
    ] = CONFIDENCE,
    explain: Annotated[bool, typer.Option("--explain/--no-explain", help="Make heatmaps of the hits.")] = True,
    folder: Annotated[Path | None, typer.Option("--out", help="A folder for overlays and a contact sheet.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="A file for a self-contained page.")] = None,
    method: Method = DEFAULT_METHOD,
    size: Size = None,
    verify: Verify = False,
    correspond: Correspond = False,
    pool: Annotated[int, typer.Option(min=1, help="How many candidates the head rescores.")] = POOL,
    store: Store = None,
    model: Model = None,
    device: OnDevice = Device.auto,
    as_json: AsJson = False,
) -> None:
    """Find the indexed pictures that are most similar to a picture, and why.

    Examples: `retrieve query photo.jpg --top 5 --html why.html`, `curl -s URL | retrieve query -`
    """
    if top > pool:
        raise typer.BadParameter(f"--top {top} is more than the pool of {pool}: raise --pool with it")
    if not explain and (folder or html):
        raise typer.BadParameter("--out and --html show explanations: leave out --no-explain")
    _check_outputs(folder, html)
    how = How(method, size, verify, correspond)
    from retrieval.engine import Engine
    from retrieval.watching import prepared_steps

    started = time.perf_counter()
    with prepared_steps(err) as on_step:
        engine = Engine.open(_store(store), model, device, on_step)
        engine.load()
    load = time.perf_counter() - started
    if label is not None and label not in (labels := engine.catalogue.labels()):
        err.print(Text(f"no picture has the label {safe_name(label)}; there are: {safe_name(', '.join(labels))}"))
    shown: list[Shown] = []
    failed = False
    for number, (name, source, question) in enumerate(_questions(engine, pictures, pool, label), 1):
        if isinstance(question, PictureError):
            _complain(str(question.named("standard input") if name == "-" else question))
            failed = True
            continue
        result = engine.answer(question, top, min_similarity, explain, how)
        result.seconds["load"] += load
        load = 0.0  # told with the first answer
        place = folder / f"{number:02}" if folder and len(pictures) > 1 else folder
        seen = _report_query(name, source, result, engine, confidence, place, bool(html), as_json)
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
    method: Method = DEFAULT_METHOD,
    size: Size = None,
    verify: Verify = False,
    correspond: Correspond = False,
    model: Annotated[str, typer.Option("--model", help="A model's name or a bundle's folder.")] = "default",
    device: OnDevice = Device.auto,
    as_json: AsJson = False,
) -> None:
    """Say how similar two pictures are, and show why. Needs no store.

    Example: `retrieve explain cat.jpg lynx.jpg --out why`
    """
    _check_outputs(folder)
    from retrieval.answers import pair_json
    from retrieval.bundle import find_bundle
    from retrieval.compare import Comparer
    from retrieval.report import write_pair
    from retrieval.watching import prepared_steps

    with prepared_steps(err) as on_step:
        comparer = Comparer(find_bundle(model), device, on_step)
        comparer.load()
    explanation = comparer.explain(a, b, How(method, size, verify, correspond))
    files = write_pair(a, b, explanation, folder)
    if as_json:
        _print_json(pair_json(a, b, comparer.bundle, explanation, files))
        return
    from retrieval.tables import pair_lines

    out.print(pair_lines(explanation, folder))


@app.command()
def evaluate(
    datasets: Annotated[
        list[Path] | None,
        typer.Argument(metavar="DATASET…", help="Folders of class folders. [default: what the model was trained on]"),
    ] = None,
    model: Annotated[str, typer.Option("--model", help="A model's name or a bundle's folder.")] = "default",
    against: Annotated[str | None, typer.Option(help="A second model, measured on the same pictures.")] = None,
    seen: Annotated[bool, typer.Option("--seen", help="Measure also on pictures that the model learnt from.")] = False,
    pairs: Annotated[
        int | None,
        typer.Option(min=1, help="How many similar and different pairs. [default: one of each a picture]"),
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="A file for a self-contained page.")] = None,
    worst: Annotated[int, typer.Option(min=0, help="How many of the worst mistakes the page shows.")] = 10,
    seed: Seed = 0,
    pool: Annotated[int, typer.Option(min=100, help="How many candidates the head rescores.")] = POOL,
    device: OnDevice = Device.auto,
    as_json: AsJson = False,
) -> None:
    """Measure a model on labelled pictures: retrieval leaving one out, verdicts on pairs, calibration.

    Pictures that a trained model learnt from are left out, and each content counts once.

    Examples: `retrieve evaluate ~/sets/flowers`, `retrieve evaluate --model mine --against default --html how.html`
    """
    if against == model:
        raise typer.BadParameter("--against: give another model than --model")
    _check_outputs(None, html)
    from retrieval.measure import Terms, find_subject, folders_to_measure
    from retrieval.watching import prepared_steps

    terms = Terms(pool, seed, pairs, seen)
    with prepared_steps(err) as on_step:
        subjects = [find_subject(name, device, on_step) for name in (model, against) if name is not None]
        folders = folders_to_measure(datasets or [], subjects[0])
        if not folders:
            raise typer.BadParameter(
                f"DATASET: give a folder of class folders, as {safe_name(model)} keeps no data set of its own"
            )
        for subject in subjects:
            subject.comparer.load()
    found: dict[str, Measured] = {}
    for folder in folders:
        found[str(folder)] = _measured(folder, subjects, terms)
        if not as_json:
            from retrieval.tables import evaluation_table

            out.print(evaluation_table(safe_name(folder), found[str(folder)].results))
        _tell_left_out(found[str(folder)])
    if html:
        _write_evaluation(html, found, subjects[0], worst, quiet=as_json)
    if as_json:
        from retrieval.answers import evaluation_json

        _print_json(evaluation_json(terms, found))


@app.command()
def sanity(
    dataset: Annotated[
        Path | None,
        typer.Argument(help="A folder of pictures. [default: what the model was trained on]", show_default=False),
    ] = None,
    model: Annotated[str, typer.Option("--model", help="A model's name or a bundle's folder.")] = "default",
    method: Method = DEFAULT_METHOD,
    pairs: Annotated[int, typer.Option(min=1, max=200, help="How many pairs of pictures are explained.")] = 24,
    seed: Seed = 0,
    device: OnDevice = Device.auto,
    as_json: AsJson = False,
) -> None:
    """Check that heatmaps depend on what a model has learnt: its weights are randomised, and they must change.

    Half of the pairs are of one class where there are class folders. The head is randomised first, then the network,
    from its last part to its first.

    Example: `retrieve sanity sets/flowers --method gradcam`
    """
    from retrieval.measure import find_subject, folders_to_measure

    subject = find_subject(model, device)
    folders = folders_to_measure([dataset] if dataset else [], subject)
    if not folders:
        raise typer.BadParameter(f"DATASET: give a folder of pictures, as {safe_name(model)} keeps none of its own")
    from retrieval.sanity import SanityTerms, check_sanity
    from retrieval.watching import lift_pixel_limit, stage

    lift_pixel_limit()
    terms = SanityTerms(pairs, method, seed)
    report = check_sanity(folders[0], subject.comparer.bundle, terms, device, partial(stage, err))
    _tell_checked(model, report, as_json)


@app.command()
def audit(
    dataset: Annotated[
        Path | None, typer.Argument(help="A folder of class folders. [default: what the model was trained on]")
    ] = None,
    model: Annotated[str, typer.Option("--model", help="A model's name or a bundle's folder.")] = "default",
    method: Method = DEFAULT_METHOD,
    pairs: Annotated[int, typer.Option(min=4, help="How many pairs are explained at most.")] = 600,
    seed: Seed = 0,
    html: Annotated[Path | None, typer.Option("--html", help="A file for a self-contained page.")] = None,
    device: OnDevice = Device.auto,
    as_json: AsJson = False,
) -> None:
    """Say where a model looks in labelled pictures, what it confuses, and what to do about it.

    Random pairs are explained; what the model has learnt from stands beside what it has not. A model that goes by a
    watermark or a background, wrong labels, and pictures that come twice are told, the most serious first.

    Examples: `retrieve audit --model my-model --html audit.html`, `retrieve audit sets/flowers --json`
    """
    _check_outputs(None, html)
    from retrieval.audit import audit as audit_model
    from retrieval.audited import Terms
    from retrieval.measure import find_subject, folders_to_measure
    from retrieval.watching import prepared_steps, read_samples, stage

    with prepared_steps(err) as on_step:
        subject = find_subject(model, device, on_step)
        folders = folders_to_measure([dataset] if dataset else [], subject)
        if not folders:
            raise typer.BadParameter(
                f"DATASET: give a folder of class folders, as {safe_name(model)} keeps no data set of its own"
            )
        subject.comparer.load()
    found = read_samples(err, folders[0])
    result = audit_model(found, subject, Terms(pairs, seed, method), partial(stage, err))
    if html:
        from retrieval.audit_page import audit_page
        from retrieval.report import write_html

        write_html(audit_page(result), html)
    if as_json:
        from retrieval.audit_answers import audit_json

        _print_json(audit_json(result))
        return
    from retrieval.audit_tables import audit_lines

    out.print(audit_lines(result))
    if html:
        out.print(Text(f"page: {safe_name(html)}"))


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
def tune(
    recall: Annotated[
        float, typer.Option(min=0, max=1, help="The share of an exact search's ten best hits that must be found.")
    ] = RECALL,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Set how far searches look, for the recall that you want, as measured on your own pictures.

    A hundred pictures of the store are searched exactly, then with twice as many lists each time until it is reached.
    A store of up to 30,000 pictures is always searched exactly.

    Example: `retrieve tune --recall 0.999`
    """
    from retrieval.engine import Engine
    from retrieval.progress import Bar

    engine = Engine.open(_store(store))
    with Bar(err, "Measuring") as progress:
        steps = engine.tune(recall, lambda title, count: progress.restart(title, lambda: count), progress.advance)
    engine.close()
    if as_json:
        _print_json({"recall": recall, "steps": [asdict(step) for step in steps]})
        return
    from retrieval.tables import tuning_lines

    out.print(tuning_lines(steps, recall))


@app.command()
def calibrate(
    reset: Annotated[bool, typer.Option("--reset", help="Take it back: the model's own similarities return.")] = False,
    seed: Seed = 0,
    html: Annotated[Path | None, typer.Option("--html", help="A file for a self-contained page.")] = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Make similarity a probability for your own pictures: fit it to the store's class folders.

    The order of hits stays; similarities and verdicts change. What it gains is measured on pictures that the fit has
    not seen, and `retrieve status` shows it.

    Example: `retrieve calibrate --html calibration.html`
    """
    if reset and html:
        raise typer.BadParameter("--reset measures nothing: leave out --html")
    _check_outputs(None, html)
    if reset:
        _take_calibration_back(_store(store), as_json)
        return
    from retrieval.answers import calibrated_json
    from retrieval.calibrate import calibrate as fit_neuron
    from retrieval.engine import Engine
    from retrieval.tables import calibration_lines

    engine = Engine.open(_store(store))
    found = fit_neuron(engine.catalogue, engine.bundle, seed)
    engine.close()
    if html:
        from retrieval.calibration_page import calibration_page
        from retrieval.report import write_html

        write_html(calibration_page(engine.catalogue.folder, found), html)
    if as_json:
        _print_json(calibrated_json(engine.catalogue, found))
        return
    out.print(calibration_lines(found.calibration))
    if html:
        out.print(Text(f"page: {safe_name(html)}"))


@app.command()
def remove(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH…", help="Pictures or folders; may be gone already.")],
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Take pictures or whole folders out of the store. The files themselves stay.

    The next `retrieve index` of a folder that holds them brings them back.

    Example: `retrieve remove ~/Pictures/private`
    """
    from indexes.catalogue import Catalogue
    from retrieval.indexing import remove as take_out

    catalogue = Catalogue(_store(store))
    removed = {str(path): take_out(catalogue, path) for path in paths}
    catalogue.close()
    if as_json:
        _print_json({"removed": {path: each.pictures for path, each in removed.items()}})
    else:
        out.print(Text(f"{sum(each.pictures for each in removed.values())} pictures removed from the store"))
    absent = [path for path, each in removed.items() if not each]
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

    _print_models([*shipped_bundles(), *(find_bundle(str(folder)) for folder in folders or ())], as_json)


@app.command()
def fit(
    datasets: Annotated[list[Path], typer.Argument(metavar="DATASET…", help="Folders of class folders to learn from.")],
    folder: Annotated[Path, typer.Option("--out", help="The folder for the bundle.")],
    unlabelled: Annotated[list[Path] | None, typer.Option(help="Folders of other pictures of all kinds.")] = None,
    test: Annotated[list[Path] | None, typer.Option(help="Class folders to measure the model on.")] = None,
    backbone: Backbone = None,
    weights: Weights = None,
    name: Annotated[str | None, typer.Option(help="The model's name. [default: the folder's]")] = None,
    seed: Seed = 0,
    device: OnDevice = Device.auto,
    as_json: AsJson = False,
) -> None:
    """Make a model bundle: a head for general retrieval on any backbone, fitted in minutes.

    Example: `retrieve fit sets/animals sets/tools --backbone resnet50 --weights resnet50.pth --out my-model`
    """
    names = [dataset.name for dataset in test or ()]
    if twice := next((each for each in names if names.count(each) > 1), None):
        raise typer.BadParameter(f"--test: figures are kept by a folder's name, and two are named {twice}: rename one")
    _check_outputs(folder)
    from retrieval.make_bundle import Recipe, make_bundle
    from retrieval.watching import described

    recipe = Recipe(
        backbone or "efficientnet_lite0", weights, tuple(datasets), tuple(unlabelled or ()), tuple(test or ()), seed
    )
    bundle = make_bundle(
        recipe, name or folder.resolve().name, folder, lambda dataset, model: described(err, dataset, model, device)
    )
    _print_models([bundle], as_json)


@app.command()
def crop(
    dataset: Annotated[Path, typer.Argument(help="A folder of class folders.")],
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The folder for the cropped copy: new or empty.")],
    model: Annotated[str, typer.Option("--model", help="A model's name or a bundle's folder.")] = "default",
    similarity: Annotated[float, typer.Option(min=0, max=1, help="Pictures more similar than this are cropped.")] = 0.8,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="The share of the strongest evidence from which a place is in focus.")
    ] = 0.2,
    margin: Annotated[float, typer.Option(min=0, help="How much a box is grown on each side, of its own size.")] = 0.1,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=2**32 - 1, help="Draws the partners. [default: the model's split's, or 0]"),
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="A file for a self-contained page.")] = None,
    show: Annotated[int, typer.Option(min=1, help="How many crops the page shows.")] = 12,
    device: OnDevice = Device.auto,
    as_json: AsJson = False,
) -> None:
    """Copy a data set with its training pictures cropped to what the model looks at, to train on anew.

    Each training picture meets a random other one of its class. Where the model finds them similar, the crop is the
    box around what made them so. All other pictures are copied as they are, and the model's split goes along.

    Example: `retrieve crop sets/flowers sets/flowers-cropped --model my-model --html crops.html`
    """
    _check_outputs(None, html)
    from retrieval.bundle import find_bundle
    from retrieval.compare import Comparer
    from retrieval.crop import CropRules, check_out, crop_dataset
    from retrieval.tables import crop_lines, left_out_lines
    from retrieval.watching import prepared_steps, read_samples, stage

    check_out(dataset, folder)
    bundle = find_bundle(model)
    found = read_samples(err, dataset)
    with prepared_steps(err) as on_step:
        comparer = Comparer(bundle, device, on_step)
        comparer.load()
    report = crop_dataset(found, folder, comparer, CropRules(similarity, threshold, margin, seed), partial(stage, err))
    err.print(left_out_lines(report.left_out))
    if html:
        from retrieval.crop_page import crop_page, drawn_crops
        from retrieval.report import write_html

        write_html(crop_page(report, drawn_crops(report, show)), html)
    if as_json:
        _print_json({"model": model, **report.values()})
        return
    out.print(crop_lines(report))
    if html:
        out.print(Text(f"page: {safe_name(html)}"))


@app.command()
def train(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A folder of class folders.")],
    folder: Annotated[Path, typer.Option("--out", help="The folder for the bundle.")],
    preset: Preset = PresetName.fast,
    seed: Seed = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an unfinished training.")] = False,
    epochs: Epochs = None,
    loss: Annotated[
        str | None, typer.Option(help="pairs, contrastive, or a loss of pytorch-metric-learning by its name.")
    ] = None,
    backbone: Backbone = None,
    weights: Weights = None,
    hardest: Annotated[
        float, typer.Option(min=0, max=1, help="In the second half, let only this share of the pairs count.")
    ] = 1.0,
    thaw: Annotated[
        bool, typer.Option("--thaw/--no-thaw", help="Train the backbone too, or only the head: keeps an index good.")
    ] = True,
    keep_general: Annotated[
        bool, typer.Option("--keep-general", help="Train the default model's head on, and hold what it knows.")
    ] = False,
    tensorboard: Annotated[Path | None, typer.Option(help="A folder for TensorBoard's event files.")] = None,
    device: OnDevice = Device.auto,
    as_json: AsJson = False,
) -> None:
    """Train a model on your own class folders, and measure it on a part of them that it has not seen.

    A fifth of each class is kept for measuring, a tenth of the rest chooses the best epoch.

    Examples: `retrieve train flowers --out flowers-model`, then `retrieve evaluate --model flowers-model`
    """
    if keep_general and (backbone or not thaw):
        raise typer.BadParameter("--keep-general trains the default model's head: leave out --backbone and --no-thaw")
    _check_outputs(folder)
    from retrieval.presets import PRESETS, adapted
    from retrieval.train_bundle import Recipe, train_bundle
    from retrieval.watching import training_watch

    chosen = adapted(PRESETS[preset], epochs, loss, backbone, thaw, keep_general, hardest)
    with training_watch(err, tensorboard) as watch:
        trained = train_bundle(Recipe(dataset, chosen, seed, weights), folder, resume, device, watch)
    if as_json:
        from retrieval.answers import trained_json

        _print_json(trained_json(trained))
        return
    from retrieval.tables import trained_lines

    out.print(trained_lines(trained))


@app.command()
def reproduce(
    case: Annotated[Case, typer.Argument(help="A data set of the paper, or its Table 1: cropping flowers.")],
    data: Annotated[Path, typer.Option("--data", help="The folder that holds flowers, skin_cancer and airbnb.")],
    folder: Annotated[Path, typer.Option("--out", help="The folder for models, cropped data sets and pages.")] = Path(
        "reproduced"
    ),
    preset: Preset = PresetName.fast,
    seed: Seed = 0,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds table1 rests on, from --seed on.")] = 3,
    pairs: Annotated[int, typer.Option(min=1, help="At most so many similar and so many different pairs.")] = 432,
    epochs: Epochs = None,
    backbone: Backbone = None,
    weights: Weights = None,
    device: OnDevice = Device.auto,
    as_json: AsJson = False,
) -> None:
    """Do the paper's section 4 again, as a page and JSON: figures beside the paper's, explained pairs, Table 1.

    What is finished in the folder is used again, so the same command goes on where an earlier one was stopped.

    Examples: `retrieve reproduce flowers --data sets`, then `retrieve reproduce table1 --data sets`
    """
    _check_outputs(folder)
    from retrieval.presets import PRESETS, adapted
    from retrieval.reproduce import Watch, reproduce
    from retrieval.reproduce_page import write_reproduced
    from retrieval.reproduced import Plan
    from retrieval.watching import prepared_steps, stage, training_watch

    chosen = adapted(PRESETS[preset], epochs, backbone=backbone)
    command = shlex.join(["retrieve", *sys.argv[1:]])
    plan = Plan(case, data, folder, chosen, seed, seeds, pairs, weights, device, command)
    watch = Watch(
        partial(training_watch, err), partial(prepared_steps, err), partial(stage, err), partial(_complain, kind="note")
    )
    result = reproduce(plan, watch)
    files = write_reproduced(result)
    if as_json:
        from retrieval.reproduce_answers import reproduced_json

        _print_json(reproduced_json(result))
        return
    from retrieval.reproduce_tables import reproduced_lines

    out.print(reproduced_lines(result, files))


@app.command()
def faithfulness(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A folder of class folders.")],
    methods: Annotated[
        list[MethodName] | None,
        typer.Option("--method", help="A method; again for more. [default: all but scorecam, which takes long]"),
    ] = None,
    pairs: Annotated[int, typer.Option(min=2, help="How many pairs, half of one class and half of two.")] = 200,
    grids: Annotated[int, typer.Option(min=0, help="How many grids of four pictures are pointed at.")] = 0,
    size: Annotated[
        int | None, typer.Option(min=64, max=1024, help="The side of a grid. [default: the model's]")
    ] = None,
    curves: Annotated[Path | None, typer.Option("--curves", help="A PNG for deletion and insertion curves.")] = None,
    model: Annotated[str, typer.Option("--model", help="A model's name or a bundle's folder.")] = "default",
    seed: Seed = 0,
    device: OnDevice = Device.auto,
    as_json: AsJson = False,
) -> None:
    """Measure how true heatmaps are: hide, or show alone, what they name, and see what the model says then.

    Each method is held against a random heatmap, the middle of the picture, and the picture's edges. The grid pointing
    game asks with four pictures in one whether the evidence for a hit lies on the one of its class. Pictures that a
    trained model learnt from are left out.

    Example: `retrieve faithfulness sets/flowers --pairs 400 --grids 200 --curves curves.png`
    """
    if curves is not None and curves.suffix.lower() != ".png":
        raise typer.BadParameter(f"--curves: {safe_name(curves)} does not end in .png")
    from retrieval.faithfulness import measure_faithfulness
    from retrieval.faithfulness_report import faithfulness_curves, faithfulness_json, faithfulness_lines
    from retrieval.files import write_whole
    from retrieval.grid_game import draw_grids, play
    from retrieval.measure import find_subject, without_learnt
    from retrieval.watching import prepared_steps, read_samples, stage

    chosen = list(dict.fromkeys(methods or [name for name in MethodName if name is not MethodName.scorecam]))
    with prepared_steps(err) as on_step:
        subject = find_subject(model, device, on_step)
        comparer = subject.comparer
        comparer.load()
        comparer.at(size).load()
    found = without_learnt(read_samples(err, dataset), subject.learnt)
    drawn = draw_grids(found, grids, seed) if grids else []
    with stage(err, "Hiding and showing", pairs) as advance:
        measured = measure_faithfulness(found, comparer, chosen, pairs, seed, advance)
    with stage(err, "Pointing", grids) as advance:
        shares = play(drawn, comparer, chosen, size, seed, advance)
    if curves is not None:
        write_whole(curves, faithfulness_curves(measured))
    if as_json:
        setup = {"dataset": str(dataset), "model": model, "seed": seed, "grids": grids, "size": size}
        _print_json(faithfulness_json(measured, shares if grids else {}, setup))
        return
    out.print(faithfulness_lines(str(dataset), measured, shares if grids else {}))
    if curves is not None:
        out.print(Text(f"curves: {safe_name(curves)}"))


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--out", help="Where the demo's files go.")] = Path("demo"),
    device: OnDevice = Device.auto,
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
    codecs.register_error("in_plain_letters", in_plain_letters)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where it was closed
            stream.reconfigure(errors="in_plain_letters")
    app()


def _store(chosen: Path | None) -> Path:
    return chosen if chosen is not None else find_store(Path.cwd())


def _take_calibration_back(store: Path, as_json: bool) -> None:
    from indexes.catalogue import Catalogue
    from retrieval.calibration import drop_calibration

    catalogue = Catalogue(store)
    was_kept = drop_calibration(catalogue)
    catalogue.close()
    if as_json:
        _print_json({"store": str(store), "calibration": None, "reset": was_kept})
    else:
        out.print(Text("similarity is the model's own again" if was_kept else "similarity was not calibrated"))


def _check_outputs(folder: Path | None, page: Path | None = None) -> None:
    """Before the work, not after it: what would be written must not be in the way of itself."""
    if folder is not None and folder.exists() and not folder.is_dir():
        raise RetrievalError(f"{folder} is a file: give --out a folder")
    if page is not None and page.is_dir():
        raise RetrievalError(f"{page} is a folder: give --html a file")
    if page is not None and page.suffix.lower() not in (".html", ".htm"):
        raise RetrievalError(f"{page} is not named like a page: give --html a name that ends in .html")


def _questions(
    engine: Engine, names: list[str], pool: int, label: str | None
) -> Iterator[tuple[str, Path | bytes, Question | PictureError]]:
    """The pictures with their candidates, many at once, as one search is quicker than one for each."""
    for start in range(0, len(names), _AT_ONCE):
        some = names[start : start + _AT_ONCE]
        sources = [_standard_input() if name == "-" else Path(name) for name in some]
        yield from zip(some, sources, engine.find(sources, pool, label), strict=True)


def _standard_input() -> bytes:
    return sys.stdin.buffer.read() if sys.stdin else b""  # Python has none where it was closed


def _sentence(error: OSError) -> str:
    if error.filename is not None:
        return f"{os.fsdecode(error.filename)} cannot be used: {error.strerror}"
    if isinstance(error, FileNotFoundError):  # only the working folder is looked for without a name
        return "the working folder is gone: change to one that exists, or give whole paths and --store"
    return f"the answer cannot be written: {error.strerror or error}"


def _give_up_output() -> None:
    """What an output has not taken, Python would offer it once more at the end, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report_query(
    name: str,
    source: Path | bytes,
    result: Result,
    engine: Engine,
    confidence: float,
    folder: Path | None,
    html: bool,
    as_json: bool,
) -> Shown | None:
    """Write a query's files, then print its answer; what the page needs of it."""
    shown: Shown | None = None
    files: dict[int, PairFiles] = {}
    title = "standard input" if name == "-" else name
    started = time.perf_counter()
    if folder or html:
        from retrieval.report import write_overlays
        from retrieval.shown import prepare

        shown = prepare(source, title, result.hits, confidence)
        files = write_overlays(shown, folder) if folder else {}
    seconds = result.seconds | ({"render": time.perf_counter() - started} if shown else {})
    seconds["total"] = sum(seconds.values())
    if as_json:
        from retrieval.answers import query_json

        _print_json(query_json(name, engine, result, files, seconds, confidence))
    else:
        from retrieval.tables import hits_table, seconds_line

        out.print(hits_table(safe_name(title), result.hits, bars=out.width >= _WIDE))
        if doubt := unsure([hit.similarity for hit in result.hits], confidence):
            out.print(Text(doubt, style="yellow"))
        out.print(seconds_line(seconds))
        if folder:
            out.print(Text(f"contact sheet: {safe_name(folder / CONTACT_SHEET)}"))
    return shown


def _write_page(file: Path, shown: list[Shown], quiet: bool) -> None:
    from retrieval.report import write_page

    write_page(shown, file)
    if not quiet:
        out.print(Text(f"page: {safe_name(file)}"))


def _measured(folder: Path, subjects: list[Subject], terms: Terms) -> Measured:
    """What comes of a data set, with progress."""
    from retrieval.measure import measure
    from retrieval.watching import read_samples, stage

    dataset = read_samples(err, folder)
    with stage(err, f"Embedding {safe_name(folder.name)}", len(dataset.samples)) as advance:
        return measure(dataset, subjects, terms, advance)


def _tell_checked(model: str, report: SanityReport, as_json: bool) -> None:
    from retrieval.tables import left_out_lines

    err.print(left_out_lines(report.left_out))
    if as_json:
        _print_json({"model": model, **report.values()})
        return
    from retrieval.sanity_tables import sanity_lines

    out.print(sanity_lines(model, report))


def _tell_left_out(measured: Measured) -> None:
    from retrieval.tables import left_out_lines

    for name, count in measured.learnt.items():
        pictures = (
            f"{count:,} pictures that {name} learnt from are" if count > 1 else f"1 picture that {name} learnt from is"
        )
        if count:
            err.print(Text(safe_name(f"{pictures} {'included' if measured.terms.seen else 'left out'}")))
    err.print(left_out_lines(measured.dataset.left_out))


def _write_evaluation(file: Path, found: dict[str, Measured], subject: Subject, worst: int, quiet: bool) -> None:
    from retrieval.evaluation_page import Section, evaluation_page
    from retrieval.mistakes import show_mistakes
    from retrieval.report import write_html
    from retrieval.verdicts import worst_mistakes

    sections = []
    for name, measured in found.items():
        descriptors = measured.descriptors[subject.name]
        mistakes = worst_mistakes(subject.comparer.bundle.head, descriptors, measured.pairs, worst)
        shown = show_mistakes(subject.comparer, measured.dataset.samples, mistakes)
        sections.append(Section(name, measured, shown))
    write_html(evaluation_page(sections), file)
    if not quiet:
        out.print(Text(f"page: {safe_name(file)}"))


def _print_models(bundles: list[Bundle], as_json: bool) -> None:
    if as_json:
        cards = [asdict(bundle.card) | {"fingerprint": bundle.fingerprint} for bundle in bundles]
        _print_json({"models": cards})
        return
    from retrieval.tables import models_lines

    out.print(models_lines(bundles))


def _complain(sentence: str, kind: str = "error") -> None:
    err.print(Text.assemble((f"{kind}: ", "bold red" if kind == "error" else "yellow"), safe_name(sentence)))


def _print_json(value: object) -> None:
    print(json.dumps(value), flush=True)  # which, unlike sys.stdout, is there where standard output is closed


if __name__ == "__main__":
    main()
