"""Tokenizing: against the tokenizer itself, called on one row at a time."""

from __future__ import annotations

from typing import Any

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import DataCollatorWithPadding, PreTrainedTokenizerFast

from sparseml.data import Columns, tokenize
from sparseml.data import encode as module

WORDS = ("a", "b", "c", "d")
ONE, TWO = Columns("text", None, "label"), Columns("first", "second", "label")
TEXTS = st.lists(st.sampled_from([*WORDS, "unknown"]), max_size=12).map(" ".join)


def make_tokenizer(**options: Any) -> PreTrainedTokenizerFast:
    """A BERT-like tokenizer of a few words."""
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
    vocabulary = {word: index for index, word in enumerate(special + WORDS)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, **{"model_input_names": inputs, "model_max_length": 512, **names, **options}
    )


TOKENIZER = make_tokenizer()


@settings(max_examples=25)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=7), st.integers(5, 12), st.booleans())
def test_rows_are_as_the_tokenizer_makes_them(pairs: list[tuple[str, str]], limit: int, pad: bool):
    rows = Dataset.from_dict({"first": [pair[0] for pair in pairs], "second": [pair[1] for pair in pairs]})
    tokens = tokenize(rows, TWO, TOKENIZER, limit, pad_to_max_length=pad)
    for row, pair in zip(tokens, pairs, strict=True):
        # In a batch of one: given two bare strings, the tokenizer takes an empty second one for none.
        texts = ([text] for text in pair)
        alone = TOKENIZER(*texts, truncation=True, max_length=limit, padding="max_length" if pad else False)
        assert {name: [row[name]] for name in alone} == dict(alone)
        assert row["length"] == sum(row["attention_mask"]) <= limit
        assert not pad or len(row["input_ids"]) == limit


@pytest.mark.parametrize("labels", [[1, 0, 2], [[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]], [0.5, 1.5, 2.5]])
def test_labels_go_along_through_batches(labels: list[Any], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_BATCH", 2)
    rows = Dataset.from_dict({"text": ["a", "a b", "c"], "labels": labels})
    tokens = tokenize(rows, ONE, TOKENIZER, 16)
    assert tokens["labels"][:] == labels
    assert tokens["length"][:] == [3, 4, 3]
    # A view on some rows has its own order.
    chosen = tokenize(rows.select([2, 0]), ONE, TOKENIZER, 16)
    assert chosen["labels"][:] == [labels[2], labels[0]]


def test_rows_without_labels():
    tokens = tokenize(Dataset.from_dict({"text": ["a"]}), ONE, TOKENIZER, 16)
    assert sorted(tokens.column_names) == [
        "attention_mask",
        "input_ids",
        "length",
        "longer",
        "token_type_ids",
    ]


def test_token_types_only_where_the_model_uses_them():
    tokenizer = make_tokenizer(model_input_names=["input_ids", "attention_mask"])
    tokens = tokenize(Dataset.from_dict({"text": ["a"]}), ONE, tokenizer, 16)
    assert "token_type_ids" not in tokens.column_names


def test_no_longer_than_the_model_can_take():
    tokenizer = make_tokenizer(model_max_length=5)
    tokens = tokenize(Dataset.from_dict({"text": ["a b c d a b"]}), ONE, tokenizer, 384)
    assert tokens["length"][:] == [5]
    assert module.sequence_limit(tokenizer, 384) == 5
    assert module.sequence_limit(TOKENIZER, 384) == 384


def test_batches_collate():
    rows = Dataset.from_dict({"text": ["a", "a b c"], "labels": [0, 1]})
    tokens = tokenize(rows, ONE, TOKENIZER, 16).remove_columns("length")
    batch = DataCollatorWithPadding(TOKENIZER)([tokens[0], tokens[1]])
    assert batch["input_ids"].tolist() == [[2, 4, 3, 0, 0], [2, 4, 5, 6, 3]]
    assert batch["labels"].tolist() == [0, 1]
