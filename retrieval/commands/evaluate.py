"""The command that evaluates models on labelled pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.text import Text
from typer import Argument, BadParameter, Option

from retrieval.commands.shared import options
from retrieval.commands.shared.arguments import check_outputs, resolve_datasets
from retrieval.commands.shared.console import print_json, print_saved, stderr, stdout
from retrieval.common.atomic_files import write_atomically
from retrieval.common.settings import DEFAULT_MODEL, POOL, Device
from retrieval.common.text import count_noun, safe_name

if TYPE_CHECKING:
    from retrieval.evaluation.measure import DatasetEvaluation, EvaluatedModel


def evaluate(
    datasets: Annotated[
        list[Path] | None,
        Argument(metavar="DATASET…", help="Folders of class folders. [default: what the model was trained on]"),
    ] = None,
    model: options.NamedModelOption = DEFAULT_MODEL,
    against: Annotated[str | None, Option(help="A second model, measured on the same pictures.")] = None,
    seen: Annotated[bool, Option("--seen", help="Measure on pictures that the model learnt from, too.")] = False,
    pairs: Annotated[
        int | None,
        Option(min=1, help="The number of similar and of different pairs. [default: one of each for every picture]"),
    ] = None,
    html: options.HtmlOption = None,
    worst: Annotated[int, Option(min=0, help="The number of worst mistakes on the page.")] = 10,
    seed: options.SeedOption = 0,
    pool: Annotated[int, Option(min=100, help="The number of candidates that the head rescores.")] = POOL,
    device: options.DeviceOption = Device.auto,
    as_json: options.JsonOption = False,
) -> None:
    """Measure a model on labelled pictures: leave-one-out retrieval, verdicts on pairs, and calibration.

    Pictures that a trained model learnt from are left out, and equal files count once.

    Examples: `retrieve evaluate ~/sets/flowers`, `retrieve evaluate --model mine --against default --html how.html`
    """
    if against == model:
        raise BadParameter("--against: give another model than --model")
    check_outputs(None, html)
    from retrieval.commands.output.evaluation import evaluation_json, evaluation_table
    from retrieval.commands.shared.progress import ConsoleProgress
    from retrieval.datasets.class_folders import find_samples
    from retrieval.evaluation.measure import EvaluationOptions, evaluate_models, find_model

    setup = EvaluationOptions(pool, seed, pairs, seen)
    progress = ConsoleProgress()
    models = [find_model(name, device, progress) for name in (model, against) if name is not None]
    folders = resolve_datasets(datasets or [], models[0])
    for evaluated in models:
        evaluated.encoder.load()
    results: dict[str, DatasetEvaluation] = {}
    for folder in folders:
        result = results[str(folder)] = evaluate_models(find_samples(folder, progress), models, setup, progress)
        if not as_json:
            stdout.print(evaluation_table(safe_name(folder), result.results))
        _print_left_out(result)
    if html:
        _write_page(html, results, models[0], worst)
    if as_json:
        print_json(evaluation_json(setup, results))
    elif html:
        print_saved("page", html)


def _print_left_out(result: DatasetEvaluation) -> None:
    from retrieval.commands.output.training import left_out_lines

    outcome = "included" if result.options.include_seen else "left out"
    for name, count in result.learnt_counts.items():
        if count:
            pictures, verb = count_noun(count, "picture"), "is" if count == 1 else "are"
            stderr.print(Text(safe_name(f"{pictures} that {name} learnt from {verb} {outcome}")))
    stderr.print(left_out_lines(result.dataset.left_out))


def _write_page(file: Path, results: dict[str, DatasetEvaluation], model: EvaluatedModel, worst: int) -> None:
    from retrieval.evaluation.mistakes import explain_mistakes
    from retrieval.evaluation.page import DatasetSection, evaluation_page
    from retrieval.evaluation.verdicts import worst_mistakes

    sections = []
    for name, result in results.items():
        mistakes = worst_mistakes(model.encoder.bundle.head, result.descriptors[model.name], result.pairs, worst)
        sections.append(DatasetSection(name, result, explain_mistakes(model.encoder, result.dataset.samples, mistakes)))
    write_atomically(file, evaluation_page(sections))
