"""Follow changes of the configuration file while the server runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

from deepsparse.errors import DeepsparseError
from deepsparse.server.config import EndpointConfig, ServerConfig, load_config
from deepsparse.server.endpoints import Endpoints
from resparse.console import say, warn
from resparse.errors import UserError

_EVERY_S = 1.0


class ConfigWatch:
    """Loads endpoints that the file gains, and lets go those that it loses; the rest runs on.

    Args:
        path: the YAML file.
        config: what it held when the server started.
        every: seconds between two looks.
    """

    def __init__(self, path: Path, config: ServerConfig, every: float = _EVERY_S) -> None:
        self._path = path
        self._running: dict[str, EndpointConfig] = {entry.served_as: entry for entry in config.endpoints}
        self._every = every
        self._seen = self._stamp()

    async def follow(self, endpoints: Endpoints) -> None:
        """Look at the file until cancelled."""
        while True:
            await asyncio.sleep(self._every)
            stamp = self._stamp()
            if stamp is None or stamp == self._seen:
                continue
            self._seen = stamp
            try:
                await self._apply(load_config(self._path), endpoints)
            except UserError as error:
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
