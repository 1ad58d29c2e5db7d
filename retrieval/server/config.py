"""How a server is set up, and what it refuses."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from retrieval.common.errors import RetrievalError

MAX_UPLOAD_MEGABYTES = 100
"""A picture file with more is refused: a photograph of 100 megapixels has 20 to 60 as JPEG."""

QUEUE = 32
"""Requests that may be in work at once; the next one is told to come again."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{8,200}")

UPLOAD_SECONDS = 60.0
"""How long a picture may take to arrive."""


@dataclass(frozen=True)
class ServerConfig:
    """Where a server listens and what it allows.

    `token` is what every request must bring, None where none is needed. `hosts` are further names under which the
    server may be called, `origins` the sites whose pages may ask it (none unless named). `uploads` is a folder for
    pictures that are sent, None for one that ends with the server. `processes` share the requests.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    max_upload: int = MAX_UPLOAD_MEGABYTES * 1_000_000
    queue: int = QUEUE
    uploads: Path | None = None
    processes: int = 1

    @property
    def slots(self) -> int:
        """Requests that may be in work at once in one process."""
        return -(-self.queue // self.processes)

    def __post_init__(self) -> None:
        """Raise RetrievalError where others could ask without a token, or the token is none that a header can hold."""
        if self.token is None and not (is_loopback(self.host) and not self.hosts):
            raise RetrievalError(f"{self.host} is served to others: give a --token")
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise RetrievalError("the token has other characters than letters, digits and . _ ~ + / = -: give another")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
