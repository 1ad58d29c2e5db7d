"""Where a store's index is kept, as its catalogue says: chosen, opened, and left."""

from __future__ import annotations

import json
import secrets
from contextlib import closing
from pathlib import Path

from indexes.arrays import Ids
from indexes.catalogue.catalogue import Catalogue
from indexes.errors import StoreError
from indexes.vectors.base import IndexHome
from indexes.vectors.faiss_file import delete_files
from indexes.vectors.faiss_storage import FaissHome
from indexes.vectors.index_address import FAISS, Address, parse
from indexes.vectors.milvus_connection import server_at
from indexes.vectors.milvus_storage import MilvusHome

_INDEX, _BEFORE, _STORE = "index", "index_before", "store"  # settings of the catalogue


def index_address(catalogue: Catalogue) -> str:
    """Where the store's index is, as people write it."""
    return catalogue.setting(_INDEX) or FAISS


def home_of(catalogue: Catalogue, fingerprint: str) -> IndexHome:
    """The home of the store's index for one model, to be closed in the end. Raises StoreError."""
    return _home(catalogue, fingerprint, index_address(catalogue))


def is_for_one_process(catalogue: Catalogue) -> bool:
    """Whether the store's index is a file that one process at a time can open. Raises StoreError."""
    address = _parsed(index_address(catalogue))
    return address is not None and address.file is not None


def check_address(written: str, folder: Path) -> None:
    """See that a store in that folder, which need not be made yet, may keep its index there.

    Raises ValueError where it is no address, and StoreError where nobody answers there.
    """
    address = parse(written)
    if address is not None:
        server = server_at(address, folder)
        try:
            server.check()
        finally:
            server.release()


def choose_home(catalogue: Catalogue, fingerprint: str, written: str) -> None:
    """Keep the store's index there from now on, where that can be used. Raises StoreError."""
    before = index_address(catalogue)
    if written == before:
        return
    catalogue.settle(**{_STORE: secrets.token_hex(8)})
    home = _home(catalogue, fingerprint, written)
    if isinstance(home, MilvusHome):
        with closing(home):
            home.check()
    left = [each for each in (*_left(catalogue), before) if not _is_place(each, written, catalogue.folder)]
    catalogue.set_settings(**{_INDEX: written, _BEFORE: json.dumps(left)})


def leave_former_home(catalogue: Catalogue, fingerprint: str) -> str | None:
    """Clear the places where the index was before it was chosen anew: a sentence where that failed, or None.

    It is tried once, as a place that is gone for good is a reason to choose another.
    """
    left = _left(catalogue)
    if not left:
        return None
    catalogue.set_settings(**{_BEFORE: ""})
    failed: list[str] = []
    for before in left:
        try:
            _clear(catalogue, fingerprint, before)
        except StoreError as error:
            failed.append(f"the index that was at {before} could not be deleted there: {error}")
    return "; ".join(failed) or None


def _clear(catalogue: Catalogue, fingerprint: str, before: str) -> None:
    """Delete what is at a former place, unless the present one turns out to be the same by another name."""
    if before == FAISS:
        delete_files(catalogue.folder)
        return
    with (
        closing(_home(catalogue, fingerprint, before)) as former,
        closing(_home(catalogue, fingerprint, index_address(catalogue))) as present,
    ):
        if not (isinstance(former, MilvusHome) and isinstance(present, MilvusHome) and former.is_same(present)):
            former.clear()


def _left(catalogue: Catalogue) -> list[str]:
    """The places that the index was at, and that are not cleared yet."""
    kept = catalogue.setting(_BEFORE) or ""
    if not kept.startswith("["):  # as it was kept when it was one
        return [kept] if kept else []
    left: list[str] = json.loads(kept)
    return left


def _is_place(one: str, other: str, folder: Path) -> bool:
    a, b = _parsed(one), _parsed(other)
    return one == other if a is None or b is None else a.is_place(b, folder)


def _home(catalogue: Catalogue, fingerprint: str, written: str) -> IndexHome:
    address = _parsed(written)
    if address is None:
        return FaissHome(catalogue.folder, fingerprint)

    def labels(ids: Ids) -> dict[int, str]:
        return {picture.id: picture.label for picture in catalogue.candidates(ids) if picture.label is not None}

    store = catalogue.setting(_STORE) or ""
    return MilvusHome(server_at(address, catalogue.folder), catalogue.turn, store, fingerprint, labels)


def _parsed(written: str) -> Address | None:
    try:
        return parse(written)
    except ValueError as error:
        raise StoreError(str(error)) from error
