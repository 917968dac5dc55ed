"""Where the zoo keeps its files on this machine."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The zoo's folder: `SPARSEZOO_HOME`, else `SPARSEZOO_MODELS_PATH`, else `~/.cache/resparse/zoo`.

    A model put at `home() / STUB_NAME` is what that stub then names. What the zoo makes or notes by itself
    lies under `home() / ".cache"` and may be deleted at any time.
    """
    for variable in ("SPARSEZOO_HOME", "SPARSEZOO_MODELS_PATH"):
        if value := os.environ.get(variable):
            return Path(value).expanduser()
    caches = os.environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache") / "resparse" / "zoo"


def cache_folder(*parts: str) -> Path:
    """A folder under the zoo's own cache; not created."""
    return home().joinpath(".cache", *parts)
