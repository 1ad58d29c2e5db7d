"""Serve in several processes that share a socket, uploads, figures and the turn to index."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from prometheus_client.multiprocess import mark_process_dead

from retrieval.server.config import ServerConfig
from retrieval.server.processes.listening import address, listen
from retrieval.server.processes.supervisor import Supervisor
from retrieval.server.processes.worker import EngineFactory, serve_in_worker
from retrieval.server.shared_folders import shared_folders


def serve_in_processes(
    engines: EngineFactory, config: ServerConfig, on_ready: Callable[[str], None], on_death: Callable[[str], None]
) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP.

    `on_ready` is given the address to open once all processes answer, `on_death` a sentence where one of them died.
    Raises RetrievalError.
    """
    with listen(config) as listening, shared_folders(config.uploads) as shared:

        def died(process: int | None, sentence: str) -> None:
            if process is not None:
                mark_process_dead(process, shared.metrics)  # type: ignore[no-untyped-call]
            on_death(sentence)

        task = partial(serve_in_worker, engines, config, shared, listening)
        Supervisor(config.processes, task, died).run(lambda: on_ready(address(config, listening.getsockname()[1])))
