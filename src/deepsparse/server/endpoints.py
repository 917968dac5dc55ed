"""Endpoints: models with their queues, loaded and removed while the server runs."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepsparse.errors import DeepsparseError
from deepsparse.pipeline import Pipeline
from deepsparse.server import open_inference
from deepsparse.server.config import EndpointConfig, ServerConfig, load_config
from deepsparse.server.metrics import Metrics
from deepsparse.server.queue import MicroBatcher
from deepsparse.tasks.base import Outputs, Row
from resparse.console import say, warn
from resparse.errors import did_you_mean

if TYPE_CHECKING:
    from deepsparse.server.tracing import Tracing

_CHANGES_EVERY_S = 1.0
# An answer within these seconds shows that the model is ready.
_FRESH_S = 5.0
_PATIENCE_S = 5.0


class UnknownEndpointError(DeepsparseError):
    """There is no endpoint of that name."""


class Endpoint:
    """A served model, and the queue of its requests; `name` is that in its address."""

    def __init__(
        self, config: EndpointConfig, server: ServerConfig, metrics: Metrics, tracing: Tracing | None = None
    ) -> None:
        settings = config.settings()
        settings.setdefault("num_cores", server.num_cores)
        settings.setdefault("num_streams", server.num_workers)
        self.config = config
        self.name = config.served_as
        self.pipeline: Pipeline[Any, Any] = Pipeline.create(config.task, model_path=config.model, **settings)
        task = self.pipeline.handler
        self._tensors = open_inference.metadata(task, self.pipeline.output(self.pipeline.sample))
        engine = self.pipeline.engine
        self.pipeline.lengths.told = partial(_count_longer, metrics, self.name)
        self._metrics = metrics
        self._tracing = tracing
        run = self.pipeline.run
        self._batcher = MicroBatcher(
            partial(run, spread=False) if tracing is None else tracing.compute(run),
            workers=engine.num_streams,
            capacity=server.max_queued_texts,
            longest_wait=server.max_queued_seconds,
            on_batch=metrics.batches.labels(self.name).observe,
            concatenate=Outputs.concatenate if tracing is None else tracing.concatenate,
        )
        self._answered = time.monotonic()

    @property
    def waiting(self) -> int:
        """Texts in its queue."""
        return self._batcher.waiting

    async def answer(self, rows: list[Row], **options: Any) -> list[Any]:
        """A prediction for each row, computed together with whatever else waits; `options` are the request's.

        Raises:
            DeepsparseError: the queue is full, or the model gives no answer.
        """
        if not rows:
            return []
        outputs = await self.outputs(rows)
        predictions: list[Any] = self.pipeline.handler.decode(rows, outputs, **options)
        return predictions

    async def outputs(self, rows: list[Row]) -> Outputs:
        """The model's outputs for one or more rows, before a task makes predictions of them; raises as `answer`."""
        self.pipeline.handler.check_rows(rows)  # before they are in one batch with others' rows
        if self._tracing is None:
            outputs: Outputs = await self._batcher.submit(rows)
        else:
            submitted = time.time_ns()
            staged = await self._batcher.submit(rows)
            outputs = self._tracing.record(staged, submitted, self.name, len(rows))
        self._answered = time.monotonic()
        self._metrics.texts.labels(self.name).inc(len(rows))
        return outputs

    async def is_ready(self) -> bool:
        """Whether the model answers: within the last seconds, or now a test request."""
        if time.monotonic() - self._answered < _FRESH_S:
            return True
        task = self.pipeline.handler
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self.answer(task.sample())
        except (DeepsparseError, TimeoutError):
            return False
        return True

    async def close(self) -> None:
        """Answer the accepted requests, then close the model."""
        await self._batcher.close()
        self.pipeline.close()

    def describe(self) -> dict[str, Any]:
        """The model's metadata."""
        engine = self.pipeline.engine
        return {
            "name": self.name,
            "task": self.pipeline.task,
            "model": self.config.model_name,
            "platform": f"{engine.engine_type} {engine.version}",
            **self.pipeline.describe(),
            **self._tensors,
        }


def _count_longer(metrics: Metrics, name: str, longer: int, unread: int) -> None:
    metrics.longer.labels(name).inc(longer)
    metrics.unread.labels(name).inc(unread)


class Endpoints:
    """All endpoints of a server, by name, and their metrics."""

    def __init__(self, config: ServerConfig, tracing: Tracing | None = None) -> None:
        self._config = config
        self._tracing = tracing
        self.metrics = Metrics()
        self._by_name: dict[str, Endpoint] = {}
        self.closing = False
        for endpoint in config.endpoints:
            self._enter(self.load(endpoint))

    def load(self, config: EndpointConfig) -> Endpoint:
        """Load a model, without serving it yet."""
        return Endpoint(config, self._config, self.metrics, self._tracing)

    async def add(self, endpoint: Endpoint) -> None:
        """Serve a loaded endpoint; one of the same name answers its accepted requests and is closed."""
        old = self._by_name.get(endpoint.name)
        if old is not None:
            self._leave(old)
        self._enter(endpoint)
        if old is not None:
            await old.close()

    async def remove(self, name: str) -> None:
        """Remove an endpoint, after its accepted requests are answered."""
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
        """Answer the accepted requests, then close all models."""
        self.closing = True
        await asyncio.gather(*(self.remove(endpoint.name) for endpoint in self))

    def _enter(self, endpoint: Endpoint) -> None:
        self._by_name[endpoint.name] = endpoint
        # A gauge is part of a cycle, which would keep a replaced model in memory until a collection.
        reference = weakref.ref(endpoint)

        def waiting() -> float:
            served = reference()
            return served.waiting if served is not None else 0

        self.metrics.add_endpoint(endpoint.name, endpoint.pipeline.engine.engine_type, waiting)

    def _leave(self, endpoint: Endpoint) -> None:
        del self._by_name[endpoint.name]
        self.metrics.remove_endpoint(endpoint.name, endpoint.pipeline.engine.engine_type)


class ConfigWatch:
    """Follows changes of the configuration file: loads endpoints that it gains, removes those that it loses.

    `config` is what the file held when the server started; the file is checked every `every` seconds.
    """

    def __init__(self, path: Path, config: ServerConfig, every: float = _CHANGES_EVERY_S) -> None:
        self._path = path
        self._running: dict[str, EndpointConfig] = {entry.served_as: entry for entry in config.endpoints}
        self._every = every
        self._seen = self._stamp()

    async def follow(self, endpoints: Endpoints) -> None:
        """Check the file until cancelled."""
        while True:
            await asyncio.sleep(self._every)
            stamp = self._stamp()
            if stamp is None or stamp == self._seen:
                continue
            self._seen = stamp
            try:
                await self._apply(load_config(self._path), endpoints)
            except Exception as error:  # whatever a file may hold, later changes are to be followed
                warn(f"{self._path} has changed, but not all of it can be followed: {error}")

    async def _apply(self, config: ServerConfig, endpoints: Endpoints) -> None:
        wanted = {entry.served_as: entry for entry in config.endpoints}
        for name, entry in wanted.items():
            if self._running.get(name) != entry:
                await endpoints.add(await asyncio.to_thread(endpoints.load, entry))
                self._running[name] = entry
                say(f"{name}: now {entry.model}")
        for name in [name for name in self._running if name not in wanted]:
            del self._running[name]
            try:
                await endpoints.remove(name)
            except DeepsparseError:
                continue  # it was removed over HTTP before
            say(f"{name}: no longer served")

    def _stamp(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size
