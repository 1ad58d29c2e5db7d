"""The worker of an indexing on Ray: an actor that holds the network, and reads, decodes and embeds blocks of files."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np
import ray

from retrieval.common.errors import ModelError, PictureError, RetrievalError, TransientPictureError
from retrieval.model.bundle import find_bundle
from retrieval.model.inference import Network, open_network
from retrieval.model.preprocessing import PictureInfo, Pixels, read_at_size
from retrieval.sources.entries import PictureFile
from retrieval.sources.files import BinaryFile, open_and_hash, prefetch
from retrieval.sources.object_store import abort_if_unreachable
from retrieval.store.indexing.ray.messages import (
    BlockResult,
    Embedded,
    Failed,
    WorkerConfig,
    library_versions,
    pack,
    program_digest,
    unpack,
)

HashedFile = tuple[BinaryFile, bytes]
"""A file, open at its start, and its content's SHA-256."""

PreparedFile = tuple[bytes, Pixels, PictureInfo] | Embedded | Failed
"""A content's SHA-256 with its picture, to be embedded; or what is brought back as it is."""


class Worker:
    """Several blocks at once, each on a thread that Ray gives: while one is embedded, the readers decode another.

    It raises nothing of ours: a broken file is told in its place, and where none can be done, why. So Ray does again
    only what was lost.
    """

    def __init__(self, work: dict[str, Any], coordinator: Any) -> None:
        self._coordinator = coordinator
        self._refusal: str | None = None
        coordinator.enrol.remote(ray.get_runtime_context().current_actor)
        try:
            self._open(work)
        except RetrievalError as error:
            self._refusal = _refusal_text(error)

    def _open(self, settings: dict[str, Any]) -> None:
        if settings.get("program") != program_digest():
            raise ModelError("its program is not the driver's: install the same version on every machine")
        work = WorkerConfig(**settings)
        for name, theirs in work.libraries.items():
            if library_versions()[name] != theirs:
                raise ModelError(
                    f"its {name} is {library_versions()[name]} and the driver's {theirs}: install one version"
                    " on every machine"
                )
        os.environ["RETRIEVE_MAX_MEGAPIXELS"] = work.megapixels
        bundle = find_bundle(work.model)
        if bundle.fingerprint != work.fingerprint:
            raise ModelError(f"its model {work.model} is not the driver's: copy the bundle to the same path there")
        self._size = bundle.card.preprocessing.size
        self._readers = ThreadPoolExecutor(work.cores, thread_name_prefix="reader")
        self._network: Network = open_network(bundle, work.device, cores=work.cores)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Rows of `number` and packed `files` become rows of packed `answer`."""
        blocks = zip(batch["number"], batch["files"], strict=True)
        return {"answer": [pack(self._process(int(number), files)) for number, files in blocks]}

    def _process(self, number: int, files: bytes) -> BlockResult:
        node = socket.gethostname()
        if self._refusal:
            return BlockResult(number, node, refusal=self._refusal)
        try:
            return BlockResult(number, node, self._embed(self._prepare(number, unpack(files))))
        except RetrievalError as error:
            return BlockResult(number, node, refusal=_refusal_text(error))

    def _prepare(self, number: int, files: Iterable[PictureFile]) -> list[PreparedFile]:
        """Read, hash and decode; what was fetched is let go in the end."""
        with ExitStack() as open_files:
            read = list(self._readers.map(lambda found: self._open_file(found, open_files), prefetch(files)))
            wanted = self._to_embed(number, [each[1] for each in read if not isinstance(each, Failed)])
            first = {each[1]: place for place, each in reversed(list(enumerate(read))) if not isinstance(each, Failed)}
            is_mine = [
                not isinstance(each, Failed) and first[each[1]] == place and each[1] in wanted
                for place, each in enumerate(read)
            ]
            return list(self._readers.map(self._decode, read, is_mine))

    def _open_file(self, file: PictureFile, open_files: ExitStack) -> HashedFile | Failed:
        try:
            with abort_if_unreachable():
                return open_files.enter_context(open_and_hash(file))
        except PictureError as error:
            return Failed(error.reason, is_out_of_reach=True, is_transient=isinstance(error, TransientPictureError))

    def _to_embed(self, number: int, contents: list[bytes]) -> set[bytes]:
        """Those that nobody knows and nobody else embeds."""
        if not contents:
            return set()
        is_wanted: list[bool] = ray.get(self._coordinator.ask.remote(number, contents))
        return {content for content, wanted in zip(contents, is_wanted, strict=True) if wanted}

    def _decode(self, read: HashedFile | Failed, should_embed: bool) -> PreparedFile:
        if isinstance(read, Failed):
            return read
        file, content = read
        if not should_embed:
            return Embedded(content)
        try:
            return content, *read_at_size(file, self._size)
        except PictureError as error:
            return Failed(error.reason, content)

    def _embed(self, decoded: list[PreparedFile]) -> list[Embedded | Failed]:
        pixels = [each[1] for each in decoded if not isinstance(each, Embedded | Failed)]
        vectors = iter(self._network.describe(pixels).astype(np.float16) if pixels else ())
        return [
            each if isinstance(each, Embedded | Failed) else Embedded(each[0], each[2], next(vectors))
            for each in decoded
        ]


def _refusal_text(error: RetrievalError) -> str:
    return f"a worker on {socket.gethostname()} cannot work: {error}"
