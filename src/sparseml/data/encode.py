"""Tokenization in batches, into an Arrow table that no later run reads: a cache could be stale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from resparse.progress import track
from sparseml.data.columns import Columns
from sparseml.data.growing_table import GrowingTable, dataset_of

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

# Large enough for the tokenizer's threads to be busy, small enough for a few megabytes of Python lists.
_BATCH = 2000


def sequence_limit(tokenizer: PreTrainedTokenizerBase, max_seq_length: int) -> int:
    """The length in tokens at which texts are truncated: `max_seq_length`, but at most the model's maximum."""
    return min(max_seq_length, int(tokenizer.model_max_length))


def tokenize(
    dataset: Dataset,
    columns: Columns,
    tokenizer: PreTrainedTokenizerBase,
    max_seq_length: int,
    *,
    pad_to_max_length: bool = False,
) -> Dataset:
    """Tokenize a split of `load_text_data`; of a pair the longer text is truncated.

    Unless padded to `max_seq_length`, rows are padded by the collator. Returns `input_ids`, `attention_mask`,
    `token_type_ids` where the model uses them, `labels` where there are any, `length` (tokens without padding,
    int32), by which batches are grouped, and `longer`: whether the row was truncated.
    """
    import pyarrow

    limit = sequence_limit(tokenizer, max_seq_length)
    labels = label_column(dataset) if "labels" in dataset.column_names else None
    with GrowingTable() as tokens:
        for start in track(range(0, len(dataset), _BATCH), "tokenizing"):
            batch = dataset[start : start + _BATCH]
            encoded = tokenizer(
                *(batch[column] for column in columns.texts),
                truncation=True,
                max_length=limit,
                padding="max_length" if pad_to_max_length else False,
            )
            texts = [list(batch[column]) for column in columns.texts]
            cut = pyarrow.array(_are_cut(encoded, texts, tokenizer, limit), pyarrow.bool_())
            table = token_table(encoded, tokenizer).append_column("longer", cut)
            if labels is not None:
                table = table.append_column("labels", labels.slice(start, _BATCH))
            tokens.write(table)
        return dataset_of(tokens.finish())


def label_column(dataset: Dataset) -> Any:
    """The Arrow column of a split's labels."""
    return dataset.select_columns(["labels"]).with_format("arrow")[:]["labels"]


def _are_cut(
    encoded: Any, texts: Sequence[Sequence[str]], tokenizer: PreTrainedTokenizerBase, limit: int
) -> list[bool]:
    """By row, whether a part of it was cut off; `texts` are one or two columns."""
    full = [sum(mask) >= limit for mask in encoded["attention_mask"]]
    if encoded.encodings is not None:
        return [cut and bool(row.overflowing) for cut, row in zip(full, encoded.encodings, strict=True)]
    # A tokenizer in Python does not say, so those that may be cut are tokenized again.
    rows = zip(*texts, strict=True)
    return [
        cut and len(tokenizer(*row, verbose=False)["input_ids"]) > limit
        for cut, row in zip(full, rows, strict=True)
    ]


def token_table(encoded: Any, tokenizer: PreTrainedTokenizerBase) -> Any:
    """The Arrow table of a tokenizer's output: the model's inputs, and each row's `length`."""
    import pyarrow

    # int32 ids, int8 masks and token types: 6 bytes for each token.
    small = pyarrow.list_(pyarrow.int8())
    kinds = {"input_ids": pyarrow.list_(pyarrow.int32()), "attention_mask": small, "token_type_ids": small}
    arrays = {
        name: pyarrow.array(encoded[name], kind)
        for name, kind in kinds.items()
        if name in encoded and (name in tokenizer.model_input_names or name != "token_type_ids")
    }
    arrays["length"] = pyarrow.array([sum(mask) for mask in encoded["attention_mask"]], pyarrow.int32())
    return pyarrow.table(arrays)
