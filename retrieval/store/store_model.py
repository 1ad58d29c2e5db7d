"""The model that a store belongs to, found without what searches the store."""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.database.consent import agree, require_agreement
from indexes.catalogue.open_database import is_store
from indexes.errors import StoreError
from retrieval.common.errors import ModelError
from retrieval.common.progress import Progress
from retrieval.model.bundle import Bundle, find_bundle
from retrieval.model.encoder import Encoder
from retrieval.sources.location import CatalogueLocation, is_remote

_SERVER, _DISK = re.compile(r"[^/]*//[^/]*/?"), re.compile(r"(?:tar:)?(?:[a-zA-Z]:)?/")


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
        require_known_places(catalogue)
        encoder = open_encoder(catalogue, model, device, progress)
        on_error.pop_all()
    return catalogue, encoder


def require_known_places(catalogue: Catalogue) -> None:
    """Raise StoreError if the store has pictures on servers that this account has not agreed to.

    To all that is in a catalogue on a server it agrees with the server.
    """
    for place in _places(catalogue) if catalogue.address is None else ():
        require_agreement(catalogue.folder, place, "has pictures at")


def require_known_galleries(catalogue: Catalogue, galleries: Iterable[bytes]) -> None:
    """Raise StoreError if galleries that the store names are on servers that this account has not agreed to."""
    places = [place_of(gallery)[0] for gallery in galleries]
    for place in filter(None, places if catalogue.address is None else ()):
        require_agreement(catalogue.folder, place, "has a gallery at")


def agree_to_galleries(store: Path, galleries: Iterable[bytes]) -> None:
    """Keep that the store may read the places of these galleries, which somebody has given."""
    agree(store, *filter(None, (place_of(gallery)[0] for gallery in galleries)))


def _places(catalogue: Catalogue) -> Iterator[str]:
    """Yield each server or list of the store's pictures, by a few seeks of the index of paths."""
    start = b""
    while (path := catalogue.pictures.first_path(start)) is not None:
        place, prefix = place_of(path)
        if place is not None:
            yield place
        start = prefix[:-1] + b"0" if prefix.endswith(b"/") else path + b"\0"  # `0` follows `/`


def place_of(path: bytes) -> tuple[str | None, bytes]:
    """Return the server or list that a path of the catalogue leads to, None for this disk, and how such paths begin."""
    location = CatalogueLocation.parse(path)
    begin = _SERVER if is_remote(location.source) else _DISK
    match = begin.match(location.source)
    prefix = location.list_prefix + (match[0] if match else "")
    place = (location.list_prefix or prefix).rstrip("/") if is_remote(location.source) else None
    return place, os.fsencode(prefix)


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
