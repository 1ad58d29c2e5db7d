"""Blocks of files on their way to a worker, and its results on their way back."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import retrieval
from retrieval.common.settings import installed_version
from retrieval.model.preprocessing import PictureInfo
from retrieval.sources.entries import PictureFile
from retrieval.sources.files import memory_bytes

BLOCK_SIZE = 32
"""Files sent to a worker at once, and repeated if it is lost; their descriptors fit one message."""

SHARED_LOSSES = 2
"""Losses of workers after which each file of a block is done alone: any of its files, or none, may be the cause."""

_MAX_BYTES = 2**26  # in memory of a worker, for each of the blocks that it works on
_SOURCES = ("retrieval", "indexes")
_LIBRARIES = ("numpy", "pillow", "pillow-heif", "openvino")  # which decode and embed


@dataclass(frozen=True)
class WorkerConfig:
    """Settings of a worker: the model's name or folder and its fingerprint, device and number of cores.

    The worker must have the same `program` (a digest of the sources) and `libraries` (their versions) as the driver.
    `megapixels` is the driver's limit for pictures.
    """

    model: str
    fingerprint: str
    program: str
    libraries: dict[str, str]
    device: str
    cores: int
    megapixels: str


class Embedded(NamedTuple):
    """A readable file: the SHA-256 of its content, the picture's properties and its descriptor (C,) in float16.

    Both are None if an earlier file of the block has the same content, or the content is known.
    """

    hash: bytes
    info: PictureInfo | None = None
    vector: NDArray[np.float16] | None = None


class Failed(NamedTuple):
    """A file that cannot be used, and the reason; the SHA-256 of its content if it could be read."""

    reason: str
    hash: bytes | None = None
    is_out_of_reach: bool = False
    is_transient: bool = False


@dataclass(frozen=True)
class Block:
    """Files for one worker; `losses` counts the workers that were lost with them.

    With `ignore_known`, contents are embedded even if the worker takes them for known. A block without files only
    waits until its worker has started.
    """

    files: list[PictureFile]
    losses: int = 0
    ignore_known: bool = False

    @property
    def is_suspect(self) -> bool:
        """Whether it is a file that may be the cause of lost workers."""
        return bool(self.files) and self.losses >= SHARED_LOSSES


@dataclass(frozen=True)
class BlockResult:
    """The results of a block's files, in order; or a sentence that says why the worker on `node` cannot work."""

    node: str
    files: list[Embedded | Failed] = field(default_factory=list)
    refusal: str | None = None


def split_blocks(files: Iterable[PictureFile]) -> Iterator[list[PictureFile]]:
    """Split files, in order, into lists of at most 32 that hold at most 64 MB in memory, or a single file."""
    block: list[PictureFile] = []
    held = 0
    for file in files:
        if block and (len(block) >= BLOCK_SIZE or held + memory_bytes(file) > _MAX_BYTES):
            yield block
            block, held = [], 0
        block.append(file)
        held += memory_bytes(file)
    if block:
        yield block


def content_key(content: bytes) -> int:
    """Return the first 64 bits of a SHA-256: enough to guess that a content is known, which the driver verifies."""
    return int.from_bytes(content[:8], "little")


def content_keys(hashes: NDArray[np.bytes_]) -> NDArray[np.uint64]:
    """Return the keys of SHA-256 hashes (N,), sorted, each once."""
    return np.unique(hashes.astype("S32").view("<u8").reshape(-1, 4)[:, 0])


@cache
def program_digest() -> str:
    """Return a digest of this program's sources; workers that run another program are refused."""
    digest = hashlib.sha256()
    parent = Path(str(retrieval.__file__)).parents[1]
    for file in sorted(file for folder in _SOURCES for file in (parent / folder).rglob("*.py")):
        digest.update(file.relative_to(parent).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


@cache
def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that decode and embed; `unknown` if not installed as a package."""
    return {name: installed_version(name) for name in _LIBRARIES}
