"""Model bundles on disk: `model.json`, `weights.safetensors` and `network.onnx`, read without torch."""

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from indexes.atomic_files import write_file
from retrieval.common.errors import ModelError
from retrieval.common.settings import Preprocessing
from retrieval.model.gallery_neuron import GalleryNeuron
from retrieval.model.head import Head

FORMAT = 1
SHIPPED = Path(__file__).resolve().parent / "bundles"
BACKBONE_PREFIX = "backbone."


@dataclass(frozen=True)
class ModelCard:
    """The content of `model.json`: the architecture, the input, and for people how the model was made and measured.

    `provenance` is data, seed and command, `metrics` each figure by data set and name. A model without a
    `gallery_neuron` shows its own similarity in every gallery.
    """

    name: str
    backbone: str
    preprocessing: Preprocessing
    units: int
    normalize: bool
    provenance: dict[str, Any]
    metrics: dict[str, dict[str, float]]
    shift: float | None = None
    gallery_neuron: GalleryNeuron | None = None


@dataclass(frozen=True)
class Bundle:
    """A model bundle: a folder and its card."""

    folder: Path
    card: ModelCard

    @property
    def is_shipped(self) -> bool:
        return self.folder.parent == SHIPPED

    @property
    def weights_file(self) -> Path:
        return self.folder / "weights.safetensors"

    @property
    def network_file(self) -> Path:
        """From pictures to activations and descriptors; its weights are those of the weights' file."""
        return self.folder / "network.onnx"

    @property
    def weights_header(self) -> bytes:
        """The JSON of the weights' file that says where each tensor lies behind it. Raises ModelError."""
        try:
            with self.weights_file.open("rb") as file:
                return file.read(int.from_bytes(file.read(8), "little"))
        except (OSError, MemoryError) as error:
            raise _unreadable_weights(self.weights_file, error) from error

    @property
    def has_network(self) -> bool:
        """Whether there is a network file, made for weights that lie as these do and for pixels normalised as here."""
        return self.network_file.is_file() and self.network_stamp.encode() in self.network_file.read_bytes()

    @property
    def network_stamp(self) -> str:
        """SHA-256 (hex) that the network file holds."""
        pre = self.card.preprocessing
        return hashlib.sha256(self.weights_header + json.dumps([pre.mean, pre.std]).encode()).hexdigest()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over what determines the descriptors: the backbone's weights and the preprocessing.

        The head is left out, as it is applied to stored descriptors: a new head needs no new index.
        """
        pre = self.card.preprocessing
        described = json.dumps([self.card.backbone, "half-crop-bicubic", pre.size, pre.mean, pre.std])
        digest = hashlib.sha256(described.encode())
        with _open_weights(self.weights_file) as tensors:
            for name in sorted(name for name in tensors.keys() if name.startswith(BACKBONE_PREFIX)):  # noqa: SIM118
                tensor: NDArray[Any] = np.ascontiguousarray(tensors.get_tensor(name))
                digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
                digest.update(tensor.data)
        return digest.hexdigest()

    @cached_property
    def head(self) -> Head:
        """The head, in NumPy. Raises ModelError if the file lacks a part of it."""
        with _open_weights(self.weights_file) as tensors:
            try:
                weight, bias, slope, intercept = (
                    tensors.get_tensor(name).astype(np.float32)
                    for name in ("dense.weight", "dense.bias", "output.weight", "output.bias")
                )
            except SafetensorError as error:
                raise ModelError(f"{self.weights_file} lacks a part of the head: {error}") from error
        return Head(weight, bias, slope.item(), intercept.item(), self.card.normalize, self.card.shift)


def find_bundle(name: str) -> Bundle:
    """Return the shipped bundle of this name, or the bundle in this folder. Raises ModelError."""
    for folder in (SHIPPED / name, Path(name)):
        try:
            has_card = (folder / "model.json").is_file()
        except OSError as error:
            raise ModelError(f"{folder} cannot be read as a model ({error.strerror}): give another bundle") from error
        if has_card:
            return Bundle(folder.resolve(), _read_card(folder / "model.json"))
    names = ", ".join(bundle.card.name for bundle in shipped_bundles())
    raise ModelError(
        f"{name} is neither a model's name ({names}) nor a folder with a model.json:"
        " give one of them, or make a bundle with `retrieve fit`"
    )


def shipped_bundles() -> list[Bundle]:
    """Return all bundles that come with the package, sorted by name."""
    return [Bundle(file.parent, _read_card(file)) for file in sorted(SHIPPED.glob("*/model.json"))]


def write_card(card: ModelCard, folder: Path) -> None:
    """Write `model.json` into the folder."""
    text = json.dumps({"format": FORMAT, **asdict(card)}, indent=1, ensure_ascii=False) + "\n"
    write_file(folder / "model.json", text.encode("utf-8", "backslashreplace"))  # lone surrogates as JSON escapes


def _check(value: Any, kind: Any) -> Any:
    """Return the value if it is of this type, an int if it is positive. Raises TypeError."""
    if not isinstance(value, kind) or (kind is int and (value is True or value < 1)):
        raise TypeError(f"{value!r} is not a {'positive int' if kind is int else kind}")
    return value


def _parse_channels(values: object) -> tuple[float, float, float]:
    red, green, blue = map(float, _check(values, list))
    return red, green, blue


def _read_card(file: Path) -> ModelCard:
    try:
        values = json.loads(file.read_text("utf-8"))
        if values["format"] > FORMAT:
            raise ModelError(f"{file} was written by a newer version: upgrade this program")
        pre = values["preprocessing"]
        return ModelCard(
            name=_check(values["name"], str),
            backbone=_check(values["backbone"], str),
            preprocessing=Preprocessing(_check(pre["size"], int), *map(_parse_channels, (pre["mean"], pre["std"]))),
            units=_check(values["units"], int),
            normalize=_check(values["normalize"], bool),
            shift=None if values["shift"] is None else float(values["shift"]),
            gallery_neuron=GalleryNeuron.from_json(neuron) if (neuron := values.get("gallery_neuron")) else None,
            provenance=_check(values["provenance"], dict),
            metrics={
                name: {figure: float(_check(value, int | float)) for figure, value in _check(figures, dict).items()}
                for name, figures in _check(values["metrics"], dict).items()
            },
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file} is not a model card ({error!r}): give another bundle") from error


def _open_weights(file: Path) -> Any:
    try:
        return safe_open(file, framework="numpy")
    except (OSError, SafetensorError) as error:
        raise _unreadable_weights(file, error) from error


def _unreadable_weights(file: Path, error: Exception) -> ModelError:
    return ModelError(f"{file} cannot be read as weights ({error}): get the bundle again")
