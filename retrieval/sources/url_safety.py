"""Addresses without their secrets, and whether a host is private."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from socket import inet_aton
from urllib.parse import parse_qsl, urlsplit

from retrieval.common.errors import GalleryError

_SERVER_SCHEMES = "http", "https", "s3", "gs"
_USER = r"://(?!arn:|\[[^/@\]]*\](?:[:/]|$))[^/:@?#]*:"
CREDENTIALS = re.compile(  # a secret of S3's may have slashes, and there a number is no port
    rf"(?:(?:(?<=s3)|(?<=gs)|(?<=s3a)|(?<=gcs)){_USER}|{_USER}(?!\d{{1,5}}(?:/|$)))[^@]*@(?:[^/@]*@)*", re.IGNORECASE
)
_IPV4_EMBEDDING = (
    ip_network("64:ff9b::/96"),
    ip_network("2002::/16"),
)  # which lead to the numbers that they end or begin with


def host_of(address: str) -> str:
    """The server that an address names. Raises GalleryError where it is none."""
    try:
        parts = urlsplit(address)
        if parts.scheme in _SERVER_SCHEMES and not parts.hostname:
            raise ValueError("it names no server")
        if parts.scheme.startswith("http"):
            _ = parts.port  # raises where it is none; a bucket's name may have colons
        return parts.hostname or ""
    except ValueError as error:
        raise GalleryError(f"{redact(address)} is no address: {error}") from error


def is_signed(address: str) -> bool:
    if not address.lower().startswith("http"):
        return False
    names = {name.lower() for name, _ in parse_qsl(address.partition("?")[2])}
    return any(name.endswith("signature") for name in names) or ("sig" in names and bool(names & {"se", "sv"}))


def redact(text: str) -> str:
    """What is said of an address, without a password or a signature."""
    text = CREDENTIALS.sub("://…@", text)
    return f"{text.partition('?')[0]}?…" if is_signed(text) else text


def is_private(address: str) -> bool:
    """Whether an address names this machine, or one of a network of its own, by number or as `localhost`."""
    host = _effective_host(address).rstrip(".")
    number = _parse_ip(host)
    if number is not None:
        return not number.is_global or any(number in network for network in _IPV4_EMBEDDING)
    return host == "localhost" or host.endswith((".localhost", ".localdomain", ".local", ".internal"))


def _effective_host(address: str) -> str:
    """The server of a web address, as what opens it will call it: digits may be written in many ways."""
    host = host_of(address)
    try:
        from yarl import URL

        return (URL(address).host or host).lower()
    except (ImportError, ValueError):
        return host


def _parse_ip(host: str) -> IPv4Address | IPv6Address | None:
    """The number that a server is named by, in short (127.1) or as one (0x7f000001) too."""
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return ip_address(inet_aton(host))
    except (OSError, ValueError):
        return None
