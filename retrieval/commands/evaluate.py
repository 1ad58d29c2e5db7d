"""The command that measures models on labelled pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from retrieval.commands.shared.arguments import check_outputs, data_sets
from retrieval.commands.shared.console import err, out, print_json, tell_file
from retrieval.commands.shared.options import AsJson, NamedModel, OnDevice, Page, Seed
from retrieval.common.settings import POOL, Device
from retrieval.common.text import safe_name

if TYPE_CHECKING:
    from retrieval.evaluation.measure import Measured, Subject, Terms


def evaluate(
    datasets: Annotated[
        list[Path] | None,
        typer.Argument(metavar="DATASET…", help="Folders of class folders. [default: what the model was trained on]"),
    ] = None,
    model: NamedModel = "default",
    against: Annotated[str | None, typer.Option(help="A second model, measured on the same pictures.")] = None,
    seen: Annotated[bool, typer.Option("--seen", help="Measure also on pictures that the model learnt from.")] = False,
    pairs: Annotated[
        int | None,
        typer.Option(min=1, help="How many similar and different pairs. [default: one of each a picture]"),
    ] = None,
    html: Page = None,
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
    check_outputs(None, html)
    from retrieval.commands.shared.progress import prepared_steps
    from retrieval.evaluation.measure import Terms, find_subject

    terms = Terms(pool, seed, pairs, seen)
    with prepared_steps(err) as on_step:
        subjects = [find_subject(name, device, on_step) for name in (model, against) if name is not None]
        folders = data_sets(datasets or [], subjects[0], model)
        for subject in subjects:
            subject.comparer.load()
    found: dict[str, Measured] = {}
    for folder in folders:
        found[str(folder)] = _measured(folder, subjects, terms)
        if not as_json:
            from retrieval.commands.output.evaluation_table import evaluation_table

            out.print(evaluation_table(safe_name(folder), found[str(folder)].results))
        _tell_left_out(found[str(folder)])
    if html:
        _write_evaluation(html, found, subjects[0], worst, quiet=as_json)
    if as_json:
        from retrieval.commands.output.results_json import evaluation_json

        print_json(evaluation_json(terms, found))


def _measured(folder: Path, subjects: list[Subject], terms: Terms) -> Measured:
    """What comes of a data set, with progress."""
    from retrieval.commands.shared.progress import read_samples, stage
    from retrieval.evaluation.measure import measure

    dataset = read_samples(err, folder)
    with stage(err, f"Embedding {safe_name(folder.name)}", len(dataset.samples)) as advance:
        return measure(dataset, subjects, terms, advance)


def _tell_left_out(measured: Measured) -> None:
    from retrieval.commands.output.training_table import left_out_lines

    for name, count in measured.learnt.items():
        pictures = (
            f"{count:,} pictures that {name} learnt from are" if count > 1 else f"1 picture that {name} learnt from is"
        )
        if count:
            err.print(Text(safe_name(f"{pictures} {'included' if measured.terms.seen else 'left out'}")))
    err.print(left_out_lines(measured.dataset.left_out))


def _write_evaluation(file: Path, found: dict[str, Measured], subject: Subject, worst: int, quiet: bool) -> None:
    from retrieval.evaluation.mistakes import show_mistakes
    from retrieval.evaluation.page import Section, evaluation_page
    from retrieval.evaluation.verdicts import worst_mistakes
    from retrieval.rendering.output_files import write_html

    sections = []
    for name, measured in found.items():
        descriptors = measured.descriptors[subject.name]
        mistakes = worst_mistakes(subject.comparer.bundle.head, descriptors, measured.pairs, worst)
        shown = show_mistakes(subject.comparer, measured.dataset.samples, mistakes)
        sections.append(Section(name, measured, shown))
    write_html(evaluation_page(sections), file)
    if not quiet:
        tell_file("page", file)
