"""The address of a store's index: FAISS files beside the catalogue, a Milvus server, or a file of milvus-lite."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

FAISS = "faiss"
_NAME = "retrieve"  # begins the collections' names in a file, which no other program uses
_SERVER = re.compile(
    r"milvus(?P<tls>\+tls)?://(?P<host>[\w.-]+)(?::(?P<port>\d{1,5}))?/(?P<name>[a-z_]\w{0,199})", re.ASCII | re.I
)
_FILE = re.compile(r"milvus:(?P<file>(?!//)[^\0]*[^/\0]\.db)", re.DOTALL)


@dataclass(frozen=True)
class MilvusAddress:
    """The address of a Milvus: a server's `uri`, or a `file` of milvus-lite, relative to the store.

    `name` begins its collections' names; `text` is the address as people write it and the store keeps it, without a
    token.
    """

    text: str
    name: str
    uri: str | None = None
    file: str | None = None

    def is_same_place(self, other: MilvusAddress, folder: Path) -> bool:
        """Return whether both addresses, as a store in this folder resolves them, are equal."""
        return self._identity(folder) == other._identity(folder)

    def is_inside(self, folder: Path) -> bool:
        """Return whether this is a file in a store's folder."""
        if self.file is None:
            return False
        return Path(os.path.realpath(folder / self.file)).is_relative_to(os.path.realpath(folder))

    def _identity(self, folder: Path) -> tuple[str, str]:
        return (self.uri or "").lower(), self.name if self.file is None else os.path.realpath(folder / self.file)


def parse_address(text: str) -> MilvusAddress | None:
    """Parse the address of a Milvus; None for FAISS. Raises ValueError with a sentence."""
    if text == FAISS:
        return None
    if match := _SERVER.fullmatch(text):
        scheme = "https" if match["tls"] else "http"
        return MilvusAddress(text, match["name"], uri=f"{scheme}://{match['host']}:{match['port'] or 19530}")
    if match := _FILE.fullmatch(text):
        return MilvusAddress(text, _NAME, file=match["file"])
    if "@" in text:
        raise ValueError("an address has no user or token: put it into RETRIEVE_MILVUS_TOKEN")
    raise ValueError(
        f"{text!r} is not the address of an index: give faiss, milvus://HOST:PORT/NAME, milvus+tls://HOST:PORT/NAME,"
        " or milvus:FILE.db"
    )
