"""Addresses without their secrets, and whether a host is private."""

import re
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from socket import inet_aton
from urllib.parse import parse_qsl, urlsplit

from retrieval.common.errors import GalleryError

_SERVER_SCHEMES = "http", "https", "s3", "gs"
_USER = r"://(?!arn:|\[[^/@\]]*\](?:[:/]|$))[^/:@?#]*:"
_CREDENTIALS = re.compile(  # S3 secrets may contain slashes, and a number after them is no port
    rf"(?:(?:(?<=s3)|(?<=gs)|(?<=s3a)|(?<=gcs)){_USER}|{_USER}(?!\d{{1,5}}(?:/|$)))[^@]*@(?:[^/@]*@)*", re.IGNORECASE
)
_IPV4_EMBEDDING = ip_network("64:ff9b::/96"), ip_network("2002::/16")  # NAT64 and 6to4 lead to the IPv4 address inside


def host_of(address: str) -> str:
    """Return the server that an address names, empty if none is needed. Raises GalleryError if it is malformed."""
    try:
        parts = urlsplit(address)
        if parts.scheme in _SERVER_SCHEMES and not parts.hostname:
            raise ValueError("it names no server")
        if parts.scheme.startswith("http"):
            _ = parts.port  # raises ValueError if malformed; a bucket's name may have colons
        return parts.hostname or ""
    except ValueError as error:
        raise GalleryError(f"{redact(address)} is no address: {error}") from error


def require_no_secrets(address: str) -> None:
    """Raise GalleryError if an address has a password or a signature."""
    if _CREDENTIALS.search(address):
        raise GalleryError(f"{redact(address)} has a password, which a store does not keep: give it by the environment")
    if _is_signed(address):
        raise GalleryError(
            f"{redact(address)} is signed, for a limited time, and a store would keep the signature: give the address"
            " without it, and credentials by the environment"
        )


def _is_signed(address: str) -> bool:
    """Return whether a web address has a signature among its parameters, as presigned S3 and Azure addresses do."""
    if not address.lower().startswith("http"):
        return False
    names = {name.lower() for name, _ in parse_qsl(address.partition("?")[2])}
    return any(name.endswith("signature") for name in names) or ("sig" in names and bool(names & {"se", "sv"}))


def redact(text: str) -> str:
    """Return the text as it may be shown, without passwords and signatures."""
    text = _CREDENTIALS.sub("://…@", text)
    return f"{text.partition('?')[0]}?…" if _is_signed(text) else text


def is_private(address: str) -> bool:
    """Return whether an address names this machine or its private network, by IP address or by a local name."""
    host = host_of(address)
    with suppress(ImportError, ValueError):  # the host as the HTTP client sees it: Unicode has many digits and dots
        from yarl import URL

        host = URL(address).host or host
    host = host.lower().rstrip(".")
    number = _parse_ip(host)
    if number is not None:
        return not number.is_global or any(number in network for network in _IPV4_EMBEDDING)
    return host == "localhost" or host.endswith((".localhost", ".localdomain", ".local", ".internal"))


def _parse_ip(host: str) -> IPv4Address | IPv6Address | None:
    """Parse an IP address, in short (127.1) and numeric (0x7f000001) forms too; None if it is a name."""
    with suppress(ValueError):
        return ip_address(host)
    with suppress(OSError, ValueError):
        return ip_address(inet_aton(host))
    return None
