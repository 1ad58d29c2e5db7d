"""The command that measures models on labelled pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from retrieval.commands.shared.arguments import check_outputs, resolve_datasets
from retrieval.commands.shared.console import print_json, print_saved, stderr, stdout
from retrieval.commands.shared.options import DeviceOption, HtmlOption, JsonOption, NamedModelOption, SeedOption
from retrieval.common.settings import DEFAULT_MODEL, POOL, Device
from retrieval.common.text import safe_name

if TYPE_CHECKING:
    from retrieval.evaluation.measure import DatasetEvaluation, EvaluatedModel


def evaluate(
    datasets: Annotated[
        list[Path] | None,
        typer.Argument(metavar="DATASET…", help="Folders of class folders. [default: what the model was trained on]"),
    ] = None,
    model: NamedModelOption = DEFAULT_MODEL,
    against: Annotated[str | None, typer.Option(help="A second model, measured on the same pictures.")] = None,
    seen: Annotated[bool, typer.Option("--seen", help="Measure also on pictures that the model learnt from.")] = False,
    pairs: Annotated[
        int | None,
        typer.Option(min=1, help="How many similar and different pairs. [default: one of each a picture]"),
    ] = None,
    html: HtmlOption = None,
    worst: Annotated[int, typer.Option(min=0, help="How many of the worst mistakes the page shows.")] = 10,
    seed: SeedOption = 0,
    pool: Annotated[int, typer.Option(min=100, help="How many candidates the head rescores.")] = POOL,
    device: DeviceOption = Device.auto,
    as_json: JsonOption = False,
) -> None:
    """Measure a model on labelled pictures: retrieval leaving one out, verdicts on pairs, calibration.

    Pictures that a trained model learnt from are left out, and each content counts once.

    Examples: `retrieve evaluate ~/sets/flowers`, `retrieve evaluate --model mine --against default --html how.html`
    """
    if against == model:
        raise typer.BadParameter("--against: give another model than --model")
    check_outputs(None, html)
    from retrieval.commands.shared.progress import ConsoleProgress
    from retrieval.datasets.class_folders import find_samples
    from retrieval.evaluation.measure import EvaluationOptions, evaluate_models, find_model

    terms = EvaluationOptions(pool, seed, pairs, seen)
    progress = ConsoleProgress()
    subjects = [find_model(name, device, progress) for name in (model, against) if name is not None]
    folders = resolve_datasets(datasets or [], subjects[0], model)
    for subject in subjects:
        subject.encoder.load()
    found: dict[str, DatasetEvaluation] = {}
    for folder in folders:
        found[str(folder)] = evaluate_models(find_samples(folder, progress), subjects, terms, progress)
        if not as_json:
            from retrieval.commands.output.evaluation_table import evaluation_table

            stdout.print(evaluation_table(safe_name(folder), found[str(folder)].results))
        _report_left_out(found[str(folder)])
    if html:
        _write_evaluation(html, found, subjects[0], worst, quiet=as_json)
    if as_json:
        from retrieval.commands.output.results_json import evaluation_json

        print_json(evaluation_json(terms, found))


def _report_left_out(measured: DatasetEvaluation) -> None:
    from retrieval.commands.output.training_table import left_out_lines

    for name, count in measured.learnt_counts.items():
        pictures = (
            f"{count:,} pictures that {name} learnt from are" if count > 1 else f"1 picture that {name} learnt from is"
        )
        if count:
            stderr.print(Text(safe_name(f"{pictures} {'included' if measured.options.include_seen else 'left out'}")))
    stderr.print(left_out_lines(measured.dataset.left_out))


def _write_evaluation(
    file: Path, results: dict[str, DatasetEvaluation], subject: EvaluatedModel, worst: int, quiet: bool
) -> None:
    from retrieval.evaluation.mistakes import explain_mistakes
    from retrieval.evaluation.page import DatasetSection, evaluation_page
    from retrieval.evaluation.verdicts import worst_mistakes
    from retrieval.rendering.output_files import write_html

    sections = []
    for name, measured in results.items():
        descriptors = measured.descriptors[subject.name]
        mistakes = worst_mistakes(subject.encoder.bundle.head, descriptors, measured.pairs, worst)
        shown = explain_mistakes(subject.encoder, measured.dataset.samples, mistakes)
        sections.append(DatasetSection(name, measured, shown))
    write_html(evaluation_page(sections), file)
    if not quiet:
        print_saved("page", file)
