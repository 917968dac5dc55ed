"""A deployment folder of a few kilobytes: an embedding, a mean over the text, a linear layer; no torch needed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

NAMES = ("anger", "joy", "sadness")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (
    "furious",
    "happy",
    "sad",
    "the",
    "a",
    "film",
    "was",
    "very",
    "is",
    "anybody",
    "there",
    "?",
    "!",
    ".",
    "##s",
)
WIDTH = 8
MAX_LENGTH = 64


def weights(labels: int = len(NAMES), seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights; the words furious, happy and sad decide for the first three labels."""
    source = np.random.default_rng(seed)
    vocabulary = len(SPECIAL) + len(WORDS)
    tensors = {
        "embedding": source.normal(0, 0.1, (vocabulary, WIDTH)).astype(np.float32),
        "segment": source.normal(0, 0.1, (2, WIDTH)).astype(np.float32),
        "linear": np.eye(WIDTH, labels, dtype=np.float32) * 2,
        "bias": np.zeros(labels, np.float32),
    }
    for index in range(min(3, labels)):
        tensors["embedding"][len(SPECIAL) + index, index] += 8
    return tensors


def model(
    values: dict[str, np.ndarray], batch: int | str = "batch", length: int | str = "sequence"
) -> onnx.ModelProto:
    """The classifier as ONNX, with dynamic or fixed dimensions."""
    nodes = [
        ("Gather", ["embedding", "input_ids"], "words", {}),
        ("Gather", ["segment", "token_type_ids"], "segments", {}),
        ("Add", ["words", "segments"], "hidden", {}),
        ("Cast", ["attention_mask"], "mask", {"to": TensorProto.FLOAT}),
        ("Unsqueeze", ["mask", "last"], "wide_mask", {}),
        ("Mul", ["hidden", "wide_mask"], "kept", {}),
        ("ReduceSum", ["kept", "second"], "total", {"keepdims": 0}),
        ("ReduceSum", ["mask", "second"], "count", {"keepdims": 1}),
        ("Div", ["total", "count"], "mean", {}),
        ("MatMul", ["mean", "linear"], "product", {}),
        ("Add", ["product", "bias"], "logits", {}),
    ]
    constants = {**values, "last": np.array([2], np.int64), "second": np.array([1], np.int64)}
    inputs = ("input_ids", "attention_mask", "token_type_ids")
    graph = helper.make_graph(
        [helper.make_node(kind, given, [name], **extra) for kind, given, name, extra in nodes],
        "classifier",
        [helper.make_tensor_value_info(name, TensorProto.INT64, [batch, length]) for name in inputs],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, values["bias"].size])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(proto)
    return proto


def token_model(tables: dict[str, np.ndarray]) -> onnx.ModelProto:
    """A token-level model as ONNX: each output looks its tokens' values up in a table of (vocabulary, ...)."""
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "sequence", *table.shape[1:]])
        for name, table in tables.items()
    ]
    graph = helper.make_graph(
        [helper.make_node("Gather", [f"{name}.table", "input_ids"], [name]) for name in tables],
        "tokens",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])],
        outputs,
        [numpy_helper.from_array(table, f"{name}.table") for name, table in tables.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(proto)
    return proto


def token_deployment(
    folder: Path, words: Sequence[str], tables: dict[str, np.ndarray], **config: Any
) -> Path:
    """Write the deployment folder of a token-level model, and return it.

    Args:
        folder: where.
        words: of the vocabulary, behind the special tokens.
        tables: by output, the values of these words, (words, ...); those of special tokens are 0.
        config: of `config.json`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    padded = {
        name: np.concatenate([np.zeros_like(table[:1])] * len(SPECIAL) + [table])
        for name, table in tables.items()
    }
    onnx.save(token_model(padded), folder / "model.onnx")
    tokenizer(words, lowercase=False).save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def tokenizer(words: Sequence[str] = WORDS, lowercase: bool = True) -> Tokenizer:
    """A WordPiece tokenizer of these words."""
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *words])}
    wordpiece = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    wordpiece.normalizer = BertNormalizer(lowercase=lowercase)
    wordpiece.pre_tokenizer = BertPreTokenizer()
    wordpiece.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    return wordpiece


def deployment(
    folder: Path,
    *,
    names: Sequence[str] = NAMES,
    values: dict[str, np.ndarray] | None = None,
    batch: int | str = "batch",
    length: int | str = "sequence",
    **config: Any,
) -> Path:
    """Write a deployment folder, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    values = weights(len(names)) if values is None else values
    onnx.save(model(values, batch, length), folder / "model.onnx")
    tokenizer().save(str(folder / "tokenizer.json"))
    settings = {"pad_token": "[PAD]", "model_max_length": MAX_LENGTH, "padding_side": "right"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    labels = {
        "id2label": {str(index): name for index, name in enumerate(names)},
        "vocab_size": len(values["embedding"]),
        "max_position_embeddings": MAX_LENGTH,
    }
    (folder / "config.json").write_text(json.dumps({**labels, **config}))
    return folder


def logits(
    values: dict[str, np.ndarray], text: str, second: str | None = None, most: int = MAX_LENGTH
) -> np.ndarray:
    """What the model gives for one row, (labels,), computed by NumPy."""
    rust = tokenizer()
    rust.enable_truncation(most, strategy="longest_first")
    encoded = rust.encode(text, second)
    hidden = values["embedding"][encoded.ids] + values["segment"][encoded.type_ids]
    return hidden.mean(axis=0) @ values["linear"] + values["bias"]
