"""Image retrieval that shows its reasons.

    from retrieval import Engine, load_model

Both names are loaded on first use: `Engine` needs no torch, `load_model` does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retrieval.engine import Engine as Engine
    from retrieval.model.siamese import load_model as load_model

__all__ = ["Engine", "load_model"]

_MODULES = {"Engine": "retrieval.engine", "load_model": "retrieval.model.siamese"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'retrieval' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
