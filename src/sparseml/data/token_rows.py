"""Tagged words as token ids: the tags aligned to sub-words, long rows in several windows, and tags read back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from resparse.arrays import Array
from resparse.progress import track
from resparse.tags import parts
from resparse.words import firsts, owners, places
from sparseml.data.encode import sequence_limit, token_table
from sparseml.data.label_encoding import Labels
from sparseml.data.rows import DataError

if TYPE_CHECKING:
    from datasets import Dataset

IGNORED: Final = -100
"""The label of tokens that have none, in PyTorch's losses."""
_BATCH = 1000


def encode_rows(
    split: Dataset,
    name: str,
    tokenizer: Any,
    max_seq_length: int,
    labels: Labels | None,
    *,
    all_tokens: bool = False,
    pad_to_max_length: bool = False,
) -> Dataset:
    """Tokenize a split of `load_tokens`; a row that is longer than `max_seq_length` becomes several.

    Args:
        all_tokens: also label the tokens of a word behind its first one, where a B- tag becomes I-.

    Returns:
        A dataset with the model's inputs, `length`, `labels` where they are known (of the first token of each word,
        `IGNORED` elsewhere), `split` (its name), `row` (in the split), and `words`: the word of each token that is its
        word's first, else -1.

    Raises:
        DataError: the tokenizer does not tell the tokens' places.
    """
    import pyarrow
    from datasets import Dataset

    if not tokenizer.is_fast:
        raise DataError(
            "Tags belong to words, whose tokens only tokenizers written in Rust tell: leave out --use_fast_tokenizer "
            "false."
        )
    inside = _inside(labels) if all_tokens and labels is not None else None
    tables = []
    for start in track(range(0, len(split), _BATCH), "tokenizing"):
        batch = split[start : start + _BATCH]
        encoded = tokenizer(
            batch["text"],
            truncation=True,
            max_length=sequence_limit(tokenizer, max_seq_length),
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            padding="max_length" if pad_to_max_length else False,
        )
        table = token_table(encoded, tokenizer)
        rows = np.asarray(encoded["overflow_to_sample_mapping"], np.int64)
        spans = [places(words) for words in batch["tokens"]]
        all_words, all_labels = [], []
        before = (-1, -1)
        for row, offsets in zip(rows.tolist(), encoded["offset_mapping"], strict=True):
            of_tokens = owners(np.asarray(offsets, np.int64).reshape(-1, 2), spans[row])
            first = firsts(of_tokens)
            if before[0] == row:  # a word that the window before began
                first = np.where(first == before[1], -1, first)
            all_words.append(first)
            before = row, max(int(of_tokens.max(initial=-1)), before[1] if before[0] == row else -1)
            if "labels" in batch:
                tags = np.asarray([*batch["labels"][row], IGNORED], np.int64)  # -1 is the last
                labelled = tags[first]
                if inside is not None:
                    rest = (first < 0) & (of_tokens >= 0)
                    labelled = np.where(rest, inside[np.maximum(tags[of_tokens], -1)], labelled)
                all_labels.append(labelled)
        columns = {
            "row": pyarrow.array(rows + start, pyarrow.int32()),
            "split": pyarrow.array([name] * len(rows)),
            "words": pyarrow.array(all_words, pyarrow.list_(pyarrow.int32())),
        }
        if all_labels:
            columns["labels"] = pyarrow.array(all_labels, pyarrow.list_(pyarrow.int64()))
        for column, array in columns.items():
            table = table.append_column(column, array)
        tables.append(table)
    return Dataset(pyarrow.concat_tables(tables))


def _inside(labels: Labels) -> Array:
    """For each tag id that of the same type's I- tag, itself where there is none: [tags + 1], for -1 `IGNORED`."""
    ids = labels.label2id
    found = [
        ids.get(f"I-{parts(tag)[1]}", index) if parts(tag)[0] == "B" else index
        for index, tag in enumerate(labels.names)
    ]
    return np.asarray([*found, IGNORED], np.int64)


def read_tags(
    logits: Array, rows: Dataset, counts: Sequence[int], names: Sequence[str], missing: int = 0
) -> list[list[str]]:
    """The tags of each row's words.

    Args:
        logits: [encoded rows, tokens, tags]; padding may follow.
        rows: of `encode_rows`, in the order of the logits.
        counts: words of each row of the split.
        names: the tags, in the order of the logits.
        missing: the tag of words without a token, such as control characters.
    """
    found = [np.full(count, missing) for count in counts]
    for row, words, decided in zip(rows["row"], rows["words"], logits.argmax(axis=-1), strict=True):
        of_tokens = np.asarray(words)
        tokens = np.flatnonzero(of_tokens >= 0)
        found[row][of_tokens[tokens]] = decided[tokens]
    return [[names[index] for index in row] for row in found]
