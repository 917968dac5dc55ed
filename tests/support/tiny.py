"""A pruned BERT of 30,000 weights, and rows to train it on: the whole command runs in about a second."""

from __future__ import annotations

import csv
import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

GOOD = ["fine", "lovely", "bright", "splendid", "warm", "kind"]
BAD = ["dull", "awful", "grim", "dreary", "cold", "cruel"]
PLAIN = [
    "the",
    "a",
    "film",
    "book",
    "day",
    "tale",
    "was",
    "is",
    "and",
    "of",
    "it",
    "in",
    "with",
    "scene",
    "song",
]
WORDS = [*GOOD, *BAD, *PLAIN]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SPARSITY = 0.8


def tokenizer(words: Sequence[str] = WORDS) -> Any:
    """A WordPiece tokenizer that knows these words and no others."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *words])}
    raw = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    raw.pre_tokenizer = Whitespace()
    raw.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def bert(
    folder: Path,
    *,
    names: Sequence[str] | None = None,
    words: Sequence[str] = WORDS,
    sparsity: float = SPARSITY,
    seed: int = 0,
    **config: Any,
) -> Path:
    """Save a BERT with zeros in the Linear layers of its encoder.

    Args:
        folder: where.
        names: class names of a classifier; None saves an encoder without a head.
        words: the vocabulary.
        sparsity: share of zeros.
        seed: of the weights.
        config: more for `BertConfig`.
    """
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    settings: dict[str, Any] = {
        "vocab_size": len(SPECIAL) + len(words),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "initializer_range": 0.2,
        **config,
    }
    if names is not None:
        settings |= {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = (BertModel if names is None else BertForSequenceClassification)(BertConfig(**settings))
        prune(model, sparsity)
    model.save_pretrained(folder)
    tokenizer(words).save_pretrained(folder)
    return folder


def prune(model: Any, sparsity: float = SPARSITY) -> None:
    """Zero a random share of the weights of the encoder's Linear layers, in place."""
    import torch

    for path, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and "encoder" in path:
            with torch.no_grad():
                module.weight.mul_(torch.rand_like(module.weight) >= sparsity)


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """`text` of 3 to 14 words, and a `label` that one of them determines: positive or negative."""
    source = random.Random(seed)
    records = []
    for index in range(count):
        label = ("negative", "positive")[index % 2]
        text = source.choices(PLAIN, k=source.randint(2, 12))
        text.insert(source.randrange(len(text)), source.choice(GOOD if label == "positive" else BAD))
        records.append({"text": " ".join(text), "label": label})
    return records


def write(path: Path, records: Sequence[Mapping[str, Any]]) -> Path:
    """Rows to a file, CSV or JSON Lines by its ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            writer = csv.DictWriter(file, list(records[0]))
            writer.writeheader()
            writer.writerows(records)
        else:
            file.writelines(json.dumps(record) + "\n" for record in records)
    return path


RECIPE = """\
num_epochs: 3
init_lr: 2e-3
qat_start_epoch: 1.5
observer_epoch: 2.25

training_modifiers:
  - !EpochRangeModifier
      start_epoch: 0.0
      end_epoch: eval(num_epochs)
  - !LearningRateFunctionModifier
      start_epoch: 0.0
      end_epoch: eval(num_epochs)
      lr_func: linear
      init_lr: eval(init_lr)
      final_lr: 1e-5

pruning_modifiers:
  - !ConstantPruningModifier
      start_epoch: 0.0
      params: __ALL_PRUNABLE__

quantization_modifiers:
  - !QuantizationModifier
      start_epoch: eval(qat_start_epoch)
      disable_quantization_observer_epoch: eval(observer_epoch)
      submodules:
        - bert.embeddings
        - bert.encoder
        - bert.pooler
        - classifier
"""
"""The tutorial's recipe, shortened: three epochs, quantized in the middle of the second."""

DISTILLATION = """
distillation_modifiers:
  - !DistillationModifier
      hardness: 0.6
      temperature: 3.0
"""


def train(model: Path, rows: Path, output: Path, **more: Any) -> dict[str, Any]:
    """Run the whole command on `rows`/train.csv in batches of 8 under RECIPE; returns the report.

    Args:
        model: the folder to start from.
        rows: a folder with train.csv and validation.csv.
        output: the folder to write.
        more: other arguments, in place of these; None leaves one of these out.
    """
    from sparseml.transformers import text_classification

    arguments: dict[str, Any] = {
        "model_name_or_path": model,
        "train_file": rows / "train.csv",
        "validation_file": rows / "validation.csv",
        "recipe": RECIPE,
        "output_dir": output,
        "max_seq_length": 32,
        "do_train": True,
        "per_device_train_batch_size": 8,
        "save_strategy": "no",
        **more,
    }
    return text_classification.main(
        **{name: str(value) if isinstance(value, Path) else value for name, value in arguments.items()}
    )


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder by its path, with a digest of what it holds; folders too, as themselves."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
    }


def bits(folder: Path) -> dict[str, bytes]:
    """Every tensor of a finished run: weights, masks, ranges and scales."""
    from safetensors.torch import load_file

    return {
        f"{name}/{key}": value.numpy().tobytes()
        for name in ("model.safetensors", "modifiers.safetensors")
        for key, value in load_file(folder / name).items()
    }
