"""Serve in several processes that share a socket, uploads, figures and the turn to index."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from prometheus_client.multiprocess import mark_process_dead

from retrieval.server.config import Terms
from retrieval.server.processes.listening import address, listen
from retrieval.server.processes.supervisor import Keeper
from retrieval.server.processes.worker import Opening, serve_in_child
from retrieval.server.shared_folders import common


def serve_in_processes(
    opening: Opening, terms: Terms, on_ready: Callable[[str], None], on_death: Callable[[str], None]
) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP.

    `on_ready` is given the address to open once all processes answer, `on_death` a sentence where one of them died.
    Raises RetrievalError.
    """
    with listen(terms) as listening, common(terms.uploads) as shared:

        def died(process: int | None, sentence: str) -> None:
            if process is not None:
                mark_process_dead(process, shared.metrics)  # type: ignore[no-untyped-call]
            on_death(sentence)

        task = partial(serve_in_child, opening, terms, shared, listening)
        Keeper(terms.processes, task, died).run(lambda: on_ready(address(terms, listening.getsockname()[1])))
