"""Bring the store up to date beside the serving: an engine of its own, one run at a time."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from threading import Thread

from indexes.errors import StoreError
from retrieval.engine import Engine
from retrieval.errors import RetrievalError
from retrieval.serving.terms import Refused


class Indexer:
    """Runs `Engine.index` over the known galleries; `open_engine` gives it an engine."""

    def __init__(self, open_engine: Callable[[], Engine]) -> None:
        self._open = open_engine
        self._thread: Thread | None = None
        self.error: str | None = None

    def start(self) -> None:
        """Begin. Raises Refused where a run goes on."""
        if self._thread is not None and self._thread.is_alive():
            raise Refused(HTTPStatus.CONFLICT, "an indexing goes on already: wait until it has finished")
        self.error = None
        self._thread = Thread(target=self._run, name="indexer", daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether a run goes on."""
        return self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        try:
            engine = self._open()
            try:
                engine.index()
            finally:
                engine.close()
        except (RetrievalError, StoreError, OSError) as error:
            self.error = str(error)
