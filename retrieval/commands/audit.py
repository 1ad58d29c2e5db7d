"""The commands that check heatmaps, and where a model looks."""

from pathlib import Path
from typing import Annotated

from typer import Argument, BadParameter, Option

from retrieval.commands.shared import options
from retrieval.commands.shared.arguments import check_outputs, resolve_datasets
from retrieval.commands.shared.console import print_saved, report, stderr
from retrieval.common.atomic_files import write_atomically
from retrieval.common.settings import DEFAULT_MODEL, METHOD_ALIASES, QUICK_METHOD, Device, MethodName
from retrieval.common.text import safe_name


def sanity(
    dataset: Annotated[
        Path | None, Argument(help="A folder of pictures. [default: what the model was trained on]")
    ] = None,
    model: options.NamedModelOption = DEFAULT_MODEL,
    method: options.MethodOption = QUICK_METHOD,
    pairs: Annotated[int, Option(min=1, max=200, help="The number of pairs of pictures to explain.")] = 24,
    seed: options.SeedOption = 0,
    device: options.DeviceOption = Device.auto,
    as_json: options.JsonOption = False,
) -> None:
    """Check that heatmaps depend on what a model has learnt: if its weights are randomised, they must change.

    Half of the pairs are of one class if there are class folders. The head is randomised first, then the network,
    from its last part to its first.

    Example: `retrieve sanity sets/flowers --method gradcam`
    """
    from retrieval.commands.output.sanity import sanity_json, sanity_lines
    from retrieval.commands.output.training import left_out_lines
    from retrieval.commands.shared.progress import ConsoleProgress
    from retrieval.evaluation.heatmaps.sanity_check import SanityOptions, check_sanity
    from retrieval.evaluation.measure import find_model

    evaluated = find_model(model, device)
    (folder,) = resolve_datasets([dataset] if dataset else [], evaluated, contents="pictures")
    rules = SanityOptions(pairs, method, seed)
    result = check_sanity(folder, evaluated.encoder.bundle, rules, device, ConsoleProgress())
    stderr.print(left_out_lines(result.left_out))
    report(as_json, lambda: sanity_json(model, result), lambda: sanity_lines(model, result))


def audit(
    dataset: Annotated[
        Path | None, Argument(help="A folder of class folders. [default: what the model was trained on]")
    ] = None,
    model: options.NamedModelOption = DEFAULT_MODEL,
    method: options.MethodOption = QUICK_METHOD,
    pairs: Annotated[int, Option(min=4, help="The most pairs to explain.")] = 600,
    seed: options.SeedOption = 0,
    html: options.HtmlOption = None,
    device: options.DeviceOption = Device.auto,
    as_json: options.JsonOption = False,
) -> None:
    """Show where a model looks in labelled pictures, what it confuses, and what to do about it.

    Random pairs are explained, of pictures that the model has learnt from and of others. The report names a model that
    relies on a watermark or a background, wrong labels, and pictures that occur twice, the most serious first.

    Examples: `retrieve audit --model my-model --html audit.html`, `retrieve audit sets/flowers --json`
    """
    check_outputs(None, html)
    from retrieval.commands.output.audit import audit_json, audit_lines
    from retrieval.commands.shared.progress import ConsoleProgress
    from retrieval.datasets.class_folders import find_samples
    from retrieval.evaluation.audit.findings import AuditOptions
    from retrieval.evaluation.audit.page import audit_page
    from retrieval.evaluation.audit.run import audit_model
    from retrieval.evaluation.measure import find_model

    progress = ConsoleProgress()
    evaluated = find_model(model, device, progress)
    (folder,) = resolve_datasets([dataset] if dataset else [], evaluated)
    evaluated.encoder.load()
    samples = find_samples(folder, progress)
    result = audit_model(samples, evaluated, AuditOptions(pairs, seed, method), progress)
    report(as_json, lambda: audit_json(result), lambda: audit_lines(result), html, lambda: audit_page(result))


def faithfulness(
    dataset: Annotated[Path, Argument(metavar="DATASET", help="A folder of class folders.")],
    methods: Annotated[
        list[MethodName] | None,
        Option(
            "--method",
            help="A method; again for more. [default: all but scorecam, which takes long, and other names of gradcam]",
        ),
    ] = None,
    pairs: Annotated[int, Option(min=2, help="The number of pairs, half of one class and half of two.")] = 200,
    grids: Annotated[int, Option(min=0, help="The number of grids of pictures for the pointing game.")] = 0,
    objects: Annotated[int, Option(min=2, max=4, help="The number of pictures in a grid.")] = 4,
    hits: Annotated[int, Option(min=0, help="The number of queries whose five hits are checked as by --verify.")] = 0,
    size: Annotated[int | None, Option(min=64, max=1024, help="The side of a grid. [default: the model's]")] = None,
    curves: Annotated[Path | None, Option(help="A PNG file for deletion and insertion curves.")] = None,
    model: options.NamedModelOption = DEFAULT_MODEL,
    seed: options.SeedOption = 0,
    device: options.DeviceOption = Device.auto,
    as_json: options.JsonOption = False,
) -> None:
    """Measure how faithful heatmaps are: hide what they mark, or show only that, and compare the pictures again.

    Each method is compared with a random heatmap, the middle of the picture, and the picture's edges; places are
    blurred, and then filled with the colours around them. In the grid pointing game, up to four pictures in one are
    compared with a picture of the class of one of them: the evidence should lie on that one. With --hits, the heatmaps
    of random queries' hits are checked. Pictures that a trained model learnt from are left out.

    Example: `retrieve faithfulness sets/flowers --pairs 400 --grids 200 --hits 40 --curves curves.png`
    """
    if curves is not None and curves.suffix.lower() != ".png":
        raise BadParameter(f"--curves: {safe_name(curves)} does not end in .png")
    from retrieval.commands.output.faithfulness import faithfulness_json, faithfulness_lines
    from retrieval.commands.shared.progress import ConsoleProgress
    from retrieval.datasets.class_folders import find_samples
    from retrieval.evaluation.heatmaps.curves import faithfulness_curves
    from retrieval.evaluation.heatmaps.faithfulness import measure_faithfulness
    from retrieval.evaluation.heatmaps.hit_checks import check_hits
    from retrieval.evaluation.heatmaps.pointing_game import draw_grids, play_pointing_game
    from retrieval.evaluation.measure import exclude_learnt, find_model

    quick = [name for name in MethodName if name not in (MethodName.scorecam, *METHOD_ALIASES)]
    chosen = list(dict.fromkeys(methods or quick))
    progress = ConsoleProgress()
    evaluated = find_model(model, device, progress)
    encoder = evaluated.encoder
    encoder.load()
    encoder.at_size(size).load()
    samples = exclude_learnt(find_samples(dataset, progress), evaluated.learnt)
    drawn = draw_grids(samples, grids, seed, objects) if grids else []
    result = measure_faithfulness(samples, encoder, chosen, pairs, seed, progress)
    shares = play_pointing_game(drawn, encoder, chosen, size, seed, progress) if grids else {}
    checked = check_hits(samples, encoder, chosen, hits, seed, progress) if hits else None
    if curves is not None:
        write_atomically(curves, faithfulness_curves(result))
    setup = {"dataset": dataset, "model": model, "seed": seed, "grids": grids, "objects": objects, "size": size}
    report(
        as_json,
        lambda: faithfulness_json(result, shares, checked, setup),
        lambda: faithfulness_lines(str(dataset), result, shares, checked),
    )
    if curves is not None and not as_json:
        print_saved("curves", curves)
