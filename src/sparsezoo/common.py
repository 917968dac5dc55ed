"""Shared by the zoo's modules: its error, its folder on this machine, and checksums of files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from resparse.errors import UserError


class ZooError(UserError):
    """A stub that cannot be read, or a model or recipe that cannot be found or fetched."""


def home() -> Path:
    """The zoo's folder: `SPARSEZOO_HOME`, else `SPARSEZOO_MODELS_PATH`, else `~/.cache/resparse/zoo`.

    A model at `home() / STUB_NAME` replaces that of the stub. `home() / ".cache"` may be deleted at any time.
    """
    for variable in ("SPARSEZOO_HOME", "SPARSEZOO_MODELS_PATH"):
        if value := os.environ.get(variable):
            return Path(value).expanduser()
    return user_cache() / "resparse" / "zoo"


def user_cache() -> Path:
    """The user's cache folder."""
    folder = os.environ.get("XDG_CACHE_HOME")
    return Path(folder) if folder else Path.home() / ".cache"


def cache_folder(*parts: str) -> Path:
    """A folder under the zoo's own cache; not created."""
    return home().joinpath(".cache", *parts)


def sha256_of(file: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def git_blob_of(file: Path) -> str:
    """Git's id of a file's bytes (SHA-1 over a header and the bytes), in hexadecimal."""
    digest = hashlib.sha1(b"blob %d\0" % file.stat().st_size, usedforsecurity=False)
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
