"""A training's state as one safetensors file: tensors by name, and plain values as JSON in the file's metadata."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from retrieval.common.atomic_files import write_atomically
from retrieval.common.errors import ModelError

_KEY = "training"


def write_checkpoint(
    file: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer, metadata: Any
) -> None:
    """Write the state of modules and optimizer, with `metadata` (JSON values). Raises RetrievalError."""
    tensors = {
        f"{name}.{key}": tensor.detach().cpu().contiguous()
        for name, module in modules.items()
        for key, tensor in module.state_dict().items()
    }
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{key}": value.detach().cpu().contiguous() for key, value in state.items()}
    write_atomically(file, save(tensors, {_KEY: json.dumps(metadata)}))


def read_checkpoint(file: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> Any:
    """Restore modules and optimizer from the file, and return its metadata. Raises ModelError."""
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = json.loads(opened.metadata()[_KEY])
            tensors = {
                key.replace(".began_as.", ".initial_dense."): opened.get_tensor(key)  # the name in earlier versions
                for key in opened.keys()  # noqa: SIM118
            }
        for name, module in modules.items():
            module.load_state_dict(_with_prefix(tensors, name))
        states: dict[int, dict[str, Tensor]] = {}
        for key, tensor in _with_prefix(tensors, "optimizer").items():
            number, _, name = key.partition(".")
            states.setdefault(int(number), {})[name] = tensor
        optimizer.load_state_dict(optimizer.state_dict() | {"state": states})
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(
            f"{file} is not a checkpoint of this training ({reason}): train anew in another folder"
        ) from error
    for parameter, state in optimizer.state.items():  # restore the parameter's memory format
        state |= {
            name: torch.empty_like(parameter).copy_(value)
            for name, value in state.items()
            if value.shape == parameter.shape
        }
    return metadata


def _with_prefix(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}
