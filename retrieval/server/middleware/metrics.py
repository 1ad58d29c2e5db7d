"""What Prometheus reads at /metrics."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Figures of one server, in a registry of its own; with a folder, of all processes that keep theirs in it.

    The figures of several processes are files, which prometheus_client keeps where the environment's
    PROMETHEUS_MULTIPROC_DIR says as it is imported: that must name the folder. Those of a process that has ended count
    on, but for what it had in work.
    """

    def __init__(
        self, in_work: Callable[[], int], waiting: Callable[[], int], pictures: Callable[[], int], folder: Path | None
    ) -> None:
        own = CollectorRegistry()
        self._registry = own
        if folder is not None:
            self._registry = CollectorRegistry()
            MultiProcessCollector(self._registry, os.fspath(folder))  # type: ignore[no-untyped-call]
        self._requests = Counter("retrieve_requests", "Requests answered.", ("route", "method", "status"), registry=own)
        self._seconds = Histogram(
            "retrieve_request_seconds",
            "From a request to the end of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=own,
        )
        self._work = [
            (_gauge("retrieve_requests_in_work", "Requests that hold a place in the queue.", "livesum", own), in_work),
            (_gauge("retrieve_jobs_waiting", "Jobs that wait for the engine.", "livesum", own), waiting),
        ]
        self._pictures = _gauge("retrieve_pictures", "Pictures in the store.", "livemostrecent", own), pictures

    def publish(self) -> None:
        """Tell the other processes what is in work here."""
        for gauge, value in self._work:
            gauge.set(value())

    def render(self) -> bytes:
        """All of it in Prometheus' text format."""
        self.publish()
        gauge, count = self._pictures
        gauge.set(count())
        return generate_latest(self._registry)

    def record(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)


def _gauge(
    name: str, help_: str, over_processes: Literal["livesum", "livemostrecent"], own: CollectorRegistry
) -> Gauge:
    return Gauge(name, help_, registry=own, multiprocess_mode=over_processes)


class MetricsMiddleware:
    """ASGI middleware that counts each answer under its route, not its address, of which there are any number."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sent)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in _METHODS else "OTHER"
            self._metrics.record(route, method, status, time.perf_counter() - started)


_METHODS = frozenset(("GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH"))
