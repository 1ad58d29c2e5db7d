"""Blocks of files on their way to a worker and back: what goes out, what comes back, and how both are packed."""

from __future__ import annotations

import hashlib
import os
import pickle
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrieval.pictures import PictureInfo
from retrieval.walk import Found

_LIBRARIES = ("numpy", "openvino", "pillow", "pillow-heif")

BLOCK = 32  # files that go to a worker at once, and are done again where it is lost; their descriptors fit a message


@dataclass(frozen=True)
class Work:
    """What a worker must know: the model, by what a store finds it, and as what it must know it; its device and cores.

    `program` is the digest of the program that it must be, and `megapixels` the driver's limit.
    """

    model: str
    fingerprint: str
    program: str
    device: str
    cores: int
    megapixels: str


class Done(NamedTuple):
    """A file after a worker has read it: its content's SHA-256, what is known of the picture, its descriptor (C,).

    Both are None where another file of the same content has them. The descriptor is float16, as a store keeps it.
    """

    hash: bytes
    info: PictureInfo | None = None
    vector: NDArray[np.float16] | None = None


class Broken(NamedTuple):
    """A file that cannot be used, and why; its content's SHA-256 where it could be read; whether that `passes`."""

    reason: str
    hash: bytes | None = None
    is_out_of_reach: bool = False
    passes: bool = False


@dataclass(frozen=True)
class Block:
    """Files with a number of their own; `losses` is how many workers were lost over them."""

    number: int
    packed: bytes = field(repr=False)
    losses: int = 0

    @property
    def files(self) -> list[Found]:
        found: list[Found] = unpacked(self.packed)
        return found


@dataclass(frozen=True)
class Answer:
    """What came back of a block: each of its files in order; or why this worker can do none, in a sentence."""

    number: int
    node: str
    files: list[Done | Broken] = field(default_factory=list)
    refusal: str | None = None


def packed(thing: object) -> bytes:
    """As it travels: only between processes of one cluster, which run each other's code in any case."""
    return pickle.dumps(thing, pickle.HIGHEST_PROTOCOL)


def unpacked(data: bytes) -> Any:
    """What was packed."""
    return pickle.loads(data)  # noqa: S301  # from our own workers, through Ray, which pickles likewise


@cache
def program() -> str:
    """A digest of this program's sources, and the libraries that decide what it reads: a worker must have the same."""
    digest = hashlib.sha256("\0".join(version(name) for name in _LIBRARIES).encode())
    project = Path(__file__).parent.parent
    for file in sorted(file for folder in ("retrieval", "indexes") for file in (project / folder).rglob("*.py")):
        digest.update(os.fsencode(file.relative_to(project)) + b"\0" + file.read_bytes())
    return digest.hexdigest()
