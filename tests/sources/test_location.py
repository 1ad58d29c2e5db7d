"""Addresses and paths of the catalogue: recognised, made canonical, and parsed into tars and lists."""

import re
from pathlib import Path, PureWindowsPath

import pytest

from retrieval.common.errors import GalleryError
from retrieval.sources.gallery import gallery_from_address
from retrieval.sources.location import (
    CatalogueLocation,
    PictureAddress,
    canonical,
    catalogue_path,
    display_location,
    folder_name,
    gallery_name,
    is_address,
    member_path,
    parse_location,
)
from retrieval.sources.url_safety import is_private


@pytest.mark.parametrize(
    "text", ["s3://b/k.jpg", "HTTPS://host/x", "tar:/a/b.tar", "tar:C:/b.tar", "memory://a", "abfs://c/x"]
)
def test_addresses(text: str) -> None:
    assert is_address(text)


@pytest.mark.parametrize(
    "text", ["/a/b.jpg", "a.jpg", "tar:b", "C:/x", "C:\\x", "s3:/b/k", "://x", "a://", "", "/x/s3://y"]
)
def test_paths(text: str) -> None:
    assert not is_address(text)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("s3://bucket/key/", "s3://bucket/key"),
        ("S3A://bucket/Key", "s3://bucket/Key"),
        ("gcs://bucket//", "gs://bucket"),
        ("https://ada@host:81/a?b=c", "https://ada@host:81/a?b=c"),
    ],
)
def test_addresses_are_made_canonical(address: str, expected: str) -> None:
    assert canonical(address) == expected


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("https://ada:secret@host/a", "https://…@host/a has a password"),
        ("s3://AKIA:sec/secret@bucket/a", "s3://…@bucket/a has a password"),
        ("https://host/a.jpg?X-Amz-Signature=secret&x=1", "https://host/a.jpg?… is signed"),
        ("https://host/a.jpg?se=2030&sig=secret", "https://host/a.jpg?… is signed"),
        ("https://host/a.jpg?sv=2022&sig=secret&si=readers", "https://host/a.jpg?… is signed"),
        ("https://ada:se@secret@host/a", "https://…@host/a has a password"),
        ("https://ad[a:secret@host/a", "https://…@host/a has a password"),
        ("s3://AKIA:12/secret@bucket/a", "s3://…@bucket/a has a password"),
        ("http://[secret/a.jpg", "http://[secret/a.jpg is no address"),
    ],
)
def test_secrets_are_refused_and_not_shown(address: str, message: str) -> None:
    with pytest.raises(GalleryError, match=f"^{re.escape(message)}") as caught:
        canonical(address)
    assert "secret" not in str(caught.value) or "no address" in message


@pytest.mark.parametrize(
    "address",
    [
        "http://host:8080/x@2x.jpg",
        "s3://bucket/a:b@c.jpg",
        "s3://bucket/12:3/b@c.jpg",
        "s3://arn:aws:s3:eu-west-1:123:accesspoint/pictures/x@2x.jpg",
        "http://[::1]:80/x@2x.jpg",
        "https://h/?sig=left",
    ],
)
def test_addresses_without_secrets_are_kept(address: str) -> None:
    assert canonical(address) == address


@pytest.mark.parametrize("address", ["http://h:99999/a", "http://h:eighty/a", "http:///a", "s3:///a", "GCS:///a"])
def test_an_address_needs_a_server(address: str) -> None:
    with pytest.raises(GalleryError, match="is no address"):
        canonical(address)


def test_doubled_slashes_become_one() -> None:
    assert gallery_from_address("https://h/a.txt//b//") == b"https://h/a.txt/b"
    assert gallery_from_address("https://h/get?of=http://i//k.txt") == b"list:https://h/get?of=http://i/k.txt"


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("http://127.0.0.1/a", True),
        ("http://[::1]:80/a", True),
        ("http://169.254.169.254/latest", True),
        ("http://10.1.2.3/a", True),
        ("http://localhost:8000/a", True),
        ("http://2130706433/a", True),
        ("http://printer.local/a", True),
        ("http://127.1/a", True),
        ("http://0x7f000001/a", True),
        ("http://0177.0.0.1/a", True),
        ("http://[::ffff:10.0.0.7]/a", True),
        ("http://[64:ff9b::7f00:1]/a", True),
        ("http://1.1.1.1/a", False),
        ("https://pictures.example/a", False),
    ],
)
def test_private_servers_are_recognised(address: str, private: bool) -> None:
    assert is_private(address) == private


@pytest.mark.parametrize("host", ["１２７.0.0.1", "127。0.0.1", "\U0001fbf1\U0001fbf2\U0001fbf7.0.0.1"])
def test_private_servers_are_recognised_in_all_digits_that_the_client_reads(host: str) -> None:
    pytest.importorskip("yarl")
    assert is_private(f"http://{host}/a")


@pytest.mark.parametrize(
    ("path", "location"),
    [
        (b"/a/b.jpg", Path("/a/b.jpg")),
        (b"/a/\xff.jpg", Path("/a/\udcff.jpg")),
        (b"s3://b//k e y#?.jpg", PictureAddress("s3://b//k e y#?.jpg")),
        (b"tar:/a/b.tar/x.jpg#512+10", PictureAddress("tar:/a/b.tar/x.jpg#512+10")),
        (b"list:/a/l.txt//c/d.jpg", Path("/c/d.jpg")),
        (b"list:/a.txt/l.txt/s3://b/k.jpg", PictureAddress("s3://b/k.jpg")),
        (b"list:https://h.txt/l.txt/https://i/m.txt/k.jpg", PictureAddress("https://i/m.txt/k.jpg")),
        (b"list:/a/l.txt/tar:/b.tar/x.jpg#512+10", PictureAddress("tar:/b.tar/x.jpg#512+10")),
        (b"list:s3://b/l.txt/s3://b/c.tar/x.jpg#512+10", PictureAddress("s3://b/c.tar/x.jpg#512+10")),
    ],
)
def test_a_path_of_the_catalogue_is_parsed(path: bytes, location: Path | PictureAddress) -> None:
    assert parse_location(path) == location
    assert type(parse_location(path)) is type(location)


def test_the_path_of_a_member_has_the_range_of_its_bytes() -> None:
    path = member_path(b"s3://b/c.TAR", b"d/\xff\n#1.jpg", 512, 99)
    source = "s3://b/c.TAR/d/\udcff\n#1.jpg#512+99"
    assert CatalogueLocation.parse(path) == CatalogueLocation("", source, "s3://b/c.TAR", "d/\udcff\n#1.jpg", 512, 99)
    local = "tar:/a/b.tar/x.jpg#0+1"
    assert CatalogueLocation.parse(local) == CatalogueLocation("", local, "/a/b.tar", "x.jpg", 0, 1)
    assert CatalogueLocation.parse(f"list:/l.txt/{local}") == CatalogueLocation(
        "list:/l.txt/", local, "/a/b.tar", "x.jpg", 0, 1
    )
    assert CatalogueLocation.parse("s3://b/c.tar") == CatalogueLocation("", "s3://b/c.tar")
    assert CatalogueLocation.parse("/a/b.tar/x.jpg#0+1") == CatalogueLocation("", "/a/b.tar/x.jpg#0+1")


def test_names_to_show() -> None:
    member = PictureAddress("s3://b/c.tar/d/x.y.jpg#512+10")
    assert (member.name, member.stem, member.parent) == ("x.y.jpg", "x.y", "s3://b/c.tar/d")
    assert display_location(member) == "s3://b/c.tar/d/x.y.jpg"
    assert display_location(Path("/a")) == Path("/a")
    assert gallery_name(b"list:/a/l.txt") == "/a/l.txt"
    assert gallery_name(b"tar:/a/b.tar") == "/a/b.tar"
    assert gallery_name(b"s3://b") == "s3://b"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("s3://b/cats/k.jpg", "cats"),
        ("https://h/red%20shoes/k.jpg", "red shoes"),
        ("https://h/k.jpg", ""),
        ("/a/b/k.jpg", "b"),
    ],
)
def test_the_name_of_the_folder(text: str, name: str) -> None:
    assert folder_name(text) == name


@pytest.mark.parametrize(
    ("path", "tar"),
    [
        (b"s3://b/c.tar/d/x.jpg#512+10", b"s3://b/c.tar"),
        (b"tar:/a/\xff.tar/x.jpg#512+10", b"tar:/a/\xff.tar"),
        (b"list:/a/l.txt/tar:/b.tar/x.jpg#512+10", b"list:/a/l.txt/tar:/b.tar"),
        (b"tar:C:/a.tar/x.jpg#512+10", b"tar:C:/a.tar"),
        (b"list:C:/l.txt/tar:D:/b.tar/x.jpg#512+10", b"list:C:/l.txt/tar:D:/b.tar"),
        (b"s3://b/c.tar", None),
        (b"/a/b.tar/x.jpg#512+10", None),  # a folder of this name
    ],
)
def test_the_tar_that_contains_a_path(path: bytes, tar: bytes | None) -> None:
    assert CatalogueLocation.parse(path).tar_path == tar


@pytest.mark.parametrize(
    ("path", "kept"),
    [("C:\\a\\\u00fc.jpg", "C:/a/\u00fc.jpg"), ("D:\\", "D:/"), ("\\\\server\\share\\a.jpg", "//server/share/a.jpg")],
)
def test_the_catalogue_keeps_paths_of_windows_with_slashes(path: str, kept: str) -> None:
    assert catalogue_path(PureWindowsPath(path)) == kept.encode()
    listed = CatalogueLocation.parse(b"list:C:/l.txt/" + kept.encode())
    assert (listed.list_prefix, listed.source) == ("list:C:/l.txt/", kept)
