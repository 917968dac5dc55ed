"""What Prometheus may ask for."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_ROWS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counts of one server, by endpoint."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "deepsparse_requests", "Requests answered", ["endpoint", "status"], registry=self._registry
        )
        self.texts = Counter("deepsparse_texts", "Texts classified", ["endpoint"], registry=self._registry)
        self.seconds = Histogram(
            "deepsparse_request_seconds",
            "From a request read to its answer made",
            ["endpoint"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.batches = Histogram(
            "deepsparse_batch_texts",
            "Texts computed together",
            ["endpoint"],
            buckets=_ROWS,
            registry=self._registry,
        )
        self._waiting = Gauge(
            "deepsparse_waiting_texts", "Texts that wait", ["endpoint"], registry=self._registry
        )
        self._served = Gauge(
            "deepsparse_endpoint", "Endpoints served", ["endpoint", "engine"], registry=self._registry
        )

    def add_endpoint(self, name: str, engine: str, waiting: Callable[[], float]) -> None:
        """Begin to count for an endpoint."""
        self._served.labels(name, engine).set(1)
        self._waiting.labels(name).set_function(waiting)

    def remove_endpoint(self, name: str, engine: str) -> None:
        """Forget what is true of a running endpoint only; its counts stay."""
        self._served.remove(name, engine)
        self._waiting.remove(name)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)
