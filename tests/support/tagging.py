"""A second task that only tests know: a tag for each word of a text. It goes through training, export and runtime."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepsparse.tasks.base import Outputs, TaskOutput
from deepsparse.tasks.text_inputs import TextTask
from sparseml.data import Columns, DataOptions, Labels, TextData
from sparseml.data.label_encoding import SINGLE
from sparseml.data.splits import PreparedSplit, hold_out_rows, limit_rows, read_splits
from sparseml.tasks.base import Task
from support import tiny

TAGS = ("plain", "good", "bad")
IGNORED = -100


def tag(word: str) -> str:
    """What is to be learned."""
    return "good" if word in tiny.GOOD else "bad" if word in tiny.BAD else "plain"


def rows(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Texts, and the tags of their words."""
    texts = [row["text"] for row in tiny.rows(count, seed)]
    return [{"text": text, "tags": " ".join(map(tag, text.split()))} for text in texts]


class Tagging(Task):
    """Its half in training and export."""

    name = "tagging"
    introduction = "Trains a tagger."

    @property
    def model_class(self) -> Any:
        from transformers import AutoModelForTokenClassification

        return AutoModelForTokenClassification

    def load_data(self, options: DataOptions, arguments: Any) -> TextData:
        from datasets import Dataset

        source, roles, options = read_splits(options, labels_from_training=True)
        notes = list(source.notes)
        splits = {role: PreparedSplit(split, list(split.columns["tags"])) for role, split in roles.items()}
        splits = limit_rows(hold_out_rows(splits, options, notes), options, notes)
        built = {
            role: Dataset.from_dict({"text": list(split.rows.columns["text"]), "tags": split.targets})
            for role, split in splits.items()
        }
        return TextData(
            source.name, Columns("text", None, "tags"), Labels(SINGLE, TAGS), notes=notes, **built
        )

    def labels_of(self, config: Any) -> Labels | None:
        return Labels(SINGLE, tuple(config.id2label[index] for index in range(config.num_labels)))

    def config_values(self, data: Any, labels: Labels | None) -> dict[str, Any]:
        assert labels is not None
        return {"id2label": labels.id2label, "label2id": labels.label2id, "num_labels": labels.num_labels}

    def encode(self, split: Any, data: Any, tokenizer: Any, arguments: Any) -> Any:
        from datasets import Dataset

        encoded = tokenizer(list(split["text"]), truncation=True, max_length=arguments.max_seq_length)
        ids = encoded["input_ids"]
        labels = [
            [IGNORED if word is None else TAGS.index(tags.split()[word]) for word in encoded.word_ids(row)]
            for row, tags in enumerate(split["tags"])
        ]
        return Dataset.from_dict({"input_ids": ids, "labels": labels, "length": list(map(len, ids))})

    def collate(
        self, tokenizer: Any, labels: Labels | None, multiple_of: int | None = None
    ) -> Callable[[Sequence[Mapping[str, Any]]], dict[str, Tensor]]:
        def batch(rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
            padded = tokenizer.pad([{"input_ids": row["input_ids"]} for row in rows], return_tensors="pt")
            if "labels" in rows[0]:
                wanted = [torch.tensor(row["labels"]) for row in rows]
                padded["labels"] = torch.nn.utils.rnn.pad_sequence(
                    wanted, batch_first=True, padding_value=IGNORED
                )
            return dict(padded)

        return batch

    def distance(self, student: Any, teacher: Any, temperature: float, batch: Any, config: Any) -> Tensor:
        apart = (student["logits"] - teacher["logits"]).square().mean(dim=-1)
        mask = batch["attention_mask"]
        return (apart * mask).sum() / mask.sum()

    def metrics(self, data: Any, labels: Labels | None, rows: Any) -> Callable[[Any], dict[str, float]]:
        def score(evaluation: Any) -> dict[str, float]:
            truth = evaluation.label_ids
            right = evaluation.predictions.argmax(axis=-1) == truth
            return {"tag_accuracy": float(right[truth != IGNORED].mean())}

        return score

    def write_predictions(
        self, stem: Path, outputs: Any, data: Any, labels: Labels | None, rows: Any
    ) -> Path:
        path = stem.with_name(f"{stem.name}_tags.json")
        path.write_text(json.dumps(outputs[0].argmax(axis=-1).tolist()))
        return path

    def decisions(self, outputs: Any, mask: Any) -> tuple[Any, Any]:
        owner, token = np.nonzero(mask)
        return outputs["logits"][owner, token], owner

    def evaluate_deployment(self, pipeline: Any, options: DataOptions) -> dict[str, float]:
        data = self.load_data(options, None)
        found = [tags for row in pipeline.predict(list(data.validation["text"])) for tags in row]
        truth = [word for tags in data.validation["tags"] for word in tags.split()]
        return {
            "tag_accuracy": float(np.mean([one == other for one, other in zip(found, truth, strict=True)]))
        }


@dataclass(frozen=True)
class Tags(TaskOutput):
    """A response."""

    tags: list[list[str]]


class DeployedTagging(TextTask[list[str], Tags]):
    """Its half in the runtime."""

    name = "tagging"
    token_level = True
    offsets = True

    def decode(self, rows: Sequence[Any], outputs: Outputs, **options: Any) -> list[list[str]]:
        names = self.deployment.label_names()
        return [
            [
                names[index]
                for index, word in zip(logits.argmax(axis=-1), encoding.word_ids, strict=True)
                if word is not None
            ]
            for encoding, logits in zip(outputs.encodings, outputs.arrays["logits"], strict=True)
        ]

    def output(self, predictions: Sequence[list[str]], **options: Any) -> Tags:
        return Tags(list(predictions))

    def columns(self) -> list[str]:
        return ["tags"]

    def values(self, prediction: list[str]) -> list[Any]:
        return [" ".join(prediction)]
