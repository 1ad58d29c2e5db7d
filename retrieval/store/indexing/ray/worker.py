"""The worker of an indexing on Ray: an actor that holds the network, and reads, decodes and embeds blocks of files."""

import os
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.common.errors import ModelError, PictureError, RetrievalError, TransientPictureError
from retrieval.model.bundle import find_bundle
from retrieval.model.inference import Network, open_network
from retrieval.model.preprocessing import PictureInfo, Pixels, read_at_size
from retrieval.sources.entries import PictureFile
from retrieval.sources.files import HashedFile, open_and_hash, prefetch
from retrieval.sources.object_store import abort_if_unreachable
from retrieval.store.indexing.ray.messages import (
    Block,
    BlockResult,
    Embedded,
    Failed,
    WorkerConfig,
    content_key,
    library_versions,
    program_digest,
)

PreparedFile = tuple[bytes, Pixels, PictureInfo] | Embedded | Failed
"""The SHA-256 of a content with its picture, to be embedded; or a result as it is."""


class Worker:
    """An actor that works on several blocks at once, each on a thread of Ray's.

    While one block is embedded, the readers decode another. Contents whose keys are in `known`, uint64 (N,) and
    sorted, are only hashed. No error of ours is raised: a broken file has a result of its own, and a worker that
    cannot work refuses. So Ray's errors are losses of workers.
    """

    def __init__(self, settings: dict[str, Any], known: NDArray[np.uint64]) -> None:
        self._known = known
        self._refusal: str | None = None
        try:
            self._open(settings)
        except RetrievalError as error:
            self._refusal = _refusal_text(error)

    def _open(self, settings: dict[str, Any]) -> None:
        if settings.get("program") != program_digest():
            raise ModelError("its program is not the driver's: install the same version on every machine")
        config = WorkerConfig(**settings)
        for name, expected in config.libraries.items():
            if library_versions()[name] != expected:
                raise ModelError(
                    f"its {name} is {library_versions()[name]} and the driver's {expected}: install one version"
                    " on every machine"
                )
        os.environ["RETRIEVE_MAX_MEGAPIXELS"] = config.megapixels
        bundle = find_bundle(config.model)
        if bundle.fingerprint != config.fingerprint:
            raise ModelError(f"its model {config.model} is not the driver's: copy the bundle to the same path there")
        self._size = bundle.card.preprocessing.size
        self._readers = ThreadPoolExecutor(config.cores, thread_name_prefix="reader")
        self._network: Network = open_network(bundle, config.device, cores=config.cores)

    def process(self, block: Block) -> BlockResult:
        """Read, decode and embed the files of a block."""
        node = socket.gethostname()
        if self._refusal:
            return BlockResult(node, refusal=self._refusal)
        try:
            return BlockResult(node, self._embed(self._prepare(block)))
        except RetrievalError as error:
            return BlockResult(node, refusal=_refusal_text(error))

    def _prepare(self, block: Block) -> list[PreparedFile]:
        """Read, hash and decode; fetched contents are released at the end."""
        with ExitStack() as open_files:
            files = list(self._readers.map(lambda file: self._open_file(file, open_files), prefetch(block.files)))
            return list(self._readers.map(self._decode, files, self._should_embed(files, block.ignore_known)))

    def _open_file(self, file: PictureFile, open_files: ExitStack) -> HashedFile | Failed:
        try:
            with abort_if_unreachable():
                return open_files.enter_context(open_and_hash(file))
        except PictureError as error:
            return Failed(error.reason, is_out_of_reach=True, is_transient=isinstance(error, TransientPictureError))

    def _should_embed(self, files: Iterable[HashedFile | Failed], ignore_known: bool) -> list[bool]:
        """Choose the first file of each content that is not known."""
        seen: set[bytes] = set()
        chosen: list[bool] = []
        for file in files:
            content = b"" if isinstance(file, Failed) else file.hash
            is_new = content not in seen and (ignore_known or not self._is_known(content))
            chosen.append(is_new and not isinstance(file, Failed))
            seen.add(content)
        return chosen

    def _is_known(self, content: bytes) -> bool:
        key = np.uint64(content_key(content))
        row = int(np.searchsorted(self._known, key))
        return row < len(self._known) and bool(self._known[row] == key)

    def _decode(self, file: HashedFile | Failed, should_embed: bool) -> PreparedFile:
        if isinstance(file, Failed):
            return file
        if not should_embed:
            return Embedded(file.hash)
        try:
            decoded = read_at_size(file.stream, self._size)
            file.check_unchanged()
        except PictureError as error:
            is_transient = isinstance(error, TransientPictureError)
            return Failed(error.reason, None if is_transient else file.hash, is_transient=is_transient)
        return file.hash, *decoded

    def _embed(self, files: list[PreparedFile]) -> list[Embedded | Failed]:
        pixels = [file[1] for file in files if not isinstance(file, Embedded | Failed)]
        vectors = iter(self._network.describe(pixels).astype(np.float16) if pixels else ())
        return [
            file if isinstance(file, Embedded | Failed) else Embedded(file[0], file[2], next(vectors)) for file in files
        ]


def _refusal_text(error: RetrievalError) -> str:
    return f"a worker on {socket.gethostname()} cannot work: {error}"
