"""The trainer under a recipe, on a model and rows of no meaning."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import BertConfig, BertForSequenceClassification, PrinterCallback, TrainingArguments

from sparseml.session.trainer import RecipeTrainer
from sparseml.tasks import load_task
from sparseml.tasks.text_classification import LabelCollate
from support import tiny

ROWS, CLASSES = 32, 3


def classifier(
    kind: str = "single_label_classification",
    dropout: float = 0.0,
    sparsity: float = 0.8,
    layers: int = 1,
    heads: int = 2,
) -> Any:
    """A BERT, pruned; seeds PyTorch."""
    torch.manual_seed(0)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=40,
            hidden_size=16,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=32,
            max_position_embeddings=32,
            num_labels=1 if kind == "regression" else CLASSES,
            problem_type=kind,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            initializer_range=0.3,
        )
    )
    tiny.prune(model, sparsity)
    return model


def dataset(kind: str = "single_label_classification", teacher: bool = False, rows: int = ROWS) -> Dataset:
    """Random tokens with labels and, if requested, a teacher's logits."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(3, 12, rows)
    columns: dict[str, Any] = {
        "input_ids": [generator.integers(5, 40, length).tolist() for length in lengths],
        "attention_mask": [[1] * int(length) for length in lengths],
        "length": lengths.tolist(),
    }
    outputs = 1 if kind == "regression" else CLASSES
    if kind == "single_label_classification":
        columns["labels"] = generator.integers(0, CLASSES, rows).tolist()
    elif kind == "regression":
        columns["labels"] = generator.normal(size=rows).tolist()
    else:
        columns["labels"] = generator.integers(0, 2, (rows, CLASSES)).astype(float).tolist()
    if teacher:
        columns["teacher_logits"] = generator.normal(0, 2, (rows, outputs)).astype(np.float32).tolist()
    return Dataset.from_dict(columns)


def trainer(
    folder: Path, recipe: str | None, kind: str = "single_label_classification", **more: Any
) -> RecipeTrainer:
    """A trainer that writes nothing by itself; `more` are its own keywords, or arguments of the training."""
    keywords = {
        "model",
        "train_dataset",
        "eval_dataset",
        "teacher",
        "distance",
        "compute_metrics",
        "callbacks",
    }
    given = {name: more.pop(name) for name in list(more) if name in keywords}
    settings: dict[str, Any] = {
        "per_device_train_batch_size": 8,
        "num_train_epochs": 1,
        "save_strategy": "no",
        "logging_steps": 1,
        "learning_rate": 1e-3,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "remove_unused_columns": False,
        **more,
    }
    given.setdefault("model", classifier(kind))
    given.setdefault("train_dataset", dataset(kind))
    given.setdefault("distance", partial(load_task().distance, config=given["model"].config))
    made = RecipeTrainer(
        args=TrainingArguments(output_dir=str(folder), **settings),
        recipe=recipe,
        data_collator=LabelCollate(tiny.tokenizer(), kind != "single_label_classification"),
        **given,
    )
    made.remove_callback(PrinterCallback)
    return made
