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
class Address:
    """A Milvus: `uri` of a server, or `file` of milvus-lite, relative to the store; `name` begins its collections'.

    `written` is how people write it, and how the store keeps it. There is no token in it.
    """

    written: str
    name: str
    uri: str | None = None
    file: str | None = None

    def is_place(self, other: Address, folder: Path) -> bool:
        """Whether both lead to one place by their words, as a store in this folder reads them."""
        return self._place(folder) == other._place(folder)

    def _place(self, folder: Path) -> tuple[str, str]:
        return (self.uri or "").lower(), self.name if self.file is None else os.path.realpath(folder / self.file)


def parse(written: str) -> Address | None:
    """The address of a Milvus; None for FAISS. Raises ValueError with a sentence."""
    if written == FAISS:
        return None
    if found := _SERVER.fullmatch(written):
        scheme = "https" if found["tls"] else "http"
        return Address(written, found["name"], uri=f"{scheme}://{found['host']}:{found['port'] or 19530}")
    if found := _FILE.fullmatch(written):
        return Address(written, _NAME, file=found["file"])
    if "@" in written:
        raise ValueError("an address holds no user or token: put it into RETRIEVE_MILVUS_TOKEN")
    raise ValueError(
        f"{written!r} is no place for an index: give faiss, milvus://HOST:PORT/NAME, milvus+tls://HOST:PORT/NAME,"
        " or milvus:FILE.db"
    )
