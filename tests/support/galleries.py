"""Galleries in folders, tars and buckets, and the rows that they become."""

import io
import os
import tarfile
from pathlib import Path

from PIL import Image

from indexes.catalogue.catalogue import Catalogue
from retrieval.engine import Engine
from tests.support.generated import blocks

_PICTURES = 40


def png(seed: int) -> bytes:
    """Return a picture's file."""
    file = io.BytesIO()
    Image.fromarray(blocks(seed)).save(file, "PNG")
    return file.getvalue()


def tar_of(*members: tuple[str, bytes]) -> bytes:
    """Return a tar of these files."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def rows(engine: Engine) -> dict[str, str | None]:
    """Every picture that is there, with its label."""
    catalogue = engine.catalogue
    ids = [ids for ids, _ in catalogue.descriptors.all(engine.bundle.fingerprint)]
    return {os.fsdecode(each.path): each.label for some in ids for each in catalogue.pictures.candidates(some)}


def make_gallery(folder: Path, seed: int, count: int = _PICTURES) -> Path:
    """Different pictures in class folders, and at the end one more copy of the first and a broken one."""
    for number in range(count):
        place = folder / f"class-{number % 3}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(blocks(10_000 * seed + number)).save(place / f"{number:03}.png")
    (folder / "copy.png").write_bytes((folder / "class-0" / "000.png").read_bytes())
    (folder / "broken.jpg").write_text("no picture")
    return folder


def contents(store: Path) -> dict[bytes, tuple[str | None, bytes]]:
    """Path, label and descriptor of every picture in a store, none of them twice."""
    catalogue = Catalogue(store)
    fingerprint = catalogue.settings.get("fingerprint")
    assert fingerprint is not None
    rows = [
        (picture.path, (picture.label, vector.tobytes()))
        for ids, vectors in catalogue.descriptors.all(fingerprint)
        for picture, vector in zip(catalogue.pictures.candidates(ids), vectors, strict=True)
    ]
    found = dict(rows)
    assert (
        len(found)
        == len(rows)
        == catalogue.pictures.count()
        == sum(count.pictures for count in catalogue.scans.root_counts())
    )
    catalogue.close()
    return found


def failures(store: Path) -> list[tuple[bytes, str]]:
    catalogue = Catalogue(store)
    found = catalogue.scans.failures()
    catalogue.close()
    return found
