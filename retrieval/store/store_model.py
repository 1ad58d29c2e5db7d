"""The model that a store belongs to, found without what searches the store."""

from contextlib import ExitStack
from pathlib import Path

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.open_database import is_store
from indexes.errors import StoreError
from retrieval.common.errors import ModelError
from retrieval.common.progress import Progress
from retrieval.model.bundle import Bundle, find_bundle
from retrieval.model.encoder import Encoder


def is_initialized(store: Path, address: str | None) -> bool:
    """Return whether the store has a model, so that it must be opened, not made."""
    if address is None and not is_store(store):
        return False
    with Catalogue(store, address=address) as catalogue:
        return catalogue.settings.get("model") is not None


def open_catalogue(store: Path, model: str | None, device: str, progress: Progress) -> tuple[Catalogue, Encoder]:
    """Open an existing store's catalogue, with the encoder of its own model, or of another one if that fits."""
    with ExitStack() as on_error:
        catalogue = on_error.enter_context(Catalogue(store))
        encoder = open_encoder(catalogue, model, device, progress)
        on_error.pop_all()
    return catalogue, encoder


def open_encoder(catalogue: Catalogue, model: str | None, device: str, progress: Progress) -> Encoder:
    """Return the encoder of a store's own model, or of another one if that fits the store."""
    stored_name = catalogue.settings.get("model")
    if stored_name is None:
        raise StoreError(f"{catalogue.folder} has nothing indexed yet: run `retrieve index GALLERY`")
    bundle = find_bundle(model or stored_name)
    check_model(catalogue, bundle)
    return Encoder(bundle, device, progress)


def check_model(catalogue: Catalogue, bundle: Bundle) -> None:
    """Raise StoreError if the store holds another model's vectors: no search may mix the vectors of two models."""
    if catalogue.settings.get("fingerprint") != bundle.fingerprint:
        if catalogue.settings.get("model") == stored_name(bundle, bundle.card.name):
            raise StoreError(
                f"{catalogue.folder} was indexed with other weights of the model {bundle.card.name} than are there now:"
                " put those back, or index the gallery again into another --store"
            )
        raise StoreError(
            f"{catalogue.folder} was indexed with another model ({catalogue.settings.get('model')}) than"
            f" {bundle.card.name}: give that model with --model, or index the gallery again into another --store"
        )


def stored_name(bundle: Bundle, name: str) -> str:
    """Return the name by which a store finds its model again: the folder if it is not shipped with the package."""
    stored = name if bundle.is_shipped else str(bundle.folder)
    try:
        stored.encode()
    except UnicodeEncodeError as error:
        raise ModelError(f"the model's folder {bundle.folder} has a name that is not UTF-8: rename it") from error
    return stored
