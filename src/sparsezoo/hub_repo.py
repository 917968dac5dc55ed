"""A repository on the Hugging Face Hub: its cache, its client, and the client's errors explained to the user."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sparsezoo.common import ZooError, user_cache

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_LONGEST_PAUSE_S = 30.0
_BUSY = (408, 429, 500, 502, 503, 504)

MISSING = "does not exist, or not any more; if it is private, your token gives no access to it."
"""The predicate of a message about a repository that the Hub does not have."""


def hub_cache() -> Path:
    """The folder in which `huggingface_hub` keeps repositories, without importing it."""
    if value := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(value).expanduser()
    if value := os.environ.get("HF_HOME"):
        return Path(value).expanduser() / "hub"
    return user_cache() / "huggingface" / "hub"


@dataclass(frozen=True)
class Access:
    """The user's settings for downloads."""

    token: str | bool | None = None  # True for the stored login; None for the client's default
    cache_dir: str | None = None  # None for the cache that all clients of the Hub share


@dataclass(frozen=True)
class HubRepo:
    """A repository (OWNER/NAME), and the user's name for it, for messages."""

    name: str
    requested: str
    kind: Literal["model", "dataset"] = "model"
    access: Access = field(default_factory=Access)

    @property
    def cache(self) -> Path:
        """The cache that contains it."""
        given = self.access.cache_dir
        return Path(given).expanduser() if given else hub_cache()

    @property
    def folder(self) -> Path:
        """Its folder in the cache: `blobs`, `refs` and `snapshots`."""
        return self.cache / f"{self.kind}s--{self.name.replace('/', '--')}"

    @property
    def endpoint(self) -> str | None:
        """The current HF_ENDPOINT; the client reads it only at import."""
        return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None

    def api(self) -> HfApi:
        """The Hub's client for it."""
        from huggingface_hub import HfApi

        return HfApi(endpoint=self.endpoint, token=self.access.token, library_name="resparse")

    @property
    def subject(self) -> str:
        """The subject of a message: the repository, and the user's name for it."""
        wanted = "" if self.requested == self.name else f", for {self.requested},"
        return f"The Hugging Face Hub {self.described}{wanted}"

    @property
    def gated(self) -> str:
        """The predicate of a message about a gated repository."""
        page = f"https://huggingface.co/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"
        return (
            f"is gated: its owner asks you to accept terms first. Accept them at {page}, then log in with "
            "`hf auth login` or set HF_TOKEN."
        )

    @property
    def described(self) -> str:
        """Kind and name, for messages."""
        return f"{'dataset' if self.kind == 'dataset' else 'repository'} {self.name}"


class UnreachableError(ZooError):
    """The Hub is switched off, there is no network, or it does not respond."""


def client_errors() -> tuple[type[Exception], ...]:
    """The exceptions of the Hub's client: its own, its transport's and the system's."""
    from huggingface_hub.errors import HfHubHTTPError

    # Its bases are OSError and the base of the transport's errors, whose module differs between versions.
    # The Rust downloader (hf_xet) raises RuntimeError, a malformed name ValueError.
    return (*HfHubHTTPError.__bases__, RuntimeError, ValueError)


def pause_before_retry(error: Exception, attempt: int) -> bool:
    """If the Hub is busy, sleep as long as it requests; return whether to try again (`attempt` counts from 1)."""
    response = getattr(error, "response", None)
    if response is None or response.status_code not in _BUSY:
        return False
    delay = response.headers.get("Retry-After", "")
    pause = float(delay) if delay.isdigit() else 0.5 * 2**attempt
    if pause > _LONGEST_PAUSE_S:
        return False
    time.sleep(pause)
    return True


def explain(
    error: Exception, repo: HubRepo, revision: str | None = None, file: str | None = None
) -> ZooError:
    """An error of the Hub's client as a one-line message that names the repository, for this revision and file."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        # The client wraps errors in "cannot find it locally"; the cause is more helpful.
        return explain(error.__cause__, repo, revision, file)
    place = repo.subject
    texts: dict[type[Exception], str] = {
        errors.GatedRepoError: f"{place} {repo.gated}",
        errors.RevisionNotFoundError: f"{place} has no revision {revision!r}. "
        "Name a branch, a tag or a full commit of it.",
        errors.RepositoryNotFoundError: f"{place} {_not_found(error)}",
        errors.EntryNotFoundError: f"{place} has no file {file}.",
        errors.HFValidationError: f"{repo.name!r} is neither a folder, nor a zoo: stub, nor the name of a Hub "
        "repository (OWNER/NAME).",
    }
    for kind, text in texts.items():
        if isinstance(error, kind):
            return ZooError(text)
    response = getattr(error, "response", None)
    if response is not None:
        return _by_status(place, response.status_code, response.headers.get("Retry-After"))
    return _by_system(place, error, file)


def _not_found(error: Exception) -> str:
    response = getattr(error, "response", None)
    if response is not None and response.status_code == 401:
        # Without a token the Hub does not distinguish private from missing repositories.
        return (
            "is private or does not exist. If you have access, log in with `hf auth login` or set HF_TOKEN."
        )
    return MISSING


def _by_status(place: str, status: int, retry_after: str | None) -> ZooError:
    # Seconds or a date.
    after = f"after {retry_after}" if retry_after else "later"
    when = f"in {retry_after} seconds" if retry_after and retry_after.isdigit() else after
    if status == 429:
        return UnreachableError(f"{place} was asked for too often from here (429). Try again {when}.")
    if status >= 500:
        return UnreachableError(f"{place} cannot be had just now: the Hub is out of order ({status}).")
    reasons = {
        401: "refused your token. Log in anew with `hf auth login`, or mend HF_TOKEN.",
        403: "is closed to you (403). Ask its owner for access.",
    }
    return ZooError(f"{place} {reasons.get(status, f'could not be fetched: the Hub answered {status}.')}")


def _by_system(place: str, error: Exception, file: str | None) -> ZooError:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return ZooError(f"{place} could not be stored: the disk is full. Nothing half-written was kept.")
    if isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES):
        return ZooError(
            f"{place} could not be stored: {error.filename}: {error.strerror}. HF_HOME names another folder for it."
        )
    if isinstance(error, OSError) and "Consistency check failed" in str(error):
        return ZooError(f"{place} sent {file} cut short. Run the command again: it goes on from there.")
    reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return UnreachableError(f"{place} cannot be reached: {reason.rstrip('.')}.")
