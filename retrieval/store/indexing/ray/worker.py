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

from retrieval.common.errors import ModelError, PassingError, PictureError, RetrievalError
from retrieval.model.bundle import find_bundle
from retrieval.model.inference import Network, open_network
from retrieval.model.preprocessing import PictureInfo, Pixels, load
from retrieval.sources.entries import Found
from retrieval.sources.files import File, fetch_ahead, hashed
from retrieval.sources.object_store import answering
from retrieval.store.indexing.ray.messages import Answer, Broken, Brought, Work, libraries, packed, program, unpacked

Hashed = tuple[File, bytes]
"""A file, open at its start, and its content's SHA-256."""

Decoded = tuple[bytes, Pixels, PictureInfo] | Brought | Broken
"""A content's SHA-256 with its picture, to be embedded; or what is brought back as it is."""


class Worker:
    """Several blocks at once, each on a thread that Ray gives: while one is embedded, the readers decode another.

    It raises nothing of ours: a broken file is told in its place, and where none can be done, why. So Ray does again
    only what was lost.
    """

    def __init__(self, work: dict[str, Any], desk: Any) -> None:
        self._desk = desk
        self._refusal: str | None = None
        desk.enrol.remote(ray.get_runtime_context().current_actor)
        try:
            self._open(work)
        except RetrievalError as error:
            self._refusal = _refused(error)

    def _open(self, settings: dict[str, Any]) -> None:
        if settings.get("program") != program():
            raise ModelError("its program is not the driver's: install the same version on every machine")
        work = Work(**settings)
        for name, theirs in work.libraries.items():
            if libraries()[name] != theirs:
                raise ModelError(
                    f"its {name} is {libraries()[name]} and the driver's {theirs}: install one version on every machine"
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
        return {"answer": [packed(self._answer(int(number), files)) for number, files in blocks]}

    def _answer(self, number: int, files: bytes) -> Answer:
        node = socket.gethostname()
        if self._refusal:
            return Answer(number, node, refusal=self._refusal)
        try:
            return Answer(number, node, self._embedded(self._prepared(number, unpacked(files))))
        except RetrievalError as error:
            return Answer(number, node, refusal=_refused(error))

    def _prepared(self, number: int, files: Iterable[Found]) -> list[Decoded]:
        """Read, hash and decode; what was fetched is let go in the end."""
        with ExitStack() as open_files:
            read = list(self._readers.map(lambda found: self._opened(found, open_files), fetch_ahead(files)))
            wanted = self._wanted(number, [each[1] for each in read if not isinstance(each, Broken)])
            first = {each[1]: place for place, each in reversed(list(enumerate(read))) if not isinstance(each, Broken)}
            is_mine = [
                not isinstance(each, Broken) and first[each[1]] == place and each[1] in wanted
                for place, each in enumerate(read)
            ]
            return list(self._readers.map(self._decoded, read, is_mine))

    def _opened(self, found: Found, open_files: ExitStack) -> Hashed | Broken:
        try:
            with answering():
                return open_files.enter_context(hashed(found))
        except PictureError as error:
            return Broken(error.reason, is_out_of_reach=True, passes=isinstance(error, PassingError))

    def _wanted(self, number: int, contents: list[bytes]) -> set[bytes]:
        """Those that nobody knows and nobody else embeds."""
        if not contents:
            return set()
        is_wanted: list[bool] = ray.get(self._desk.ask.remote(number, contents))
        return {content for content, wanted in zip(contents, is_wanted, strict=True) if wanted}

    def _decoded(self, read: Hashed | Broken, is_mine: bool) -> Decoded:
        if isinstance(read, Broken):
            return read
        file, content = read
        if not is_mine:
            return Brought(content)
        try:
            return content, *load(file, self._size)
        except PictureError as error:
            return Broken(error.reason, content)

    def _embedded(self, decoded: list[Decoded]) -> list[Brought | Broken]:
        pixels = [each[1] for each in decoded if not isinstance(each, Brought | Broken)]
        vectors = iter(self._network.describe(pixels).astype(np.float16) if pixels else ())
        return [
            each if isinstance(each, Brought | Broken) else Brought(each[0], each[2], next(vectors)) for each in decoded
        ]


def _refused(error: RetrievalError) -> str:
    return f"a worker on {socket.gethostname()} cannot work: {error}"
