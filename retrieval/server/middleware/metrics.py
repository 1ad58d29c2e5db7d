"""Metrics for Prometheus, served at /metrics."""

import asyncio
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_CLIENT_LEFT = 499  # as other servers count it
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Metrics of one process in a registry of its own, or of all processes that share a folder.

    The metrics of several processes are files, which prometheus_client keeps in the folder that the environment's
    PROMETHEUS_MULTIPROC_DIR names when it is imported: that must be `folder`. Counts of a process that has ended
    stay; its requests in work do not.
    """

    def __init__(
        self, in_work: Callable[[], int], waiting: Callable[[], int], pictures: Callable[[], int], folder: Path | None
    ) -> None:
        local = CollectorRegistry()
        self._registry = local
        if folder is not None:
            self._registry = CollectorRegistry()
            MultiProcessCollector(self._registry, os.fspath(folder))  # type: ignore[no-untyped-call]
        self._requests = Counter(
            "retrieve_requests", "Requests answered.", ("route", "method", "status"), registry=local
        )
        self._seconds = Histogram(
            "retrieve_request_seconds",
            "From a request to the end of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=local,
        )
        gauge = partial(Gauge, registry=local, multiprocess_mode="livesum")
        self._work = [
            (gauge("retrieve_requests_in_work", "Requests that hold a place in the queue."), in_work),
            (gauge("retrieve_jobs_waiting", "Jobs that wait for the engine."), waiting),
        ]
        self._pictures = gauge("retrieve_pictures", "Pictures in the store.", multiprocess_mode="livemostrecent")
        self._count_pictures = pictures

    def publish(self) -> None:
        """Write what is in work in this process, for the others to read."""
        for gauge, value in self._work:
            gauge.set(value())

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        self.publish()
        self._pictures.set(self._count_pictures())
        return generate_latest(self._registry)

    def record(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)


class MetricsMiddleware:
    """ASGI middleware that counts answers by route, not by address: addresses are unbounded."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def send_and_note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_note_status)
        except (asyncio.CancelledError, ClientDisconnect):
            status = _CLIENT_LEFT
            raise
        finally:
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in _METHODS else "OTHER"
            self._metrics.record(route, method, status, time.perf_counter() - started)


_METHODS = frozenset(("GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH"))
