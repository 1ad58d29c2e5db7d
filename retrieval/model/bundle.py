"""Model bundles on disk: `model.json`, `weights.safetensors` and `network.onnx`, read without torch."""

import hashlib
import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from indexes.atomic_files import write_file
from retrieval.common.errors import ModelError, first_line
from retrieval.common.settings import Preprocessing
from retrieval.model.gallery_neuron import GalleryNeuron
from retrieval.model.head import Head

FORMAT = 1
SHIPPED = Path(__file__).resolve().parent / "bundles"
BACKBONE_PREFIX = "backbone."
_LONGEST_NAME = 300  # characters that are shown
_LARGEST_CARD, _LARGEST_HEADER = 1 << 20, 1 << 24  # bytes
_BACKBONE = re.compile(r"[A-Za-z0-9_.-]{1,100}")  # timm takes `hf-hub:` and `local-dir:` for places to load from
_SEAL = re.compile(rb"r\x4e\x0a\x0asealed_for\x12\x40[0-9a-f]{64}", re.DOTALL)  # see `sealed`
_AGAIN = "get the bundle again"


@dataclass(frozen=True)
class ModelCard:
    """The content of `model.json`: the architecture, the input, and for people how the model was made and measured.

    `provenance` is data, seed and command, `metrics` each figure by data set and name. A model without a
    `gallery_neuron` shows its own similarity in every gallery. `digests` has the SHA-256 of the `backbone`, as the
    fingerprint, of the `head`, and of the `card` itself; a bundle of before has none.
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
    digests: dict[str, str] = field(default_factory=dict)


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
        with _reading_weights(self.weights_file), self.weights_file.open("rb") as file:
            return file.read(min(int.from_bytes(file.read(8), "little"), _LARGEST_HEADER))

    @property
    def has_network(self) -> bool:
        """Whether there is a network file, made for weights that lie as these do and for pixels normalised as here.

        One that is damaged is none.
        """
        if not self.network_file.is_file():
            return False
        content = self.network_file.read_bytes()
        is_whole = not _SEAL.search(content, len(content) - _SEAL_BYTES) or sealed(content[:-_SEAL_BYTES]) == content
        return is_whole and self.network_stamp.encode() in content

    @property
    def network_stamp(self) -> str:
        """SHA-256 (hex) that the network file holds."""
        pre = self.card.preprocessing
        return hashlib.sha256(self.weights_header + json.dumps([pre.mean, pre.std]).encode()).hexdigest()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over what determines the descriptors: the backbone's weights and the preprocessing.

        The head is left out, as it is applied to stored descriptors: a new head needs no new index. Raises ModelError,
        also if the bundle was written with other weights.
        """
        found = self._hash_backbone()
        self._check_digest("backbone", found)
        return found

    def _check_digest(self, part: str, found: str) -> None:
        if self.card.digests.get(part, found) != found:
            raise ModelError(f"{self.weights_file} is damaged, as the {part}'s checksum shows: {_AGAIN}")

    def _hash_backbone(self) -> str:
        pre = self.card.preprocessing
        described = json.dumps([self.card.backbone, "half-crop-bicubic", pre.size, pre.mean, pre.std])
        digest = hashlib.sha256(described.encode())
        with _reading_weights(self.weights_file), _open_weights(self.weights_file) as tensors:
            for name in sorted(name for name in tensors.keys() if name.startswith(BACKBONE_PREFIX)):  # noqa: SIM118
                tensor: NDArray[Any] = np.ascontiguousarray(tensors.get_tensor(name))
                digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
                digest.update(tensor.data)
        return digest.hexdigest()

    @property
    def head_channels(self) -> int:
        """The channels of the descriptors that the head takes. Raises ModelError."""
        with _reading_weights(self.weights_file):
            return int(_check(json.loads(self.weights_header)["dense.weight"]["shape"][1], int))

    @cached_property
    def head(self) -> Head:
        """The head, in NumPy. Raises ModelError if the file lacks a part of it, or has one that is none."""
        head = self._read_head()
        self._check_digest("head", head.digest)
        if not head.is_sound:
            raise ModelError(f"{self.weights_file} has a head that cannot tell pictures apart: give another bundle")
        return head

    def _read_head(self) -> Head:
        with _reading_weights(self.weights_file), _open_weights(self.weights_file) as tensors:
            weight, bias, slope, intercept = (
                tensors.get_tensor(name).astype(np.float32)
                for name in ("dense.weight", "dense.bias", "output.weight", "output.bias")
            )
            shapes = bias.shape, weight.shape[:-1], (slope.size, intercept.size)
            if weight.ndim != 2 or shapes != ((self.card.units,), (self.card.units,), (1, 1)):
                raise ValueError("its head has other shapes than its model.json says")
        return Head(weight, bias, slope.item(), intercept.item(), self.card.normalize, self.card.shift)


def find_bundle(name: str) -> Bundle:
    """Return the shipped bundle of this name, or the bundle in this folder. Raises ModelError."""
    shown = name if len(name) < _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
    for folder in (SHIPPED / name, Path(name)):
        try:
            has_card = (folder / "model.json").is_file()
        except OSError as error:
            raise ModelError(f"{shown} cannot be read as a model ({error.strerror}): give another bundle") from error
        if has_card:
            return Bundle(folder.resolve(), _read_card(folder / "model.json"))
    names = ", ".join(bundle.card.name for bundle in shipped_bundles())
    raise ModelError(
        f"{shown} is neither a model's name ({names}) nor a folder with a model.json:"
        " give one of them, or make a bundle with `retrieve fit`"
    )


def shipped_bundles() -> list[Bundle]:
    """Return all bundles that come with the package, sorted by name."""
    return [Bundle(file.parent, _read_card(file)) for file in sorted(SHIPPED.glob("*/model.json"))]


def write_card(card: ModelCard, folder: Path) -> None:
    """Write `model.json` into the folder, with the digests of the weights that lie there and of itself."""
    bundle = Bundle(folder, card)
    digests = {"backbone": bundle._hash_backbone(), "head": bundle._read_head().digest}
    values = json.loads(json.dumps({"format": FORMAT, **asdict(card), "digests": digests}))
    values["digests"]["card"] = _card_digest(values)
    text = json.dumps(values, indent=1, ensure_ascii=False) + "\n"
    write_file(folder / "model.json", text.encode("utf-8", "backslashreplace"))  # lone surrogates as JSON escapes


def sealed(network: bytes) -> bytes:
    """Return a network's file with its SHA-256 at the end, as one more entry of the metadata that ONNX allows."""
    return network + b"r\x4e\x0a\x0asealed_for\x12\x40" + hashlib.sha256(network).hexdigest().encode()


_SEAL_BYTES = len(sealed(b""))


def _card_digest(values: dict[str, Any]) -> str:
    """Return the SHA-256 (hex) of a card's values, however they are laid out, without this digest itself."""
    digests = {name: value for name, value in values["digests"].items() if name != "card"}
    return hashlib.sha256(json.dumps(values | {"digests": digests}, sort_keys=True).encode()).hexdigest()


def _check(value: Any, kind: Any) -> Any:
    """Return the value if it is of this type, an int if it is from 1 to 65,536. Raises TypeError."""
    if not isinstance(value, kind) or (kind is int and (value is True or not 1 <= value <= 1 << 16)):
        shown = repr(value)
        raise TypeError(f"{shown[:60]} is not a {'positive int' if kind is int else kind}")
    return value


def _number(value: Any) -> float:
    """Return a number that is finite. Raises TypeError, ValueError and OverflowError."""
    number = float(_check(value, int | float))
    if not math.isfinite(number):
        raise ValueError(f"{number} is no number to calculate with")
    return number


def _parse_channels(values: object, least: float) -> tuple[float, float, float]:
    red, green, blue = map(_number, _check(values, list))
    if min(red, green, blue) < least:
        raise ValueError("a deviation is not positive")
    return red, green, blue


def _read_card(file: Path) -> ModelCard:
    try:
        with file.open("rb") as opened:
            text = opened.read(_LARGEST_CARD + 1)
        if len(text) > _LARGEST_CARD:
            raise ValueError(f"it is larger than {_LARGEST_CARD >> 20} MB")
        values = _check(json.loads(text.decode()), dict)
        if values["format"] > FORMAT:
            raise ModelError(f"{file} was written by a newer version: upgrade this program")
        digests = _check(values.get("digests", {}), dict)
        if digests and digests.get("card") != _card_digest(values):
            raise ModelError(f'{file} is damaged, as its checksum shows: {_AGAIN}, or if you edited it drop "digests"')
        pre = values["preprocessing"]
        if not _BACKBONE.fullmatch(_check(values["backbone"], str)):
            raise ValueError("its backbone is not a name of timm's or torchvision's")
        return ModelCard(
            name=_check(values["name"], str),
            backbone=values["backbone"],
            preprocessing=Preprocessing(
                _check(pre["size"], int), _parse_channels(pre["mean"], -1e6), _parse_channels(pre["std"], 1e-6)
            ),
            units=_check(values["units"], int),
            normalize=_check(values["normalize"], bool),
            shift=None if values["shift"] is None else _number(values["shift"]),
            gallery_neuron=GalleryNeuron.from_json(neuron) if (neuron := values.get("gallery_neuron")) else None,
            provenance=_check(values["provenance"], dict),
            metrics={
                name: {figure: float(_check(value, int | float)) for figure, value in _check(figures, dict).items()}
                for name, figures in _check(values["metrics"], dict).items()
            },
            digests=digests,
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError) as error:
        reason = f"{type(error).__name__}: {first_line(error)[:200]}"
        raise ModelError(f"{file} is not a model card ({reason}): give another bundle") from error


def _open_weights(file: Path) -> Any:
    if not file.is_file():  # a pipe would be waited for
        raise FileNotFoundError("there is no such file")
    return safe_open(file, framework="numpy")


@contextmanager
def _reading_weights(file: Path) -> Iterator[None]:
    """Raise ModelError for whatever the weights' file lacks or has in another form."""
    try:
        yield
    except (OSError, MemoryError, SafetensorError, TypeError, ValueError, LookupError, RecursionError) as error:
        raise ModelError(f"{file} cannot be read as weights ({first_line(error)[:200]}): {_AGAIN}") from error
