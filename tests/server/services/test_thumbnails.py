import hashlib
import io
import os
from pathlib import Path

import pytest
from PIL import Image

from retrieval.common.errors import PictureError
from retrieval.server.errors import RequestRefused
from retrieval.server.services.thumbnails import ThumbnailCache
from retrieval.sources.location import PictureAddress
from tests.support.galleries import png, tar_of
from tests.support.generated import blocks


def save(file: Path, seed: int) -> bytes:
    """Save a picture; return its SHA-256."""
    Image.fromarray(blocks(seed)).save(file)
    return hashlib.sha256(file.read_bytes()).digest()


@pytest.fixture
def cache() -> ThumbnailCache:
    return ThumbnailCache(10**6)


def test_a_thumbnail_is_sent_only_while_its_file_is_there_and_unchanged(cache: ThumbnailCache, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    content = save(file, 1)
    made = cache.make(file, content, 224)
    assert cache.get(file, content, 224) == made
    assert cache.get(file, content, 448) is None
    before = file.stat()
    other = save(file, 2)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert cache.get(file, content, 224) is None
    with pytest.raises(RequestRefused, match="was changed"):
        cache.make(file, content, 224)
    assert cache.make(file, other, 224) != made
    save(file, 1)
    assert cache.make(file, content, 224) == made  # it is the same again
    file.unlink()
    for look in (cache.get, cache.make):
        with pytest.raises(RequestRefused, match="bring the store up to date"):
            look(file, content, 224)


def test_a_member_of_a_tar_goes_with_its_tar(cache: ThumbnailCache, tmp_path: Path) -> None:
    picture, tar = png(1), tmp_path / "b.tar"
    tar.write_bytes(tar_of(("a.png", picture)))
    content = hashlib.sha256(picture).digest()
    member = PictureAddress(f"tar:{tar}/a.png#512+{len(picture)}")
    assert Image.open(io.BytesIO(cache.make(member, content, 224))).format == "JPEG"
    assert cache.get(member, content, 224) is not None
    tar.unlink()
    with pytest.raises(RequestRefused, match="bring the store up to date"):
        cache.get(member, content, 224)


def test_a_file_that_cannot_be_decoded_is_named(cache: ThumbnailCache, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(PictureError, match=r"a\.png is not a picture"):
        cache.make(tmp_path / "a.png", hashlib.sha256(b"no picture").digest(), 224)


def test_the_least_recently_used_are_dropped(tmp_path: Path) -> None:
    content = [save(tmp_path / f"{number}.png", number) for number in range(3)]
    one = len(ThumbnailCache(10**6).make(tmp_path / "0.png", content[0], 224))
    cache = ThumbnailCache(2 * one + one // 2)
    for number in range(3):
        cache.make(tmp_path / f"{number}.png", content[number], 224)
    kept = [cache.get(tmp_path / f"{number}.png", content[number], 224) is not None for number in range(3)]
    assert kept == [False, True, True]
