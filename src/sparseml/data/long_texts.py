"""Texts that are longer than the model takes, in training: each window of one is a row of its own.

A window is trained on its text's label, and the logits of a text's windows are pooled where rows are scored: a batch is
no larger than it was, whatever the length of its texts; a teacher answers each window as the student reads it; and
every loss, also on hidden states, is of one window. Training on pooled logits would hold the activations of all windows
of a batch's texts, 64 times as many in the worst case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from resparse.arrays import Array
from resparse.errors import UserError
from resparse.long_texts import Cut, LongTexts, cut, pool
from resparse.progress import track
from sparseml.data.columns import Columns
from sparseml.data.growing_table import dataset_of
from sparseml.data.rows import numbers

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

DOCUMENT: Final = "document"
"""The column of encoded rows that says which row of the data each is a window of; only where they are windows."""

LONGER: Final = "longer"
UNREAD: Final = "unread"
"""Columns of encoded rows: whether the row is longer than the model takes, and whether a part of it is not read."""

_BATCH = 2000


class WindowError(UserError):
    """A tokenizer that cannot cut texts into windows."""


def tokenize_windows(
    dataset: Dataset,
    columns: Columns,
    tokenizer: PreTrainedTokenizerBase,
    limit: int,
    settings: LongTexts,
) -> Dataset:
    """Tokenize a split, a row for each window of each text.

    Args:
        limit: tokens of a window.

    Returns:
        As `tokenize`, with `document`, and `longer` and `unread` of the window's text.

    Raises:
        WindowError: the tokenizer is not one of the `tokenizers` library.
    """
    import pyarrow

    from sparseml.data.encode import label_column, token_table

    rust, left = plain_tokenizer(tokenizer), tokenizer.truncation_side == "left"
    tables, documents, longer, unread = [], [], [], []
    for start in track(range(0, len(dataset), _BATCH), "tokenizing"):
        batch = dataset[start : start + _BATCH]
        texts = [list(batch[column]) for column in columns.texts]
        cuts = cut(rust, rows_of(texts), limit, settings, left)
        tables.append(token_table(as_columns(cuts), tokenizer))
        for place, each in enumerate(cuts):
            count = len(each.windows)
            documents += [start + place] * count
            longer += [each.longer] * count
            unread += [each.unread] * count
    tokens = pyarrow.concat_tables(tables)
    tokens = tokens.append_column(DOCUMENT, pyarrow.array(documents, pyarrow.int32()))
    for name, values in ((LONGER, longer), (UNREAD, unread)):
        tokens = tokens.append_column(name, pyarrow.array(values, pyarrow.bool_()))
    if "labels" in dataset.column_names:
        tokens = tokens.append_column("labels", label_column(dataset).combine_chunks().take(documents))
    return dataset_of(tokens)


def plain_tokenizer(tokenizer: PreTrainedTokenizerBase) -> Any:
    """A copy of a tokenizer's Rust half that neither truncates nor pads.

    Raises:
        WindowError: it has none.
    """
    from tokenizers import Tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise WindowError(
            "--long_texts windows needs a tokenizer of the `tokenizers` library, and this model's is another one: "
            "leave out --no_use_fast_tokenizer, or read the first window alone."
        )
    rust = Tokenizer.from_str(backend.to_str())
    rust.no_truncation()
    rust.no_padding()
    return rust


def rows_of(texts: Sequence[Sequence[str]]) -> list[Any]:
    """Rows of one text or two, from one or two lists of texts."""
    return list(texts[0]) if len(texts) == 1 else list(zip(*texts, strict=True))


def as_columns(cuts: Sequence[Cut]) -> dict[str, list[list[int]]]:
    """The model's inputs of all windows, in their order, not padded."""
    windows = [window for each in cuts for window in each.windows]
    return {
        "input_ids": [window.ids for window in windows],
        "attention_mask": [window.attention_mask for window in windows],
        "token_type_ids": [window.type_ids for window in windows],
    }


def by_document(values: Array, rows: Any, pooling: str) -> Array:
    """What windows say, pooled to what their texts say, in the order of the texts.

    Args:
        values: (windows, ...), in the order of `rows`.
        rows: encoded, in any order.
        pooling: "mean" or "max"; "first": of values that are the same for all windows of a text.
    """
    documents = np.asarray(rows[DOCUMENT])
    order = np.argsort(documents, kind="stable")
    _, first = np.unique(documents[order], return_index=True)
    if pooling == "first":
        return np.asarray(values)[order[first]]
    return pool(np.asarray(values)[order], [*first.tolist(), len(order)], pooling)


def has_windows(rows: Any) -> bool:
    """Whether encoded rows are windows."""
    return DOCUMENT in (getattr(rows, "column_names", None) or ())


def counts(rows: Any) -> dict[str, int] | None:
    """Of encoded rows: how many texts there are, are "longer" than the model takes, and are in part "unread"."""
    if LONGER not in (getattr(rows, "column_names", None) or ()):
        return None
    longer = numbers(rows, LONGER)
    unread = numbers(rows, UNREAD) if UNREAD in rows.column_names else longer
    if has_windows(rows):
        longer, unread = (by_document(each, rows, "first") for each in (longer, unread))
    return {"rows": len(longer), LONGER: int(longer.sum()), UNREAD: int(unread.sum())}


def asked_for(arguments: Any, kept: LongTexts | None = None) -> LongTexts:
    """What a command's data arguments say of long texts, else what a model was trained with.

    Raises:
        ValueError: a setting makes no sense.
    """
    return (kept or LongTexts()).changed(
        read=getattr(arguments, "long_texts", None),
        stride=getattr(arguments, "window_stride", None),
        pooling=getattr(arguments, "window_pooling", None),
        most=getattr(arguments, "max_windows", None),
        length=arguments.max_seq_length,
    )


def facts(rows: Mapping[str, Any], tokens: int, settings: LongTexts) -> dict[str, Any]:
    """For report.json: what was read of the texts of each split; {} where nothing is known of their lengths."""
    splits = {name: found for name, split in rows.items() if (found := counts(split)) is not None}
    return {"tokens": tokens, "read": settings.read, **splits} if splits else {}
