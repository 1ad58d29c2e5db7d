"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

from typer import Option

from retrieval.common.settings import Device, IndexingBackend, MethodName, PresetName

StoreOption = Annotated[
    Path | None,
    Option(
        "--store",
        envvar="RETRIEVE_STORE",
        help="The store's folder. [default: the nearest .retrieve from here upwards]",
        show_default=False,
    ),
]
IndexOption = Annotated[
    str | None,
    Option(
        "--index",
        metavar="ADDRESS",
        help="Where the index is kept from now on: faiss, milvus://HOST:PORT/NAME, milvus+tls://…, or milvus:FILE.db.",
        show_default=False,
    ),
]
MethodOption = Annotated[
    MethodName,
    Option(
        "--method",
        help="How heatmaps are made. scorecam and sbsm take seconds a picture; xgradcam and hirescam are gradcam.",
    ),
]
SizeOption = Annotated[
    int | None,
    Option("--size", min=64, max=1024, help="The side of pictures for heatmaps: larger is finer and slower."),
]
VerifyOption = Annotated[bool, Option("--verify", help="Check each heatmap: hide what it marks, and compare again.")]
CorrespondOption = Annotated[bool, Option("--correspond", help="Draw which parts of the two pictures match.")]
ModelOption = Annotated[
    str | None, Option("--model", help="A model's name or a bundle's folder. [default: the store's own]")
]
NamedModelOption = Annotated[str, Option("--model", help="A model's name or a bundle's folder.")]
DeviceOption = Annotated[Device, Option("--device", help="Where the network runs.")]
EngineOption = Annotated[
    IndexingBackend, Option("--engine", help="Where pictures are read and embedded: here, or on a Ray cluster.")
]
WorkersOption = Annotated[
    int | None, Option("--workers", min=1, help="With --engine ray. [default: as many as the cluster has room for]")
]
ShardsOption = Annotated[
    str | None, Option("--shards", metavar="I/N", help="Index only the I-th of N parts; N such runs together do all.")
]
BackboneOption = Annotated[
    str | None,
    Option(
        "--backbone",
        help="efficientnet_lite0, resnet50, or a convolutional model of timm. [default: the first, or the preset's]",
    ),
]
WeightsOption = Annotated[Path | None, Option("--weights", help="A file of the backbone's weights.")]
PresetOption = Annotated[PresetName, Option("--preset", help="fast: minutes on a CPU; paper: as the paper trains.")]
SeedOption = Annotated[int, Option("--seed", min=0, max=2**32 - 1, help="The seed of all random choices.")]
EpochsOption = Annotated[int | None, Option("--epochs", min=1, help="The most epochs. [default: the preset's]")]
LabelOption = Annotated[str | None, Option("--label", help="Only pictures with this label.")]
FolderOption = Annotated[str | None, Option("--folder", help="Only pictures below this folder.")]
SinceOption = Annotated[str | None, Option("--since", help="Only pictures taken from this day on, such as 2024-05.")]
UntilOption = Annotated[str | None, Option("--until", help="Only pictures taken until the end of this day.")]
HtmlOption = Annotated[Path | None, Option("--html", help="A file for a self-contained page.")]
JsonOption = Annotated[bool, Option("--json", help="Print JSON for machines.")]
