"""Models by name, as far as that needs no download: a folder here, or what only looks like one."""

from __future__ import annotations

from pathlib import Path

from resparse.errors import UserError


class ModelError(UserError):
    """A model or tokenizer that cannot be loaded."""


def local_folder(called: str) -> Path | None:
    """The folder that a name means; None where it is none, and may be a name on the Hub.

    Raises:
        ModelError: it is a path, but not that of a folder.
    """
    folder = Path(called).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_file() or called.startswith((".", "/", "~")) or called.count("/") > 1:
        what = "is a file, not a model's folder" if folder.is_file() else "does not exist"
        raise ModelError(
            f"The model {called!r} {what}. Give a folder with config.json and model.safetensors, "
            "a zoo: stub (`sparsezoo search`), or a Hugging Face Hub id."
        )
    return None
