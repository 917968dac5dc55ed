"""A tokenized corpus as a file of token ids that is mapped, not read: it may be larger than memory."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resparse.files import whole_folder
from resparse.progress import share
from sparseml.data.corpus import Piece
from sparseml.data.rows import DataError
from sparseml.data.text_sources import TextSource
from sparsezoo.common import cache_folder

_TOKENS, _ENDS, _ABOUT = "tokens.bin", "ends.bin", "about.json"
# Characters that are tokenized at once: enough for the tokenizer's threads, little enough for memory.
_CHUNK = 4_000_000


@dataclass(frozen=True)
class TokenFile:
    """Token ids of documents, one after the other; after each stands the separator.

    Attributes:
        tokens: [tokens], uint16 or uint32, mapped from the disk.
        ends: [documents], int64, mapped: the place behind each document's separator.
    """

    tokens: NDArray[Any]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def documents(self) -> int:
        return len(self.ends)


def tokenize_corpus(
    sources: Sequence[TextSource],
    tokenizer: Any,
    *,
    max_documents: int | None = None,
    again: bool = False,
) -> TokenFile:
    """The token file of a corpus, from the cache where the same texts were tokenized alike before.

    Args:
        sources: what it is read from, in this order.
        tokenizer: a fast one of Transformers; no special tokens are added but its separator after a document.
        max_documents: stop after so many.
        again: tokenize even where the cache has it.

    Raises:
        DataError: a source cannot be read, there is no text in any, or the tokenizer is a slow one.
    """
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]  # public, say its docs

    folder = cache_folder("tokens", _key(sources, tokenizer, max_documents))
    if again or not (folder / _ABOUT).is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Processes of one run wait for the first of them.
        with WeakFileLock(folder.with_suffix(".lock")):
            if again:
                shutil.rmtree(folder, ignore_errors=True)
            if not (folder / _ABOUT).is_file():
                pieces = _limited(chain.from_iterable(source.pieces() for source in sources), max_documents)
                with whole_folder(folder) as temporary:
                    names = [source.name for source in sources]
                    _write(temporary, _with_progress(pieces, sources), tokenizer, names)
    return open_tokens(folder)


def open_tokens(folder: Path) -> TokenFile:
    """A token file that `tokenize_corpus` has written."""
    about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    tokens = np.memmap(folder / _TOKENS, dtype=about["dtype"], mode="r")
    return TokenFile(tokens, np.memmap(folder / _ENDS, dtype=np.int64, mode="r"))


def separator_of(tokenizer: Any) -> int:
    """The token that ends a document: the tokenizer's separator, or its end of text.

    Raises:
        DataError: it has neither.
    """
    for token in (tokenizer.sep_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise DataError(
        "The model's tokenizer has no separator token ([SEP], </s>), which upstream training needs."
    )


def _key(sources: Sequence[TextSource], tokenizer: Any, max_documents: int | None) -> str:
    """A name for what the token file depends on: the texts, the tokenizer, and how many documents are taken."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise DataError("A corpus is tokenized by a fast tokenizer: leave out --use_fast_tokenizer false.")
    described = json.loads(backend.to_str())
    for setting in ("truncation", "padding"):  # of its last call
        described.pop(setting, None)
    vocabulary = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    parts = [
        *(source.key() for source in sources),
        vocabulary,
        str(separator_of(tokenizer)),
        str(max_documents),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


def _write(folder: Path, pieces: Iterable[Piece], tokenizer: Any, sources: list[str]) -> None:
    separator = separator_of(tokenizer)
    dtype = np.dtype(np.uint16 if len(tokenizer) <= 2**16 else np.uint32)
    written = 0
    ends: list[int] = []
    with (folder / _TOKENS).open("wb") as tokens, (folder / _ENDS).open("wb") as bounds:
        for chunk in _chunks(pieces):
            encoded = tokenizer(
                [text for text, _ in chunk],
                add_special_tokens=False,
                return_attention_mask=False,
                return_token_type_ids=False,
                verbose=False,
            )["input_ids"]
            parts: list[NDArray[Any]] = []
            for ids, (_, ends_document) in zip(encoded, chunk, strict=True):
                parts.append(np.asarray([*ids, separator] if ends_document else ids, dtype=dtype))
                written += len(parts[-1])
                if ends_document:
                    ends.append(written)
            np.concatenate(parts).tofile(tokens)
            np.asarray(ends, dtype=np.int64).tofile(bounds)
            ends = []
    if not written:
        raise DataError(f"There is no text in {', '.join(sources)}.")
    about = {"dtype": dtype.name, "tokens": written, "sources": sources}
    (folder / _ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def _limited(pieces: Iterable[Piece], documents: int | None) -> Iterator[Piece]:
    left = documents
    for piece in pieces:
        if left == 0:
            return
        yield piece
        if left is not None and piece[1]:
            left -= 1


def _with_progress(pieces: Iterable[Piece], sources: Sequence[TextSource]) -> Iterator[Piece]:
    """A bar by the characters read."""
    total = sum(source.size for source in sources)
    with share("tokenizing the corpus", total) as advance:
        done = reported = 0
        for piece in pieces:
            yield piece
            done += len(piece[0])
            if done - reported > _CHUNK // 4:
                advance(min(done, total))
                reported = done


def _chunks(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    chunk: list[Piece] = []
    size = 0
    for piece in pieces:
        chunk.append(piece)
        size += len(piece[0])
        if size >= _CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
