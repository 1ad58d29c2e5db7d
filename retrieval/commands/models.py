"""The commands that list models, and make one without training."""

from pathlib import Path
from typing import Annotated

from typer import Argument, BadParameter, Option

from retrieval.commands.shared import options
from retrieval.commands.shared.arguments import check_outputs
from retrieval.commands.shared.console import report
from retrieval.common.settings import Device


def models(
    bundles: Annotated[list[Path] | None, Argument(metavar="BUNDLE…", help="Folders of more bundles.")] = None,
    as_json: options.JsonOption = False,
) -> None:
    """List the models: input size, what they were trained on, and their measured quality.

    Example: `retrieve models`
    """
    from retrieval.commands.output.training import models_json, models_lines
    from retrieval.model.bundle import find_bundle, shipped_bundles

    found = [*shipped_bundles(), *(find_bundle(str(folder)) for folder in bundles or ())]
    report(as_json, lambda: models_json(found), lambda: models_lines(found))


def fit(
    datasets: Annotated[list[Path], Argument(metavar="DATASET…", help="Folders of class folders to learn from.")],
    out: Annotated[Path, Option(help="The folder for the bundle.")],
    unlabelled: Annotated[list[Path] | None, Option(help="Folders of unlabelled pictures of all kinds.")] = None,
    test: Annotated[list[Path] | None, Option(help="Folders of class folders to measure the model on.")] = None,
    backbone: options.BackboneOption = None,
    weights: options.WeightsOption = None,
    name: Annotated[str | None, Option(help="The model's name. [default: the folder's]")] = None,
    seed: options.SeedOption = 0,
    device: options.DeviceOption = Device.auto,
    as_json: options.JsonOption = False,
) -> None:
    """Make a model bundle: a head for general retrieval on any backbone, fitted in minutes.

    Example: `retrieve fit sets/animals sets/tools --backbone resnet50 --weights resnet50.pth --out my-model`
    """
    names = [dataset.name for dataset in test or ()]
    if twice := next((each for each in names if names.count(each) > 1), None):
        raise BadParameter(f"--test: figures are kept by a folder's name, and two are named {twice}: rename one")
    check_outputs(out)
    from retrieval.commands.output.training import models_json, models_lines
    from retrieval.commands.shared.progress import ConsoleProgress
    from retrieval.training.fit_bundle import FitRecipe, fit_bundle

    recipe = FitRecipe(
        backbone or "efficientnet_lite0", weights, tuple(datasets), tuple(unlabelled or ()), tuple(test or ()), seed
    )
    bundle = fit_bundle(recipe, name or out.resolve().name, out, device, ConsoleProgress())
    report(as_json, lambda: models_json([bundle]), lambda: models_lines([bundle]))
