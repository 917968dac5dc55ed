"""Text classification: one or two texts to a class, several classes or a score."""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from resparse import thresholds
from resparse.arrays import Array
from resparse.console import say, warn
from resparse.files import whole_file
from resparse.progress import track
from sparseml.data import DataOptions, Labels, TextData, load_text_data, tokenize
from sparseml.data.label_encoding import MULTI, REGRESSION, SINGLE, Kind
from sparseml.data.rows import DataError
from sparseml.distillation.loss import distillation_loss
from sparseml.metrics import decisions, metrics_for, probabilities
from sparseml.modifiers.base import Batch, Outputs
from sparseml.tasks.base import Task, Texts

_TOKENS = ("input_ids", "attention_mask", "token_type_ids")

# Rows that the exported model is given at once in a guided run: the progress bar moves with each.
_WINDOW = 256

# The initial probability of a label that no training row has.
_RAREST = 1e-4


class TextClassification(Task):
    """See `Task`."""

    name = "text_classification"
    one_output_a_row = True
    guided = True
    introduction = """\
Trains a text classifier: a pruned checkpoint, a dataset and a recipe go in; a sparse,
quantized classifier with its report comes out."""

    @property
    def model_class(self) -> Any:
        from transformers import AutoModelForSequenceClassification

        return AutoModelForSequenceClassification

    def load_data(self, options: DataOptions, arguments: Any) -> TextData:
        data = load_text_data(options)
        given = getattr(arguments, thresholds.KEY, None)
        if given is None or data.labels is None:
            return data
        if data.labels.kind != MULTI:
            warn(f"--{thresholds.KEY} has no effect: every row has one label.")
        return replace(data, labels=replace(data.labels, threshold=given))

    def labels_of(self, config: Any) -> Labels | None:
        if not any("SequenceClassification" in name for name in config.architectures or ()):
            return None
        names = tuple(str(config.id2label[index]) for index in range(config.num_labels))
        try:
            return Labels(problem_type(config), names, thresholds.threshold_of(config.to_dict(), names))
        except ValueError as error:
            raise DataError(f"The model's config.json: {error}.") from error

    def config_values(self, data: TextData, labels: Labels | None) -> dict[str, Any]:
        assert labels is not None
        return {
            "num_labels": labels.num_labels,
            "id2label": labels.id2label,
            "label2id": labels.label2id,
            "problem_type": labels.kind,
            **(
                {thresholds.KEY: thresholds.stated(labels.threshold, labels.names)}
                if labels.kind == MULTI
                else {}
            ),
            "finetuning_task": data.task_name,
        }

    def initialize_head(
        self, model: nn.Module, new: Collection[str], data: TextData, labels: Labels | None
    ) -> bool:
        """Set the new classifier's bias so that its first outputs are the shares of the labels."""
        assert labels is not None and data.train is not None
        truth = np.asarray(list(data.train["labels"]))
        return set_bias(model, new, prior_logits(truth, labels.kind, labels.num_labels))

    def assess(
        self, pipeline: Any, texts: Sequence[Texts], truth: Array, labels: Labels | None
    ) -> dict[str, Any]:
        """See `Task` and `guided/summary.py`."""
        from sparseml.guided.summary import Predictions, facts

        assert labels is not None
        logits = deployed_logits(pipeline, texts, _WINDOW, "asking the exported model")
        return facts(Predictions(texts, truth, logits, labels))

    def summarize(self, facts: Mapping[str, Any], width: int) -> list[str]:
        """See `Task` and `guided/summary_text.py`."""
        from sparseml.guided.summary_text import lines

        return lines(facts, width)

    def encode(self, split: Any, data: Any, tokenizer: Any, arguments: Any) -> Any:
        return tokenize(
            split,
            data.columns,
            tokenizer,
            arguments.max_seq_length,
            pad_to_max_length=arguments.pad_to_max_length,
        )

    def collate(self, tokenizer: Any, labels: Labels | None, multiple_of: int | None = None) -> Collate:
        return Collate(tokenizer, labels is not None and labels.kind != SINGLE, multiple_of)

    def distance(
        self, student: Outputs, teacher: Outputs, temperature: float, batch: Batch, config: Any
    ) -> Tensor:
        """See `Task`; which distance, the configuration's `problem_type` says."""
        logits = student["logits"]
        return distillation_loss(
            logits, teacher["logits"].to(logits.device), temperature, problem_type(config)
        )

    def metrics(self, data: TextData, labels: Labels | None, rows: Any) -> Callable[[Any], dict[str, float]]:
        assert labels is not None
        return metrics_for(data.task_name, labels)

    def pipeline_tag(self, model_class: str) -> str | None:
        return "text-classification"

    def evaluation(
        self, outputs: tuple[Array, ...], truth: Any, labels: Labels | None, data: Any, rows: Any
    ) -> dict[str, Any] | None:
        """Confusions and calibration; see `sparseml.evaluation`."""
        from sparseml.evaluation import evaluation

        assert labels is not None
        return evaluation(outputs[0], truth, labels)

    def write_predictions(
        self, stem: Path, outputs: tuple[Array, ...], data: TextData, labels: Labels | None, rows: Any
    ) -> Path:
        """See `Task`; a file of tab-separated values, which `write_predictions` describes."""
        assert labels is not None
        path = stem.with_name(f"{stem.name}.txt")
        write_predictions(path, outputs[0], labels)
        return path

    def deployment_config(self, config: Any) -> dict[str, Any]:
        """See `Task`; `problem_type` and a threshold are there even where the model's configuration has none."""
        kind, values = problem_type(config), super().deployment_config(config)
        several = {thresholds.KEY: values.get(thresholds.KEY) or thresholds.DEFAULT} if kind == MULTI else {}
        return {**values, "problem_type": kind, **several}

    def evaluate_deployment(self, pipeline: Any, options: DataOptions) -> dict[str, float]:
        """See `Task`; on MNLI, of both validation splits: accuracy_m and accuracy_mm."""
        from deepsparse.pipeline import WINDOW

        own = pipeline.handler.label_set.threshold
        labels = Labels(pipeline.problem_type, pipeline.labels, own or thresholds.DEFAULT)
        data = load_text_data(replace(options, known_labels=labels))
        for note in data.notes:
            say(note)
        assert data.labels is not None
        score = metrics_for(data.task_name, data.labels)

        def evaluated(split: Any) -> dict[str, float]:
            logits = deployed_logits(pipeline, self.texts(data, split), WINDOW, "classifying")
            return score(SimpleNamespace(predictions=logits, label_ids=np.asarray(split["labels"])))

        found = evaluated(data.validation)
        if data.validation_mismatched is None:
            return found
        other = evaluated(data.validation_mismatched)
        return {f"{name}_m": value for name, value in found.items()} | {
            f"{name}_mm": value for name, value in other.items()
        }


def problem_type(config: Any) -> Kind:
    """What a classifier predicts, by its configuration; Transformers' rule where that does not say."""
    kind: Kind = config.problem_type or (REGRESSION if config.num_labels == 1 else SINGLE)
    return kind


def deployed_logits(pipeline: Any, texts: Sequence[Texts], window: int, doing: str) -> Array:
    """The logits [rows, labels] of a deployed model, `window` rows at a time, with a progress bar."""
    rows = [row[0] if len(row) == 1 else row for row in texts]
    windows = [rows[start : start + window] for start in range(0, len(rows), window)]
    return np.concatenate([pipeline.logits(window) for window in track(windows, doing)])


class Collate:
    """Pads token ids to the longest row of the batch, and stacks labels and the teacher's logits.

    Args:
        tokenizer: whose padding token to use.
        labels_as_float: labels are scores or rows of zeros and ones, not class ids.
        multiple_of: pad to a multiple of this many tokens.
    """

    def __init__(self, tokenizer: Any, labels_as_float: bool = False, multiple_of: int | None = None) -> None:
        from transformers import DataCollatorWithPadding

        self._pad = DataCollatorWithPadding(tokenizer, pad_to_multiple_of=multiple_of)
        self._label_type = torch.float32 if labels_as_float else torch.int64

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Rows with `input_ids`, `attention_mask`, perhaps `token_type_ids`, `labels`, `teacher_logits`.

        Returns:
            The same names: [batch, tokens] int64; labels [batch] or [batch, labels]; teacher_logits [batch, labels].
        """
        batch = dict(self._pad([{key: row[key] for key in _TOKENS if key in row} for row in rows]))
        if "labels" in rows[0]:
            batch["labels"] = torch.tensor([row["labels"] for row in rows], dtype=self._label_type)
        if "teacher_logits" in rows[0]:
            batch["teacher_logits"] = torch.from_numpy(
                np.asarray([row["teacher_logits"] for row in rows], dtype=np.float32)
            )
        return batch


def prior_logits(truth: Array, kind: Kind, num_labels: int) -> Array:
    """The logits [num_labels] of the labels' shares, which fit best before anything is known of a text.

    Args:
        truth: [rows] class ids or scores; [rows, num_labels] of 0 and 1 for several labels.
    """
    if kind == REGRESSION:
        return np.asarray([float(np.mean(truth))])
    if kind == MULTI:
        share = np.clip(np.mean(truth, axis=0), _RAREST, 1 - _RAREST)
        logits: Array = np.log(share / (1 - share))
        return logits
    counts = np.bincount(np.asarray(truth, dtype=np.int64), minlength=num_labels)
    logits = np.log(np.maximum(counts / counts.sum(), _RAREST))
    return logits - logits.mean()


def set_bias(model: nn.Module, new: Collection[str], logits: Array) -> bool:
    """Set the bias of the classifier's last layer, in place.

    Rare labels otherwise begin at a probability of one half, and all that a short training learns is that they are
    rare (Lin et al. 2017, Focal Loss for Dense Object Detection, section 3.3).

    Args:
        model: a sequence classifier.
        new: names of its parameters that were made new.
        logits: the first output, [num_labels].

    Returns:
        Whether there was such a layer among the new ones.
    """
    last: Any = None
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and f"{name}.bias" in new and module.out_features == len(logits):
            last = module
    if last is None:
        return False
    with torch.no_grad():
        last.bias.copy_(torch.as_tensor(logits, dtype=last.bias.dtype))
    return True


def write_predictions(path: Path, logits: Array, labels: Labels) -> None:
    """Write tab-separated values: index, prediction, and a column of probability for each class.

    Several labels of one row are joined by commas; a score is written as it is. What counts as predicted is what
    the metrics count.
    """
    shares, decided = probabilities(logits, labels.kind), decisions(logits, labels.kind, labels.threshold)
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        if labels.kind == REGRESSION:
            writer.writerow(["index", "prediction"])
            writer.writerows([index, f"{score:.6g}"] for index, score in enumerate(shares.reshape(-1)))
            return
        writer.writerow(["index", "prediction", *(f"probability_{name}" for name in labels.names)])
        for index, (row, chosen) in enumerate(zip(shares, decided, strict=True)):
            writer.writerow([index, _predicted(chosen, labels), *(f"{share:.6f}" for share in row)])


def _predicted(chosen: Any, labels: Labels) -> str:
    """The name of a class id, or those of a row of zeros and ones."""
    if labels.kind == MULTI:
        return ",".join(name for name, flag in zip(labels.names, chosen, strict=True) if flag)
    return labels.names[int(chosen)]
