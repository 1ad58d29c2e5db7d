"""Blocks of files on their way to a worker and back: what goes out, what comes back, and how both are packed."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import retrieval
from retrieval.common.settings import installed_version
from retrieval.model.preprocessing import PictureInfo
from retrieval.sources.entries import PictureFile
from retrieval.sources.files import memory_bytes

BLOCK_SIZE = (
    32  # files that go to a worker at once, and are done again where it is lost; their descriptors fit a message
)
_MAX_BYTES = 2**26  # of them that a worker holds at once, of each of the blocks that it is at
_SOURCES = ("retrieval", "indexes")
_LIBRARIES = ("numpy", "pillow", "pillow-heif", "openvino")  # which decode and embed


@dataclass(frozen=True)
class WorkerConfig:
    """What a worker must know: the model, by what a store finds it, and as what it must know it; its device and cores.

    `program` is the digest of the program that it must be, `libraries` their versions, `megapixels` the driver's limit.
    """

    model: str
    fingerprint: str
    program: str
    libraries: dict[str, str]
    device: str
    cores: int
    megapixels: str


class Embedded(NamedTuple):
    """A file that a worker brings back: its content's SHA-256, what is known of the picture, its descriptor (C,).

    Both are None where another file of the same content has them. The descriptor is float16, as a store keeps it.
    """

    hash: bytes
    info: PictureInfo | None = None
    vector: NDArray[np.float16] | None = None


class Failed(NamedTuple):
    """A file that cannot be used, and why; its content's SHA-256 where it could be read; whether that `passes`."""

    reason: str
    hash: bytes | None = None
    is_out_of_reach: bool = False
    is_transient: bool = False


@dataclass(frozen=True)
class Block:
    """Files with a number of their own.

    `doubts` is how many workers were lost while others had blocks too, `losses` how many over these files alone.
    """

    number: int
    packed: bytes = field(repr=False)
    shared_losses: int = 0
    own_losses: int = 0

    @property
    def files(self) -> list[PictureFile]:
        found: list[PictureFile] = unpack(self.packed)
        return found


@dataclass(frozen=True)
class BlockResult:
    """What came back of a block: each of its files in order; or why this worker can do none, in a sentence."""

    number: int
    node: str
    files: list[Embedded | Failed] = field(default_factory=list)
    refusal: str | None = None


def split_blocks(files: Iterable[PictureFile], most: int = BLOCK_SIZE) -> Iterator[list[PictureFile]]:
    """These files in their order, at most so many at once, of which no more is held in memory than 64 MB, or one."""
    some: list[PictureFile] = []
    held = 0
    for found in files:
        if some and (len(some) >= most or held + memory_bytes(found) > _MAX_BYTES):
            yield some
            some, held = [], 0
        some.append(found)
        held += memory_bytes(found)
    if some:
        yield some


def pack(thing: object) -> bytes:
    """As it travels: only between processes of one cluster, which run each other's code in any case."""
    return pickle.dumps(thing, pickle.HIGHEST_PROTOCOL)


def unpack(data: bytes) -> Any:
    """What was packed."""
    return pickle.loads(data)  # noqa: S301  # from our own workers, through Ray, which pickles likewise


@cache
def program_digest() -> str:
    """A digest of this program's sources: workers whose program is another one are refused."""
    digest = hashlib.sha256()
    above = Path(str(retrieval.__file__)).parents[1]
    for file in sorted(file for folder in _SOURCES for file in (above / folder).rglob("*.py")):
        digest.update(file.relative_to(above).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


@cache
def library_versions() -> dict[str, str]:
    """The versions of what decodes and embeds; `unknown` where it is not installed as a package."""
    return {name: installed_version(name) for name in _LIBRARIES}
