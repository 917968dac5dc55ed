"""A repository on the Hugging Face Hub, and how to get at it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def hub_cache() -> Path:
    """The folder in which `huggingface_hub` keeps repositories, without importing it."""
    if value := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(value).expanduser()
    if value := os.environ.get("HF_HOME"):
        return Path(value).expanduser() / "hub"
    caches = os.environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache") / "huggingface" / "hub"


@dataclass(frozen=True)
class Access:
    """How a user wants downloads to be made.

    Attributes:
        token: an access token; True for the one that the user logged in with; None leaves it to the client.
        cache_dir: where downloads are kept; None for the cache that all clients of the Hub share.
    """

    token: str | bool | None = None
    cache_dir: str | None = None


@dataclass(frozen=True)
class HubRepo:
    """A repository.

    Attributes:
        name: OWNER/NAME.
        called: what the user asked for, for messages.
        kind: of the repository, in the client's words.
        access: token and cache.
    """

    name: str
    called: str
    kind: Literal["model", "dataset"] = "model"
    access: Access = field(default_factory=Access)

    @property
    def cache(self) -> Path:
        """The cache that holds it."""
        given = self.access.cache_dir
        return Path(given).expanduser() if given else hub_cache()

    @property
    def folder(self) -> Path:
        """Its own folder in the cache: `blobs`, `refs` and `snapshots`."""
        return self.cache / f"{self.kind}s--{self.name.replace('/', '--')}"

    @property
    def page(self) -> str:
        """Where a person can look at it."""
        kind = "datasets/" if self.kind == "dataset" else ""
        return f"https://huggingface.co/{kind}{self.name}"

    @property
    def endpoint(self) -> str | None:
        """HF_ENDPOINT as it is now; the client has read it when it was imported."""
        return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None

    def api(self) -> HfApi:
        """The Hub's client for it."""
        from huggingface_hub import HfApi

        return HfApi(endpoint=self.endpoint, token=self.access.token, library_name="resparse")

    @property
    def subject(self) -> str:
        """What a sentence about it begins with: which repository, and what it was wanted for."""
        wanted = "" if self.called == self.name else f", for {self.called},"
        return f"The Hugging Face Hub {self.described}{wanted}"

    @property
    def described(self) -> str:
        """Kind and name, as messages have it."""
        return f"{'dataset' if self.kind == 'dataset' else 'repository'} {self.name}"
