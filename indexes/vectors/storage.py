"""The choice of storage for a store's index, as the catalogue's settings have it."""

import json
import secrets
from contextlib import closing
from pathlib import Path

from indexes.arrays import Ids
from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.database.consent import agree, require_agreement
from indexes.errors import StoreError
from indexes.vectors.base import IndexStorage
from indexes.vectors.faiss_file import delete_files
from indexes.vectors.faiss_storage import FaissStorage
from indexes.vectors.index_address import FAISS, MilvusAddress, parse_address
from indexes.vectors.milvus_connection import shared_connection
from indexes.vectors.milvus_storage import MilvusStorage

_INDEX, _OLD, _STORE = "index", "index_before", "store"  # settings of the catalogue


def index_address(catalogue: Catalogue) -> str:
    """Return the address of the store's index, as people write it."""
    return catalogue.settings.get(_INDEX) or FAISS


def open_storage(catalogue: Catalogue, fingerprint: str) -> IndexStorage:
    """Return the storage of the store's index for one model, for the caller to close. Raises StoreError."""
    return _storage_at(catalogue, fingerprint, index_address(catalogue))


def is_single_process(catalogue: Catalogue) -> bool:
    """Return whether the store's index is a file that only one process can open. Raises StoreError."""
    address = _parse(index_address(catalogue))
    return address is not None and address.file is not None


def check_address(text: str, folder: Path) -> None:
    """Check that a store in a folder, which need not exist yet, can keep its index at an address.

    Raises ValueError if it is not an address, and StoreError if no server answers there.
    """
    address = parse_address(text)
    if address is not None:
        server = shared_connection(address, folder)
        try:
            server.check()
        finally:
            server.release()


def set_storage(catalogue: Catalogue, fingerprint: str, text: str) -> None:
    """Keep the store's index at another address from now on. Raises StoreError if that cannot be used."""
    before = index_address(catalogue)
    if text == before:
        return
    catalogue.settings.set_defaults(**{_STORE: secrets.token_hex(8)})
    with closing(_storage_at(catalogue, fingerprint, text, is_given=True)) as storage:
        storage.list_generations()  # raises an error if the address cannot be used, or has others' collections
    agree(catalogue.folder, text)
    left = [each for each in (*_old_addresses(catalogue), before) if not _is_same_place(each, text, catalogue.folder)]
    catalogue.settings.set(**{_INDEX: text, _OLD: json.dumps(left)})


def clear_old_storages(catalogue: Catalogue, fingerprint: str) -> str | None:
    """Delete the index at its former addresses; return a sentence if that failed, else None.

    This is tried once, as a server that is gone for good is a reason to choose another.
    """
    left = _old_addresses(catalogue)
    if not left:
        return None
    catalogue.settings.set(**{_OLD: ""})
    failed: list[str] = []
    for before in left:
        try:
            _clear(catalogue, fingerprint, before)
        except StoreError as error:
            failed.append(f"the index that was at {before} could not be deleted there: {error}")
    return "; ".join(failed) or None


def _clear(catalogue: Catalogue, fingerprint: str, before: str) -> None:
    """Delete the index at a former address, unless the present one is the same server by another name."""
    if before == FAISS:
        delete_files(catalogue.folder)
        return
    with (
        closing(_storage_at(catalogue, fingerprint, before)) as former,
        closing(_storage_at(catalogue, fingerprint, index_address(catalogue))) as present,
    ):
        if not (
            isinstance(former, MilvusStorage) and isinstance(present, MilvusStorage) and former.is_same_place(present)
        ):
            former.clear()


def _old_addresses(catalogue: Catalogue) -> list[str]:
    """Return the former addresses whose indexes are not deleted yet."""
    value = catalogue.settings.get(_OLD) or ""
    if not value.startswith("["):  # a single address, as earlier versions wrote it
        return [value] if value else []
    try:
        return [str(each) for each in json.loads(value)]
    except (ValueError, TypeError, RecursionError):
        return []  # what is left there is not known any more


def _is_same_place(one: str, other: str, folder: Path) -> bool:
    a, b = _parse(one), _parse(other)
    return one == other if a is None or b is None else a.is_same_place(b, folder)


def _storage_at(catalogue: Catalogue, fingerprint: str, text: str, is_given: bool = False) -> IndexStorage:
    address = _parse(text)
    if address is None:
        return FaissStorage(catalogue.folder, fingerprint)
    if not is_given and not address.is_inside(catalogue.folder):
        require_agreement(catalogue.folder, text, "has its index at")

    def labels(ids: Ids) -> dict[int, str]:
        return {
            picture.id: picture.label for picture in catalogue.pictures.candidates(ids) if picture.label is not None
        }

    store = catalogue.settings.get(_STORE) or ""
    return MilvusStorage(shared_connection(address, catalogue.folder), catalogue.index_lock, store, fingerprint, labels)


def _parse(text: str) -> MilvusAddress | None:
    try:
        return parse_address(text)
    except ValueError as error:
        raise StoreError(str(error)) from error
