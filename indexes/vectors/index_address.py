"""Where a store's index is: FAISS files beside the catalogue, a Milvus server, or a file of milvus-lite."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

FAISS = "faiss"
_NAME = "retrieve"  # of the collections in a file, which no other program uses
_SERVER = re.compile(
    r"milvus(?P<tls>\+tls)?://(?P<host>[\w.-]+)(?::(?P<port>\d{1,5}))?/(?P<name>[a-z_]\w{0,199})", re.ASCII | re.I
)
_FILE = re.compile(r"milvus:(?P<file>(?!//)[^\0]*[^/\0]\.db)", re.DOTALL)


@dataclass(frozen=True)
class MilvusAddress:
    """A Milvus: `uri` of a server, or `file` of milvus-lite, relative to the store; `name` begins its collections'.

    `written` is how people write it, and how the store keeps it. There is no token in it.
    """

    text: str
    name: str
    uri: str | None = None
    file: str | None = None

    def is_same_place(self, other: MilvusAddress, folder: Path) -> bool:
        """Whether both lead to one place by their words, as a store in this folder reads them."""
        return self._identity(folder) == other._identity(folder)

    def _identity(self, folder: Path) -> tuple[str, str]:
        return (self.uri or "").lower(), self.name if self.file is None else os.path.realpath(folder / self.file)


def parse_address(text: str) -> MilvusAddress | None:
    """The address of a Milvus; None for FAISS. Raises ValueError with a sentence."""
    if text == FAISS:
        return None
    if found := _SERVER.fullmatch(text):
        scheme = "https" if found["tls"] else "http"
        return MilvusAddress(text, found["name"], uri=f"{scheme}://{found['host']}:{found['port'] or 19530}")
    if found := _FILE.fullmatch(text):
        return MilvusAddress(text, _NAME, file=found["file"])
    if "@" in text:
        raise ValueError("an address holds no user or token: put it into RETRIEVE_MILVUS_TOKEN")
    raise ValueError(
        f"{text!r} is no place for an index: give faiss, milvus://HOST:PORT/NAME, milvus+tls://HOST:PORT/NAME,"
        " or milvus:FILE.db"
    )
