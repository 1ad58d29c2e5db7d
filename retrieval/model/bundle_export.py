"""The writing of model bundles: weights, card, and the backbone as a graph that runs without torch."""

import io
import json
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper
from safetensors.torch import save
from torch import Tensor, nn

from indexes.atomic_files import write_file
from retrieval.common.errors import ModelError, first_line
from retrieval.common.settings import Preprocessing
from retrieval.model.backbones import Backbone
from retrieval.model.bundle import BACKBONE_PREFIX, Bundle, ModelCard, sealed, write_card
from retrieval.model.head import Head
from retrieval.model.siamese import to_input

_OPSET = 17
_TYPES = {"F16": TensorProto.FLOAT16, "F32": TensorProto.FLOAT}


def save_bundle(
    trunk: Backbone,
    head: Head,
    folder: Path,
    name: str,
    provenance: dict[str, Any],
    metrics: dict[str, dict[str, float]],
) -> Bundle:
    """Write a bundle. Weights of two and more dimensions are stored as float16, which halves the file.

    Vectors (the statistics of normalisation, biases) and the sigmoid neuron stay float32. Raises ModelError.
    """
    tensors = {
        BACKBONE_PREFIX + name: tensor.half().contiguous() if tensor.ndim > 1 else tensor.contiguous()
        for name, tensor in trunk.module.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    tensors |= {
        "dense.weight": torch.from_numpy(head.weight).half().contiguous(),
        "dense.bias": torch.from_numpy(head.bias),
        "output.weight": torch.tensor([[head.slope]]),
        "output.bias": torch.tensor([head.intercept]),
    }
    shape = len(head.bias), head.normalize
    card = ModelCard(name, trunk.name, trunk.preprocessing, *shape, provenance, metrics, head.shift)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        bundle = Bundle(folder.resolve(), card)
        write_file(bundle.weights_file, save(tensors))
        export_network(trunk.module, bundle)
        write_card(card, folder)  # the last one: it makes a bundle of the folder
    except OSError as error:
        raise ModelError(f"{folder} cannot be written ({error}): choose a place with room for the bundle") from error
    return bundle


class _DescribingNetwork(nn.Module):
    """From pictures uint8 (B, size, size, 3) to activations (B, C, h, w) and descriptors (B, C), both float32."""

    def __init__(self, backbone: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.backbone = backbone
        self._preprocessing = preprocessing

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        activations = self.backbone(to_input(pixels.permute(0, 3, 1, 2), self._preprocessing))
        return activations, activations.mean((2, 3))


def export_network(backbone: nn.Module, bundle: Bundle) -> Path:
    """Write `network.onnx` beside the weights of a bundle, to which it refers, and return its path.

    Raises OSError and ModelError.
    """
    try:
        model = _trace(backbone, bundle.card.preprocessing)
    except Exception as error:  # torch raises many kinds for a network that it cannot export
        raise ModelError(
            f"{bundle.card.backbone} cannot be exported ({first_line(error)}): give another one"
        ) from error
    _refer_to_weights(model.graph, bundle)
    helper.set_model_props(model, {"made_for": bundle.network_stamp})
    write_file(bundle.network_file, sealed(model.SerializeToString(deterministic=True)))
    return bundle.network_file


def _trace(backbone: nn.Module, preprocessing: Preprocessing) -> onnx.ModelProto:
    size = preprocessing.size
    device = next(backbone.parameters()).device
    graph = io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # this exporter is old, but keeps padding that depends on the picture's size
        torch.onnx.export(
            _DescribingNetwork(backbone, preprocessing).eval(),
            (torch.zeros(2, size, size, 3, dtype=torch.uint8, device=device),),
            graph,  # type: ignore[arg-type]  # a buffer serves as well as a path
            dynamo=False,
            opset_version=_OPSET,
            do_constant_folding=False,  # it would join weights, which are to be found under their names
            input_names=["pixels"],
            output_names=["activations", "descriptors"],
            dynamic_axes={
                "pixels": {0: "batch", 1: "height", 2: "width"},
                "activations": {0: "batch", 2: "rows", 3: "columns"},
                "descriptors": {0: "batch"},
            },
        )
    model = onnx.load_from_string(graph.getvalue())
    for axis in (1, 2):  # a fixed size compiles to a faster network
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size
    return model


def _refer_to_weights(graph: onnx.GraphProto, bundle: Bundle) -> None:
    """Replace the weights in a graph by references into the bundle's file, of which halves are cast to float32."""
    header = json.loads(bundle.weights_header)
    data = 8 + len(bundle.weights_header)
    tensors, casts = [], []
    for tensor in graph.initializer:
        entry = header.get(tensor.name)
        if entry is None or not tensor.name.startswith(BACKBONE_PREFIX):
            tensors.append(tensor)
            continue
        start, end = entry["data_offsets"]
        name = tensor.name
        if entry["dtype"] == "F16":
            name = f"{tensor.name} as stored"
            casts.append(helper.make_node("Cast", [name], [tensor.name], to=TensorProto.FLOAT))
        reference = TensorProto(
            name=name, data_type=_TYPES[entry["dtype"]], dims=entry["shape"], data_location=TensorProto.EXTERNAL
        )
        for key, value in {"location": bundle.weights_file.name, "offset": data + start, "length": end - start}.items():
            reference.external_data.add(key=key, value=str(value))
        tensors.append(reference)
    nodes = [*casts, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(tensors)
    graph.node.extend(nodes)
