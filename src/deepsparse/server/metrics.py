"""What the server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

METRICS_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_ROWS_BUCKETS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Prometheus metrics of one server, by endpoint."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        by_endpoint: dict[str, Any] = {"labelnames": ["endpoint"], "registry": self._registry}
        self.requests = Counter(
            "deepsparse_requests", "Requests answered", ["endpoint", "status"], registry=self._registry
        )
        self.texts = Counter("deepsparse_texts", "Texts classified", **by_endpoint)
        self.longer = Counter(
            "deepsparse_longer_texts",
            "Texts longer than the model takes, cut or read in windows",
            **by_endpoint,
        )
        self.unread = Counter(
            "deepsparse_unread_texts",
            "Texts of which a part was not read, since they are longer",
            **by_endpoint,
        )
        self.seconds = Histogram(
            "deepsparse_request_seconds",
            "From a request read to its answer made",
            buckets=_SECONDS_BUCKETS,
            **by_endpoint,
        )
        self.batches = Histogram(
            "deepsparse_batch_texts", "Texts computed together", buckets=_ROWS_BUCKETS, **by_endpoint
        )
        self.refused = Counter(
            "deepsparse_refused",
            "Refused before they reached a model, by reason: key, head, slow, garbage, pipelined, crowded",
            ["reason"],
            registry=self._registry,
        )
        self.disconnects = Counter(
            "deepsparse_disconnects", "Clients that went away before their answer", registry=self._registry
        )
        self._waiting = Gauge("deepsparse_waiting_texts", "Texts that wait", **by_endpoint)
        self._served = Gauge(
            "deepsparse_endpoint", "Endpoints served", ["endpoint", "engine"], registry=self._registry
        )

    def add_endpoint(self, name: str, engine: str, waiting: Callable[[], float]) -> None:
        """Export the gauges of an endpoint."""
        self._served.labels(name, engine).set(1)
        self._waiting.labels(name).set_function(waiting)

    def remove_endpoint(self, name: str, engine: str) -> None:
        """Remove the gauges of an endpoint; its counters stay."""
        self._served.remove(name, engine)
        self._waiting.remove(name)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
