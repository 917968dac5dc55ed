"""Texts that are longer than a model takes: how they are cut into windows, and how a text's windows make one answer.

Training and runtime both cut and pool here, so that a model is served as it was trained and evaluated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from resparse.arrays import Array

if TYPE_CHECKING:
    from tokenizers import Encoding
    from tokenizers import Tokenizer as RustTokenizer

KEY: Final = "long_texts"
"""In the configuration of a model and of its deployment."""

FIRST: Final = "first"
WINDOWS: Final = "windows"
READS: Final = (FIRST, WINDOWS)
POOLINGS: Final = ("mean", "max")

WHOLE: Final = "do_not_truncate"
"""The strategy of a tokenizer that leaves rows as long as they are; `cut` makes windows of them."""

MOST_WINDOWS: Final = 64
"""Windows of one text by default: 8,192 tokens of a model that takes 128. One request must not occupy a server."""

# Neighbouring windows share at most this part of a window; sharing all but one token would make a window for each.
_MOST_SHARED = 3, 4


@dataclass(frozen=True)
class LongTexts:
    """What is read of a text that is longer than the model takes.

    Attributes:
        read: "first": its beginning alone; "windows": all of it, in windows of the model's length.
        stride: tokens that neighbouring windows have in common.
        pooling: a text's logits are the mean, or by label the maximum, of its windows'.
        most: windows of a text, at most; what is behind them is not read.
        length: tokens of a window that the model was trained with, special ones included; None: not known.
    """

    read: str = FIRST
    stride: int = 0
    pooling: str = "mean"
    most: int = MOST_WINDOWS
    length: int | None = None

    def __post_init__(self) -> None:
        """Refuses values that make no sense, with a ValueError that begins with the value's name."""
        for name, value, known in (("read", self.read, READS), ("pooling", self.pooling, POOLINGS)):
            if value not in known:
                raise ValueError(f"{name} is {value!r:.60}; wanted is {' or '.join(known)}")
        for name, number, least in (("stride", self.stride, 0), ("most", self.most, 1)):
            if type(number) is not int or number < least:
                raise ValueError(f"{name} is {number!r:.60}; wanted is a whole number from {least} on")
        if self.length is not None and (type(self.length) is not int or self.length < 1):
            raise ValueError(f"length is {self.length!r:.60}; wanted is a number of tokens")

    @property
    def windows(self) -> bool:
        """Whether long texts are read in windows."""
        return self.read == WINDOWS

    def changed(self, **values: Any) -> LongTexts:
        """These settings with others in their place; None leaves one as it is.

        Raises:
            ValueError: see `__post_init__`.
        """
        return replace(self, **{name: value for name, value in values.items() if value is not None})

    def stated(self) -> dict[str, Any]:
        """For the configuration: the settings by name; empty for the default, which reads the beginning alone."""
        if not self.windows:
            return {}
        return {name: value for name, value in asdict(self).items() if value is not None}


def long_texts_of(config: Mapping[str, Any]) -> LongTexts:
    """The settings that a configuration holds; without any, beginnings are read.

    Raises:
        ValueError: what it holds makes no sense.
    """
    stated = config.get(KEY)
    if stated is None:
        return LongTexts()
    known = LongTexts.__dataclass_fields__
    if not isinstance(stated, Mapping) or (unknown := [name for name in stated if name not in known]):
        what = repr(stated) if not isinstance(stated, Mapping) else f"unknown: {unknown[0]!r}"
        raise ValueError(f"{KEY}: {what:.80}; wanted is an object of {', '.join(known)}")
    try:
        return LongTexts(**stated)
    except ValueError as error:
        raise ValueError(f"{KEY}: {error}") from error


@dataclass(frozen=True)
class Cut:
    """A row's windows, one or more, and whether a part of the row is in none of them."""

    windows: list[Encoding]
    unread: bool = False

    @property
    def longer(self) -> bool:
        """Whether the row is longer than one window."""
        return len(self.windows) > 1 or self.unread


def cut(
    tokenizer: RustTokenizer, rows: Sequence[Any], limit: int, settings: LongTexts, left: bool = False
) -> list[Cut]:
    """Tokenize rows and cut the long ones into windows.

    Of a pair the longer text is cut, and each window has the other text whole, up to half of the tokens.

    Args:
        tokenizer: one that neither truncates nor pads.
        rows: texts and pairs of texts.
        limit: tokens of a window, special ones included.
        left: windows begin at the text's end, for models whose tokenizer truncates on the left.
    """
    return [
        Cut([encoding]) if len(encoding) <= limit else _cut(tokenizer, row, limit, settings, left)
        for row, encoding in zip(rows, tokenizer.encode_batch_fast(list(rows)), strict=True)
    ]


def _cut(tokenizer: RustTokenizer, row: Any, limit: int, settings: LongTexts, left: bool) -> Cut:
    """The windows of one row that is longer than `limit`."""
    texts = [row] if isinstance(row, str) else list(row)
    parts = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    room = limit - tokenizer.num_special_tokens_to_add(is_pair=len(parts) == 2)
    side = "left" if left else "right"
    place = max(range(len(parts)), key=lambda index: len(parts[index]))
    other = parts[1 - place] if len(parts) == 2 else None
    unread = False
    if other is not None:
        kept = min(len(other), room // 2)
        unread = kept < len(other)
        other.truncate(kept, 0, side)
        room -= kept
    whole = parts[place]
    whole.truncate(room, min(settings.stride, room * _MOST_SHARED[0] // _MOST_SHARED[1]), side)
    pieces = [whole, *whole.overflowing]
    windows = []
    for piece in pieces[: settings.most]:
        pair = (piece, None) if other is None else (piece, other) if place == 0 else (other, piece)
        windows.append(tokenizer.post_process(*pair))
    return Cut(windows, unread or len(pieces) > settings.most)


def starts_of(counts: Iterable[int]) -> list[int]:
    """Where each row's windows begin, and the last one's end, (rows + 1,), by the number of windows of each row."""
    return list(accumulate(counts, initial=0))


def pool(values: Array, starts: Sequence[int], pooling: str) -> Array:
    """A row's logits from those of its windows.

    Args:
        values: (windows, ...), a row's windows side by side.
        starts: as `starts_of` gives them; each row has a window.
        pooling: "mean" or "max".

    Returns:
        (rows, ...), of the same type.
    """
    if len(starts) == len(values) + 1:
        return values
    first = np.asarray(starts[:-1], np.intp)
    if pooling == "max":
        greatest: Array = np.maximum.reduceat(values, first, axis=0)
        return greatest
    counts = np.diff(np.asarray(starts)).reshape(-1, *[1] * (values.ndim - 1))
    mean: Array = (np.add.reduceat(values, first, axis=0, dtype=np.float64) / counts).astype(values.dtype)
    return mean
