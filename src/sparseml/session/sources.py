"""Models by name, as far as that needs no download: a folder here, or what only looks like one."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from resparse.errors import UserError

_TOKENIZERS: Final = ("tokenizer*", "*vocab*", "merges*", "*.model", "*.bpe*", "*.tiktoken")
"""Patterns of the files in which Transformers' tokenizers keep their vocabularies."""


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


def refuse_without_tokenizer(called: str, folder: Path) -> None:
    """Refuse a model whose folder has no file in which a tokenizer could be.

    Raises:
        ModelError: there is none.
    """
    if not any(next(folder.glob(pattern), None) for pattern in _TOKENIZERS):
        raise no_tokenizer(called, folder)


def no_tokenizer(called: str, folder: Path) -> ModelError:
    """What a user is told whose model has none."""
    return ModelError(
        f"{called} has no tokenizer (the folder holds {listed(folder)}): copy tokenizer.json there from where the "
        "model comes from, or name a model with the same vocabulary by --tokenizer_name."
    )


def listed(folder: Path) -> str:
    """The first names in a folder, for a message."""
    names = sorted(path.name for path in folder.iterdir())
    return f"{', '.join(names[:8])}{', ...' if len(names) > 8 else ''}" or "nothing"
