"""A tokenizer's files for any reader: today's libraries, `tokenizers` alone, and those of DeepSparse's time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from resparse.files import write_json, write_text

# Vocabulary files that a training folder may hold beside tokenizer.json, which says the same.
_VOCABULARIES: Final = ("vocab.json", "merges.txt", "tokenizer.model", "spiece.model", "spm.model")


def save(tokenizer: Any, source: Path, folder: Path, limit: int) -> None:
    """Write tokenizer.json, tokenizer_config.json, special_tokens_map.json, and vocab.txt for WordPiece.

    Args:
        tokenizer: a fast tokenizer.
        source: the training folder, whose other vocabulary files come along.
        folder: where to.
        limit: tokens that the deployed model takes at most.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        # A tokenizer remembers how it was last called, and would write that down as its nature.
        backend.no_truncation()
        backend.no_padding()
    tokenizer.model_max_length = limit
    tokenizer.save_pretrained(folder)
    # Transformers 5 keeps these in tokenizer_config.json alone; older readers look for the file.
    write_json(folder / "special_tokens_map.json", _special_tokens(tokenizer))
    _clean_config(folder / "tokenizer_config.json", source)
    vocabulary = _wordpiece(folder / "tokenizer.json")
    if vocabulary is not None:
        write_text(folder / "vocab.txt", "".join(f"{token}\n" for token in vocabulary))
    for name in _VOCABULARIES:
        if (source / name).is_file() and not (folder / name).exists():
            (folder / name).write_bytes((source / name).read_bytes())


def _special_tokens(tokenizer: Any) -> dict[str, Any]:
    return {
        name: value if isinstance(value, str) else [str(token) for token in value]
        for name, value in tokenizer.special_tokens_map.items()
    }


def _clean_config(path: Path, source: Path) -> None:
    """Leave out what only said where the tokenizer came from."""
    config = json.loads(path.read_text(encoding="utf-8"))
    for name in (
        "name_or_path",
        "is_local",
        "local_files_only",
        "max_length",
        "stride",
        "truncation_strategy",
    ):
        config.pop(name, None)
    write_json(path, config)


def _wordpiece(path: Path) -> list[str] | None:
    """The tokens in the order of their ids, where the tokenizer is a WordPiece."""
    if not path.is_file():
        return None
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    if model.get("type") != "WordPiece":
        return None
    vocabulary: dict[str, int] = model["vocab"]
    return sorted(vocabulary, key=vocabulary.__getitem__)
