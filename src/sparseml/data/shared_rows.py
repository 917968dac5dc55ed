"""Rows with the same texts: to be kept together, or told where a model is evaluated on what it has learned."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from resparse.progress import track
from sparseml.data.rows import rows_text

if TYPE_CHECKING:
    from datasets import Dataset

_BATCH: Final = 1_000
_WORTH_SAYING: Final = 0.01
"""The share of such rows from which on it is said; public datasets have some."""


def shared_notes(splits: Mapping[str, Dataset | None], columns: Sequence[str]) -> list[str]:
    """A line for each split with texts of the training split; memory grows with the rows of the others alone.

    Args:
        splits: by name; `train` is the training split.
        columns: that hold the texts, one or two.
    """
    train = splits.get("train")
    others = {name: split for name, split in splits.items() if name != "train" and split}
    if not train or not others:
        return []
    digests = {name: list(_digests(split, columns, name)) for name, split in others.items()}
    wanted = set().union(*digests.values())
    seen = {digest for digest in _digests(train, columns, "train") if digest in wanted}
    notes = []
    for name, own in digests.items():
        shared = sum(digest in seen for digest in own)
        if shared > _WORTH_SAYING * len(own):
            notes.append(
                f"{name}: {shared:,} of {rows_text(len(own))} have the text of a training row, too: on them a model "
                "scores better than on new texts"
            )
    return notes


def first_alike(columns: Sequence[Sequence[Any]]) -> np.ndarray:
    """For each row the index of the first row with the same values in all these columns, (rows,) int64."""
    digests = (int.from_bytes(_digest(row)[:8], "little") for row in zip(*columns, strict=True))
    held = np.fromiter(digests, np.uint64, len(columns[0]))
    _, first, group = np.unique(held, return_index=True, return_inverse=True)
    return first[group]


def _digests(split: Dataset, columns: Sequence[str], name: str) -> Iterator[bytes]:
    texts = split.select_columns(list(columns))
    batches = track(texts.iter(_BATCH), f"comparing rows, {name}", total=-(-len(texts) // _BATCH))
    for batch in batches:
        yield from map(_digest, zip(*(batch[column] for column in columns), strict=True))


def _digest(row: Sequence[Any]) -> bytes:
    return hashlib.blake2b(repr(row).encode("utf-8", "surrogatepass"), digest_size=16).digest()
