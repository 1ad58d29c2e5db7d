"""The configuration of a server."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from retrieval.common.errors import RetrievalError

MAX_UPLOAD_MEGABYTES = 100
"""The largest picture file that is accepted: a photograph of 100 megapixels has 20 to 60 MB as JPEG."""

QUEUE = 32
"""Requests that may be in work at once; further ones get 503."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{8,200}")


@dataclass(frozen=True)
class ServerConfig:
    """Where a server listens and what it allows.

    Every request must carry `token`, unless it is None. `hosts` are further names under which the server may be
    called, `origins` the other sites whose pages may send requests. `uploads` is a folder for the pictures that are
    sent, None for one that ends with the server. `processes` share the requests.
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
        """Raise RetrievalError if others could send requests without a token, or a header cannot hold the token."""
        if self.token is None and not (is_loopback(self.host) and not self.hosts):
            raise RetrievalError(f"{self.host} is served to others: give a --token")
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise RetrievalError("the token must be 8 to 200 letters, digits and . _ ~ + / = -: give another --token")


def parse_address(host: str) -> IPv4Address | IPv6Address | None:
    """Return a host as an IP address; None if it is a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    address = parse_address(host)
    return host == "localhost" if address is None else address.is_loopback


def client_address(client: tuple[str, int] | None) -> str:
    """Return what counts as one client: an IPv4 address, or a network of IPv6 (/64), which one client may have."""
    host = client[0] if client else ""
    address = parse_address(host.partition("%")[0])
    return address.exploded[:19] if isinstance(address, IPv6Address) and not address.ipv4_mapped else host
