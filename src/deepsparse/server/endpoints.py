"""The models that a server has: loaded, queued for, answered from."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from deepsparse.errors import DeepsparseError
from deepsparse.inputs import Row
from deepsparse.labels import Prediction
from deepsparse.pipeline import Pipeline, TextClassificationPipeline
from deepsparse.server.config import EndpointConfig, ServerConfig
from deepsparse.server.metrics import Metrics
from deepsparse.server.queue import MicroBatcher
from resparse.errors import did_you_mean

# An answer this young shows that the model answers; older ones do not count.
_FRESH_S = 5.0
_PATIENCE_S = 5.0


class UnknownEndpointError(DeepsparseError):
    """There is no endpoint of that name."""


class Endpoint:
    """A model, and the queue before it.

    Attributes:
        config: as it was told.
        name: in its address.
        pipeline: the model.
    """

    def __init__(self, config: EndpointConfig, server: ServerConfig, metrics: Metrics) -> None:
        settings = config.settings()
        settings.setdefault("num_cores", server.num_cores)
        settings.setdefault("num_streams", server.num_workers)
        self.config = config
        self.name = config.served_as
        self.pipeline: TextClassificationPipeline = Pipeline.create(
            config.task, model_path=config.model, **settings
        )
        engine = self.pipeline.engine
        self._metrics = metrics
        self._batcher = MicroBatcher(
            partial(self.pipeline.logits, spread=False),
            workers=engine.num_streams,
            capacity=server.max_queued_texts,
            on_batch=metrics.batches.labels(self.name).observe,
        )
        self._answered = time.monotonic()

    @property
    def waiting(self) -> int:
        """Texts in its queue."""
        return self._batcher.waiting

    async def answer(self, rows: list[Row], top_k: int | None = None) -> list[Prediction]:
        """Classify rows, in company of whatever else waits.

        Raises:
            DeepsparseError: no room in the queue, or no answer to be had.
        """
        if not rows:
            return []
        logits = await self._batcher.submit(rows)
        predictions = self.pipeline.decide(logits, top_k)
        self._answered = time.monotonic()
        self._metrics.texts.labels(self.name).inc(len(rows))
        return predictions

    async def is_ready(self) -> bool:
        """Whether the model answers: it did just now, or does when asked."""
        if time.monotonic() - self._answered < _FRESH_S:
            return True
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self.answer(["Is anybody there?"])
        except (DeepsparseError, TimeoutError):
            return False
        return True

    async def close(self) -> None:
        """Answer what was taken, then let the model go."""
        await self._batcher.close()
        self.pipeline.close()

    def describe(self) -> dict[str, Any]:
        """What the model is, for whoever asks the server."""
        engine = self.pipeline.engine
        return {
            "name": self.name,
            "task": self.pipeline.task,
            "model": self.config.model,
            "platform": f"{engine.engine_type} {engine.version}",
            "labels": list(self.pipeline.labels),
            "sequence_length": self.pipeline.sequence_length,
            "top_k": self.pipeline.top_k,
        }


class Endpoints:
    """All endpoints of a server, by name.

    Attributes:
        metrics: what they count.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self.metrics = Metrics()
        self._by_name: dict[str, Endpoint] = {}
        self.closing = False
        for endpoint in config.endpoints:
            self._enter(self.load(endpoint))

    def load(self, config: EndpointConfig) -> Endpoint:
        """Load a model, without serving it yet.

        Raises:
            DeepsparseError: it cannot be loaded.
        """
        return Endpoint(config, self._config, self.metrics)

    async def add(self, endpoint: Endpoint) -> None:
        """Serve a loaded endpoint; one of the same name answers what it has taken, and goes."""
        old = self._by_name.get(endpoint.name)
        if old is not None:
            self._leave(old)
        self._enter(endpoint)
        if old is not None:
            await old.close()

    async def remove(self, name: str) -> None:
        """Answer what an endpoint has taken, and serve it no more.

        Raises:
            UnknownEndpointError: there is none of that name.
        """
        endpoint = self[name]
        self._leave(endpoint)
        await endpoint.close()

    def __getitem__(self, name: str) -> Endpoint:
        try:
            return self._by_name[name]
        except KeyError:
            hint = did_you_mean(name, self._by_name)
            raise UnknownEndpointError(f"There is no endpoint {name!r}. {hint}".rstrip()) from None

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(list(self._by_name.values()))

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    async def are_ready(self) -> bool:
        """Whether all models answer, and the server takes requests."""
        return not self.closing and all([await endpoint.is_ready() for endpoint in self])

    async def close(self) -> None:
        """Answer what was taken, then let all models go."""
        self.closing = True
        await asyncio.gather(*(self.remove(endpoint.name) for endpoint in self))

    def _enter(self, endpoint: Endpoint) -> None:
        self._by_name[endpoint.name] = endpoint
        engine = endpoint.pipeline.engine.engine_type
        self.metrics.add_endpoint(endpoint.name, engine, lambda: endpoint.waiting)

    def _leave(self, endpoint: Endpoint) -> None:
        del self._by_name[endpoint.name]
        self.metrics.remove_endpoint(endpoint.name, endpoint.pipeline.engine.engine_type)
