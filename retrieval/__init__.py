"""Image retrieval that shows its reasons.

    from retrieval import Engine, load_model

All names are loaded on first use, so that importing this package costs nothing; only `load_model` needs torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from indexes.errors import MissingPackageError

if TYPE_CHECKING:
    from indexes.errors import StoreError as StoreError
    from indexes.errors import UserError as UserError
    from retrieval.common.errors import GalleryError as GalleryError
    from retrieval.common.errors import ModelError as ModelError
    from retrieval.common.errors import PictureError as PictureError
    from retrieval.common.settings import ExplainOptions as ExplainOptions
    from retrieval.common.settings import MethodName as MethodName
    from retrieval.engine import Engine as Engine
    from retrieval.explain.correspondence import Correspondence as Correspondence
    from retrieval.explain.explanation import Explanation as Explanation
    from retrieval.explain.explanation import Heatmaps as Heatmaps
    from retrieval.explain.hit import Hit as Hit
    from retrieval.explain.verification import Verification as Verification
    from retrieval.model.preprocessing import SeenPart as SeenPart
    from retrieval.model.siamese import load_model as load_model
    from retrieval.rendering.illustration import HitList as HitList
    from retrieval.store.duplicates.groups import Duplicates as Duplicates
    from retrieval.store.duplicates.search import DuplicateRules as DuplicateRules
    from retrieval.store.indexing.report import IndexReport as IndexReport
    from retrieval.store.status import StoreStatus as StoreStatus

__all__ = [
    "Correspondence",
    "DuplicateRules",
    "Duplicates",
    "Engine",
    "ExplainOptions",
    "Explanation",
    "GalleryError",
    "Heatmaps",
    "Hit",
    "HitList",
    "IndexReport",
    "MethodName",
    "ModelError",
    "PictureError",
    "SeenPart",
    "StoreError",
    "StoreStatus",
    "UserError",
    "Verification",
    "load_model",
]
__version__ = "0.2.0"

_MODULES = {
    "Correspondence": "retrieval.explain.correspondence",
    "DuplicateRules": "retrieval.store.duplicates.search",
    "Duplicates": "retrieval.store.duplicates.groups",
    "Engine": "retrieval.engine",
    "ExplainOptions": "retrieval.common.settings",
    "Explanation": "retrieval.explain.explanation",
    "GalleryError": "retrieval.common.errors",
    "Heatmaps": "retrieval.explain.explanation",
    "Hit": "retrieval.explain.hit",
    "HitList": "retrieval.rendering.illustration",
    "IndexReport": "retrieval.store.indexing.report",
    "MethodName": "retrieval.common.settings",
    "ModelError": "retrieval.common.errors",
    "PictureError": "retrieval.common.errors",
    "SeenPart": "retrieval.model.preprocessing",
    "StoreError": "indexes.errors",
    "StoreStatus": "retrieval.store.status",
    "UserError": "indexes.errors",
    "Verification": "retrieval.explain.verification",
    "load_model": "retrieval.model.siamese",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'retrieval' has no attribute {name!r}")
    try:
        return getattr(import_module(_MODULES[name]), name)
    except ModuleNotFoundError as error:
        raise MissingPackageError(f"{name} needs PyTorch", "train") from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
