"""Commands that judge heatmaps, and a model by where it looks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrieval.commands.shared.arguments import check_outputs, resolve_datasets
from retrieval.commands.shared.console import print_json, print_saved, stderr, stdout
from retrieval.commands.shared.options import (
    DeviceOption,
    HtmlOption,
    JsonOption,
    MethodOption,
    NamedModelOption,
    SeedOption,
)
from retrieval.common.settings import DEFAULT_METHOD, DEFAULT_MODEL, Device, MethodName
from retrieval.common.text import safe_name

if TYPE_CHECKING:
    from retrieval.evaluation.heatmaps.sanity_check import SanityReport


def sanity(
    dataset: Annotated[
        Path | None,
        typer.Argument(help="A folder of pictures. [default: what the model was trained on]", show_default=False),
    ] = None,
    model: NamedModelOption = DEFAULT_MODEL,
    method: MethodOption = DEFAULT_METHOD,
    pairs: Annotated[int, typer.Option(min=1, max=200, help="How many pairs of pictures are explained.")] = 24,
    seed: SeedOption = 0,
    device: DeviceOption = Device.auto,
    as_json: JsonOption = False,
) -> None:
    """Check that heatmaps depend on what a model has learnt: its weights are randomised, and they must change.

    Half of the pairs are of one class where there are class folders. The head is randomised first, then the network,
    from its last part to its first.

    Example: `retrieve sanity sets/flowers --method gradcam`
    """
    from retrieval.evaluation.measure import find_model

    subject = find_model(model, device)
    folders = resolve_datasets([dataset] if dataset else [], subject, model, contents="pictures", absence="none")
    from retrieval.commands.shared.progress import ConsoleProgress
    from retrieval.evaluation.heatmaps.sanity_check import SanityOptions, check_sanity

    terms = SanityOptions(pairs, method, seed)
    report = check_sanity(folders[0], subject.encoder.bundle, terms, device, ConsoleProgress())
    _report_sanity(model, report, as_json)


def _report_sanity(model: str, report: SanityReport, as_json: bool) -> None:
    from retrieval.commands.output.training_table import left_out_lines

    stderr.print(left_out_lines(report.left_out))
    if as_json:
        print_json({"model": model, **report.values()})
        return
    from retrieval.commands.output.sanity_table import sanity_lines

    stdout.print(sanity_lines(model, report))


def audit(
    dataset: Annotated[
        Path | None, typer.Argument(help="A folder of class folders. [default: what the model was trained on]")
    ] = None,
    model: NamedModelOption = DEFAULT_MODEL,
    method: MethodOption = DEFAULT_METHOD,
    pairs: Annotated[int, typer.Option(min=4, help="How many pairs are explained at most.")] = 600,
    seed: SeedOption = 0,
    html: HtmlOption = None,
    device: DeviceOption = Device.auto,
    as_json: JsonOption = False,
) -> None:
    """Say where a model looks in labelled pictures, what it confuses, and what to do about it.

    Random pairs are explained; what the model has learnt from stands beside what it has not. A model that goes by a
    watermark or a background, wrong labels, and pictures that come twice are told, the most serious first.

    Examples: `retrieve audit --model my-model --html audit.html`, `retrieve audit sets/flowers --json`
    """
    check_outputs(None, html)
    from retrieval.commands.shared.progress import ConsoleProgress
    from retrieval.datasets.class_folders import find_samples
    from retrieval.evaluation.audit.findings import AuditOptions
    from retrieval.evaluation.audit.run import audit_model as audit_model
    from retrieval.evaluation.measure import find_model

    progress = ConsoleProgress()
    subject = find_model(model, device, progress)
    folders = resolve_datasets([dataset] if dataset else [], subject, model)
    subject.encoder.load()
    found = find_samples(folders[0], progress)
    result = audit_model(found, subject, AuditOptions(pairs, seed, method), progress)
    if html:
        from retrieval.evaluation.audit.page import audit_page
        from retrieval.rendering.output_files import write_html

        write_html(audit_page(result), html)
    if as_json:
        from retrieval.commands.output.audit_json import audit_json

        print_json(audit_json(result))
        return
    from retrieval.commands.output.audit_table import audit_lines

    stdout.print(audit_lines(result))
    if html:
        print_saved("page", html)


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
    model: NamedModelOption = DEFAULT_MODEL,
    seed: SeedOption = 0,
    device: DeviceOption = Device.auto,
    as_json: JsonOption = False,
) -> None:
    """Measure how true heatmaps are: hide, or show alone, what they name, and see what the model says then.

    Each method is held against a random heatmap, the middle of the picture, and the picture's edges. The grid pointing
    game asks with four pictures in one whether the evidence for a hit lies on the one of its class. Pictures that a
    trained model learnt from are left out.

    Example: `retrieve faithfulness sets/flowers --pairs 400 --grids 200 --curves curves.png`
    """
    if curves is not None and curves.suffix.lower() != ".png":
        raise typer.BadParameter(f"--curves: {safe_name(curves)} does not end in .png")
    from retrieval.commands.output.faithfulness_table import faithfulness_json, faithfulness_lines
    from retrieval.commands.shared.progress import ConsoleProgress
    from retrieval.common.atomic_files import write_atomically
    from retrieval.datasets.class_folders import find_samples
    from retrieval.evaluation.heatmaps.curves import faithfulness_curves
    from retrieval.evaluation.heatmaps.faithfulness import measure_faithfulness
    from retrieval.evaluation.heatmaps.pointing_game import draw_grids, play_pointing_game
    from retrieval.evaluation.measure import exclude_learnt, find_model

    chosen = list(dict.fromkeys(methods or [name for name in MethodName if name is not MethodName.scorecam]))
    progress = ConsoleProgress()
    subject = find_model(model, device, progress)
    comparer = subject.encoder
    comparer.load()
    comparer.at_size(size).load()
    found = exclude_learnt(find_samples(dataset, progress), subject.learnt)
    drawn = draw_grids(found, grids, seed) if grids else []
    measured = measure_faithfulness(found, comparer, chosen, pairs, seed, progress)
    shares = play_pointing_game(drawn, comparer, chosen, size, seed, progress)
    if curves is not None:
        write_atomically(curves, faithfulness_curves(measured))
    if as_json:
        setup = {"dataset": str(dataset), "model": model, "seed": seed, "grids": grids, "size": size}
        print_json(faithfulness_json(measured, shares if grids else {}, setup))
        return
    stdout.print(faithfulness_lines(str(dataset), measured, shares if grids else {}))
    if curves is not None:
        print_saved("curves", curves)
