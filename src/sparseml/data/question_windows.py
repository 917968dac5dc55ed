"""Questions with the windows of their passages as token ids: what a model learns from and is asked about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from resparse.arrays import Array
from resparse.progress import track
from resparse.spans import Reading, Window, room
from sparseml.data.encode import sequence_limit, token_table
from sparseml.data.growing_table import dataset_of
from sparseml.data.rows import DataError

if TYPE_CHECKING:
    from datasets import Dataset

_BATCH = 1000

POSITIONS = ("start_positions", "end_positions")
"""The labels: tokens of a window; both that of [CLS] where the answer is not in the window."""


def encode_windows(
    split: Dataset, name: str, tokenizer: Any, reading: Reading, *, pad_to_max_length: bool = False
) -> Dataset:
    """Tokenize a split of `load_questions`, a row for each window of each passage.

    Returns:
        A dataset with the model's inputs and `length`; `start_positions` and `end_positions` where answers are known
        (of the first one); `split` (its name), `row` (in the split), and for finding answers `first`, the first token
        of the passage, and `offsets`, the first and last characters of its tokens, one after the other.

    Raises:
        DataError: the tokenizer does not tell the tokens' places.
    """
    import pyarrow

    if not tokenizer.is_fast:
        raise DataError(
            "Answers are found by the tokens' places in the passage, which only tokenizers written in Rust tell: leave "
            "out --use_fast_tokenizer false."
        )
    limit = sequence_limit(tokenizer, reading.max_seq_length)
    special = tokenizer.num_special_tokens_to_add(pair=True)
    if limit < special + 2:
        raise DataError(f"--max_seq_length {limit} leaves no room for a question and its passage.")
    most, stride = room(reading, limit, special)
    parts = []
    for start in track(range(0, len(split), _BATCH), "tokenizing"):
        batch = split[start : start + _BATCH]
        encoded = tokenizer(
            shortened(tokenizer, batch["question"], most),
            batch["context"],
            truncation="only_second",
            max_length=limit,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            padding="max_length" if pad_to_max_length else False,
            padding_side="right",
        )
        parts.append(_table(encoded, batch, tokenizer, start, name))
    return dataset_of(pyarrow.concat_tables(parts))


def shortened(tokenizer: Any, questions: Sequence[str], most: int) -> list[str]:
    """Questions cut to `most` tokens, without white space before them."""
    stripped = [question.lstrip() for question in questions]
    encoded = tokenizer(stripped, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return [
        question if len(places) <= most else question[: places[most - 1][1]]
        for question, places in zip(stripped, encoded["offset_mapping"], strict=True)
    ]


def _table(encoded: Any, batch: Mapping[str, Any], tokenizer: Any, start: int, name: str) -> Any:
    """The Arrow table of a batch's windows."""
    import pyarrow

    table = token_table(encoded, tokenizer)
    owners = np.asarray(encoded["overflow_to_sample_mapping"], np.int32)
    firsts, offsets = [], []
    for window, places in enumerate(encoded["offset_mapping"]):
        inside = [position for position, owner in enumerate(encoded.sequence_ids(window)) if owner == 1]
        firsts.append(inside[0] if inside else 0)
        offsets.append(np.asarray([places[position] for position in inside], np.int32).reshape(-1, 2))
    columns = {
        "split": pyarrow.array([name] * len(owners)),
        "row": pyarrow.array(owners + start, pyarrow.int32()),
        "first": pyarrow.array(firsts, pyarrow.int32()),
        "offsets": pyarrow.array([places.reshape(-1) for places in offsets], pyarrow.list_(pyarrow.int32())),
    }
    if "answers" in batch:
        ids = encoded["input_ids"]
        targets = []
        for window, owner in enumerate(owners):
            nothing = (
                ids[window].index(tokenizer.cls_token_id) if tokenizer.cls_token_id in ids[window] else 0
            )
            texts, places = batch["answers"][owner], batch["answer_start"][owner]
            found = None
            if texts and places[0] >= 0:
                found = answer_tokens(offsets[window], places[0], places[0] + len(texts[0]))
            targets.append([nothing] * 2 if found is None else [firsts[window] + token for token in found])
        for column, values in zip(POSITIONS, zip(*targets, strict=True), strict=True):
            columns[column] = pyarrow.array(values, pyarrow.int64())
    for column, array in columns.items():
        table = table.append_column(column, array)
    return table


def answer_tokens(offsets: Array, start: int, end: int) -> tuple[int, int] | None:
    """The first and last tokens of the characters from `start` to `end`; None where not all are in the window.

    Args:
        offsets: [tokens, 2], ascending.
    """
    if not len(offsets) or offsets[0, 0] > start or offsets[-1, 1] < end:
        return None
    # The last token that begins at or before the answer, and the first that ends at or after it.
    first = int(np.searchsorted(offsets[:, 0], start, side="right")) - 1
    last = int(np.searchsorted(offsets[:, 1], end, side="left"))
    return first, max(first, last)


def windows_by_row(rows: Dataset, outputs: tuple[Array, ...]) -> Iterator[tuple[int, list[Window]]]:
    """Each row of a split, in order, with what a model says of its windows.

    Args:
        rows: of `encode_windows`, in any order.
        outputs: start and end logits [windows, tokens], in the order of `rows`; padding is cut off.
    """
    owners = np.asarray(rows["row"])
    order = np.argsort(owners, kind="stable")
    held = rows.select_columns(["length", "first", "offsets"])
    for row, positions in groupby(order.tolist(), key=lambda position: int(owners[position])):
        found = []
        for position in positions:
            one = held[position]
            start, end = (np.asarray(output[position][: one["length"]], np.float32) for output in outputs[:2])
            found.append(
                Window(start, end, one["first"], np.asarray(one["offsets"], np.int64).reshape(-1, 2))
            )
        yield row, found
