"""Options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Option

from retrieval.common.settings import Device, MethodName, PresetName


class Preview(StrEnum):
    """Protocols by which terminals show pictures; `auto` takes the one that the terminal is known for."""

    auto = "auto"
    kitty = "kitty"
    iterm = "iterm"
    sixel = "sixel"
    none = "none"


StoreOption = Annotated[
    Path | None,
    Option(help="The store's folder. [default: the nearest .retrieve from here upwards]"),
]
MethodOption = Annotated[
    MethodName,
    Option(
        help="How heatmaps are made. occlusion hides regions to find out what matters, which takes a second or two;"
        " scorecam and sbsm take seconds a picture; xgradcam and hirescam are gradcam.",
    ),
]
SizeOption = Annotated[
    int | None,
    Option(
        min=64,
        max=1024,
        help="The side of pictures for heatmaps: larger is finer and slower.",
    ),
]
VerifyOption = Annotated[bool, Option("--verify", help="Check each heatmap: hide what it marks, and compare again.")]
CorrespondOption = Annotated[bool, Option("--correspond", help="Draw which parts of the two pictures match.")]
ModelOption = Annotated[
    str | None,
    Option(help="A model's name or a bundle's folder. [default: the store's own]"),
]
NamedModelOption = Annotated[str, Option(help="A model's name or a bundle's folder.")]
DeviceOption = Annotated[Device, Option(help="Where the network runs.")]
PreviewOption = Annotated[Preview, Option(help="Show the contact sheet in a terminal that can show pictures.")]
PathsOption = Annotated[bool, Option("--paths", help="Print only paths, one a line.")]
NullOption = Annotated[bool, Option("--null", "-0", help="Print only paths, each with a zero byte after it.")]
BackboneOption = Annotated[
    str | None,
    Option(
        help="efficientnet_lite0, resnet50, or a convolutional model of timm. [default: the first, or the preset's]"
    ),
]
WeightsOption = Annotated[Path | None, Option(help="A file of the backbone's weights.")]
PresetOption = Annotated[PresetName, Option(help="fast: minutes on a CPU; paper: as the paper trains.")]
SeedOption = Annotated[int, Option(min=0, max=2**32 - 1, help="The seed of all random choices.")]
EpochsOption = Annotated[int | None, Option(min=1, help="The most epochs. [default: the preset's]")]
LabelOption = Annotated[str | None, Option(help="Only pictures with this label.")]
FolderOption = Annotated[str | None, Option(help="Only pictures below this folder.")]
SinceOption = Annotated[str | None, Option(help="Only pictures taken from this day on, such as 2024-05.")]
UntilOption = Annotated[str | None, Option(help="Only pictures taken until the end of this day.")]
HtmlOption = Annotated[Path | None, Option(help="A file for a self-contained page.")]
JsonOption = Annotated[bool, Option("--json", help="Print JSON for machines.")]
