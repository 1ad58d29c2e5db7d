"""The commands that train: on a data set, on a cropped one, and as the paper does."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, BadParameter, Option

from retrieval.commands.shared import options
from retrieval.commands.shared.arguments import check_outputs
from retrieval.commands.shared.console import report, stderr
from retrieval.common.settings import DEFAULT_MODEL, Device, PresetName
from retrieval.training.paper.case import PAPER_PAIRS, SEEDS, PaperCase


def crop(
    dataset: Annotated[Path, Argument(help="A folder of class folders.")],
    out: Annotated[Path, Argument(metavar="OUT", help="The folder for the cropped copy: new or empty.")],
    model: options.NamedModelOption = DEFAULT_MODEL,
    similarity: Annotated[float, Option(min=0, max=1, help="Pictures more similar than this are cropped.")] = 0.8,
    threshold: Annotated[
        float,
        Option(min=0, max=1, help="The share of the strongest evidence from which a part of the picture is in focus."),
    ] = 0.2,
    margin: Annotated[float, Option(min=0, help="How much a box grows on each side, as a share of its size.")] = 0.1,
    seed: Annotated[
        int | None, Option(min=0, max=2**32 - 1, help="Draws the partners. [default: the model's split's, or 0]")
    ] = None,
    html: options.HtmlOption = None,
    show: Annotated[int, Option(min=1, help="The number of crops on the page.")] = 12,
    device: options.DeviceOption = Device.auto,
    as_json: options.JsonOption = False,
) -> None:
    """Copy a data set with its training pictures cropped to what the model looks at, to train on the copy.

    Each training picture is compared with a random other one of its class. If the model finds them similar, it is
    cropped to the box around the evidence. All other pictures are copied as they are, together with the model's split.

    Example: `retrieve crop sets/flowers sets/flowers-cropped --model my-model --html crops.html`
    """
    check_outputs(None, html)
    from retrieval.commands.output.training import crop_json, crop_lines, left_out_lines
    from retrieval.commands.shared.progress import ConsoleProgress
    from retrieval.datasets.class_folders import find_samples
    from retrieval.datasets.crop import check_new_folder, crop_dataset
    from retrieval.datasets.crop_files import CropRules
    from retrieval.datasets.crop_page import crop_page, sample_crops
    from retrieval.model.bundle import find_bundle
    from retrieval.model.encoder import Encoder

    check_new_folder(dataset, out)
    progress = ConsoleProgress()
    encoder = Encoder(find_bundle(model), device, progress)
    samples = find_samples(dataset, progress)
    encoder.load()
    result = crop_dataset(samples, out, encoder, CropRules(similarity, threshold, margin, seed), progress)
    stderr.print(left_out_lines(result.left_out))
    report(
        as_json,
        lambda: crop_json(model, result),
        lambda: crop_lines(result),
        html,
        lambda: crop_page(result, sample_crops(result, show)),
    )


def train(
    dataset: Annotated[Path, Argument(metavar="DATASET", help="A folder of class folders.")],
    out: Annotated[Path, Option(help="The folder for the bundle.")],
    preset: options.PresetOption = PresetName.fast,
    seed: options.SeedOption = 0,
    resume: Annotated[bool, Option("--resume", help="Continue an unfinished training.")] = False,
    epochs: options.EpochsOption = None,
    loss: Annotated[
        str | None, Option(help="pairs, contrastive, or a loss of pytorch-metric-learning by its name.")
    ] = None,
    backbone: options.BackboneOption = None,
    weights: options.WeightsOption = None,
    hardest: Annotated[
        float, Option(min=0, max=1, help="In the second half, learn only from this share of the pairs, the hardest.")
    ] = 1.0,
    thaw: Annotated[
        bool,
        Option(
            "--thaw/--no-thaw", help="Train the backbone too; without it, only the head, so that an index stays valid."
        ),
    ] = True,
    keep_general: Annotated[
        bool, Option("--keep-general", help="Continue from the default model's head, and keep what it knows.")
    ] = False,
    tensorboard: Annotated[Path | None, Option(help="A folder for TensorBoard's event files.")] = None,
    device: options.DeviceOption = Device.auto,
    as_json: options.JsonOption = False,
) -> None:
    """Train a model on your own class folders, and measure it on a part of them that it has not seen.

    A fifth of each class is kept for measuring, and a tenth of the rest for choosing the best epoch.

    Examples: `retrieve train flowers --out flowers-model`, then `retrieve evaluate --model flowers-model`
    """
    if keep_general and (backbone or not thaw):
        raise BadParameter("--keep-general trains the default model's head: leave out --backbone and --no-thaw")
    check_outputs(out)
    from retrieval.commands.output.training import data_lines, trained_lines, training_json
    from retrieval.commands.shared.progress import ConsoleProgress
    from retrieval.training.logs import event_writer
    from retrieval.training.prepared_data import Recipe
    from retrieval.training.presets import PRESETS, adapt_preset
    from retrieval.training.train_bundle import train_bundle

    chosen = adapt_preset(PRESETS[preset], epochs, loss, backbone, thaw, keep_general, hardest)
    with event_writer(tensorboard) as write:
        trained = train_bundle(
            Recipe(dataset, chosen, seed, weights),
            out,
            resume,
            device,
            ConsoleProgress(),
            lambda data: stderr.print(data_lines(data)),
            lambda history: write(history[-1]),
        )
    report(as_json, lambda: training_json(trained), lambda: trained_lines(trained))


def reproduce(
    case: Annotated[PaperCase, Argument(help="A data set of the paper, or its Table 1: cropping flowers.")],
    data: Annotated[Path, Option(help="The folder that holds flowers, skin_cancer and airbnb.")],
    out: Annotated[Path, Option(help="The folder for models, cropped data sets and pages.")] = Path("reproduced"),
    preset: options.PresetOption = PresetName.fast,
    seed: options.SeedOption = 0,
    seeds: Annotated[int, Option(min=1, help="The number of seeds of table1, from --seed on.")] = SEEDS,
    pairs: Annotated[int, Option(min=1, help="The most similar and the most different pairs.")] = PAPER_PAIRS,
    epochs: options.EpochsOption = None,
    backbone: options.BackboneOption = None,
    weights: options.WeightsOption = None,
    device: options.DeviceOption = Device.auto,
    as_json: options.JsonOption = False,
) -> None:
    """Reproduce the paper's section 4 as a page and JSON: figures beside the paper's, explained pairs, Table 1.

    What is finished in the folder is used again, so the same command continues where an earlier one stopped.

    Examples: `retrieve reproduce flowers --data sets`, then `retrieve reproduce table1 --data sets`
    """
    check_outputs(out)
    from retrieval.commands.output.paper import results_lines
    from retrieval.commands.output.training import data_lines
    from retrieval.commands.shared.progress import ConsoleProgress
    from retrieval.training.paper.page import write_results
    from retrieval.training.paper.reproduce import reproduce_case
    from retrieval.training.paper.results import Plan
    from retrieval.training.paper.results_json import results_json
    from retrieval.training.presets import PRESETS, adapt_preset

    chosen = adapt_preset(PRESETS[preset], epochs, backbone=backbone)
    command = shlex.join(["retrieve", *sys.argv[1:]])
    plan = Plan(case, data, out, chosen, seed, seeds, pairs, weights, device, command)
    result = reproduce_case(plan, ConsoleProgress(), lambda data: stderr.print(data_lines(data)))
    files = write_results(result)
    report(as_json, lambda: results_json(result), lambda: results_lines(result, files))
