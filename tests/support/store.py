"""A gallery with all that may lie in one, indexed once for the tests that only ask it."""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tests.support.command import retrieve_here
from tests.support.generated import CLASSES, PICTURES_A_CLASS, blocks

ODD_NAMES = (b"caf\xe9 \xff.png", b"two\nlines.png", b"[red]<b>&.png", b"[/red].png")
"""No UTF-8; a line break; what Rich and HTML take for markup; a folder and a file that Rich takes for its end."""

BROKEN_NAME = b"[red]broken\n\xff.jpg"


@dataclass(frozen=True)
class Indexed:
    """A store beside its gallery, and what the run that made it printed."""

    folder: Path
    said: str

    @property
    def gallery(self) -> Path:
        return self.folder / "gallery"

    @property
    def store(self) -> Path:
        return self.folder / ".retrieve"

    @property
    def picture(self) -> Path:
        """One of the gallery's pictures, wide: 160 x 100."""
        return self.gallery / CLASSES[0] / "0.png"

    def odd(self, name: bytes) -> bytes:
        """Return the path of a picture with an odd name."""
        return os.path.join(os.fsencode(self.gallery), b"odd", name)

    def copy(self, folder: Path) -> Path:
        """Return a copy of the store that may be changed; its pictures are the same."""
        return Path(shutil.copytree(self.store, folder))


def make_indexed(folder: Path) -> Indexed:
    """Pictures in class folders, odd names, and two files that are no pictures, indexed as a person does."""
    gallery = folder / "gallery"
    for number, name in enumerate(CLASSES):
        (gallery / name).mkdir(parents=True)
        for place in range(PICTURES_A_CLASS):
            Image.fromarray(blocks(100 * number + place, 160, 100)).save(gallery / name / f"{place}.png")
    is_linux = sys.platform == "linux"  # elsewhere not every name can be given
    for number, odd in enumerate(ODD_NAMES if is_linux else ODD_NAMES[-1:]):
        path = Path(os.fsdecode(os.path.join(os.fsencode(gallery), b"odd", odd)))
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(blocks(1000 + number)).save(path)
    (gallery / "odd" / "empty.jpg").touch()
    broken = BROKEN_NAME if is_linux else b"broken.jpg"
    Path(os.fsdecode(os.path.join(os.fsencode(gallery), b"odd", broken))).write_text("no picture")
    done = retrieve_here("index", gallery, "--store", folder / ".retrieve")
    assert done.returncode == 0, done.stderr.decode()
    return Indexed(folder, done.stdout.decode())
