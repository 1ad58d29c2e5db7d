"""Image retrieval that shows its reasons.

    from retrieval import Engine, load_model

Both names are loaded on first use: `Engine` needs no torch, `load_model` does.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retrieval.engine import Engine as Engine
    from retrieval.model.siamese import load_model as load_model

__all__ = ["Engine", "load_model"]


def __getattr__(name: str) -> Any:
    if name == "Engine":
        from retrieval.engine import Engine

        return Engine
    if name == "load_model":
        from retrieval.model.siamese import load_model

        return load_model
    raise AttributeError(f"module 'retrieval' has no attribute {name!r}")
