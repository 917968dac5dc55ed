"""The files that a user names: by a path, a pattern, or several with commas between."""

from __future__ import annotations

import glob
from pathlib import Path


def split_names(text: str) -> list[str]:
    """The paths and patterns of a list with commas; a path that exists is one, commas or not."""
    if "," not in text or Path(text).expanduser().exists():
        return [text]
    return [part.strip() for part in text.split(",") if part.strip()]


def matching_files(pattern: str) -> list[Path]:
    """The files that one path or pattern stands for, sorted; none where there are none."""
    whole = Path(pattern).expanduser()
    if whole.is_file():
        return [whole]
    # Path.glob takes no absolute patterns.
    found = sorted(glob.glob(str(whole), recursive=True))  # noqa: PTH207
    return [path for match in found if (path := Path(match)).is_file()]
