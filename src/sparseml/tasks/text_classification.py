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

from resparse import confidence, thresholds
from resparse.arrays import Array
from resparse.confidence import Confidence
from resparse.console import say, warn
from resparse.files import whole_file
from resparse.progress import track
from resparse.threshold_search import VALIDATION
from sparseml import class_weights
from sparseml.calibrate import LEAST_ROWS, LEAST_ROWS_BY_LABEL, TEMPERATURE, Fitted, entries, fit
from sparseml.class_loss import ClassLoss
from sparseml.data import DataOptions, Labels, TextData, load_text_data, tokenize
from sparseml.data.encode import sequence_limit
from sparseml.data.label_encoding import MULTI, REGRESSION, SINGLE, Kind
from sparseml.data.long_texts import asked_for, tokenize_windows
from sparseml.data.rows import DataError
from sparseml.decisions import decisions, probabilities
from sparseml.distillation.loss import distillation_loss
from sparseml.metrics import metrics_for
from sparseml.modifiers.base import Batch, Outputs
from sparseml.options.text_classification import ClassificationArguments
from sparseml.selective import decided, outside_id
from sparseml.session.sources import ModelError
from sparseml.tasks.base import Task, Texts
from sparseml.tasks.collate import Collate
from sparseml.tasks.initial_bias import prior_logits, set_bias

# Rows that the exported model is given at once in a guided run: the progress bar moves with each.
_WINDOW = 256


class TextClassification(Task):
    """See `Task`."""

    name = "text_classification"
    one_output_a_row = True
    guided = True
    introduction = """\
Trains a text classifier: a pruned checkpoint, a dataset and a recipe go in; a sparse,
quantized classifier with its report comes out."""

    @property
    def arguments(self) -> type:
        return ClassificationArguments

    @property
    def model_class(self) -> Any:
        from transformers import AutoModelForSequenceClassification

        return AutoModelForSequenceClassification

    def load_data(self, options: DataOptions, arguments: Any) -> TextData:
        data = load_text_data(options)
        if data.labels is None:
            return data
        labels = data.labels
        given = getattr(arguments, thresholds.KEY, None)
        if given is not None and labels.kind != MULTI:
            warn(f"--{thresholds.KEY} has no effect: every row has one label.")
        if isinstance(given, float | int):
            labels = replace(labels, threshold=given)
        asked = {
            name: value for name in confidence.KEYS if (value := getattr(arguments, name, None)) is not None
        }
        if asked and labels.kind != SINGLE:
            warn(f"--{next(iter(asked))} has no effect: it is for labels that exclude each other.")
        elif asked:
            labels = replace(labels, confidence=replace(labels.confidence, **asked))
            if labels.confidence.min_score is None and outside_id(labels) == labels.num_labels:
                warn(
                    "--out_of_scope_label has no effect: no class has that name, and there is no --min_score."
                )
        return replace(data, labels=labels)

    def labels_of(self, config: Any) -> Labels | None:
        if not any("SequenceClassification" in name for name in config.architectures or ()):
            return None
        names = tuple(str(config.id2label[index]) for index in range(config.num_labels))
        try:
            values = config.to_dict()
            return Labels(
                problem_type(config), names, thresholds.threshold_of(values, names), Confidence.of(values)
            )
        except ValueError as error:
            raise DataError(f"The model's config.json: {error}.") from error

    def config_values(self, data: TextData, labels: Labels | None) -> dict[str, Any]:
        assert labels is not None
        return {
            "num_labels": labels.num_labels,
            "id2label": labels.id2label,
            "label2id": labels.label2id,
            "problem_type": labels.kind,
            **entries(labels),  # in place of what the start decided by
            "finetuning_task": data.task_name,
        }

    def initialize_head(
        self, model: nn.Module, new: Collection[str], data: TextData, labels: Labels | None
    ) -> bool:
        """Set the new classifier's bias so that its first outputs are the shares of the labels."""
        assert labels is not None and data.train is not None
        truth = np.asarray(list(data.train["labels"]))
        return set_bias(model, new, prior_logits(truth, labels.kind, labels.num_labels))

    def balance_head(
        self, model: nn.Module, new: Collection[str], data: TextData, labels: Labels | None, arguments: Any
    ) -> None:
        weights = _weights(data, labels, arguments)
        if weights is not None:
            assert labels is not None and data.train is not None
            logits = prior_logits(np.asarray(list(data.train["labels"])), labels.kind, labels.num_labels)
            set_bias(model, new, logits + np.log(weights))

    def choose(
        self, data: TextData, labels: Labels | None, arguments: Any, given: Collection[str]
    ) -> list[str]:
        """Weights of classes by their counts; a temperature, and thresholds of several labels, by validation rows."""
        assert labels is not None and data.train is not None
        if labels.kind == REGRESSION:
            return []
        notes = []
        if "class_weights" not in given:
            truth = np.asarray(list(data.train["labels"]))
            arguments.class_weights, why = class_weights.choose(labels, truth)
            notes += [why] if why else []
        rows = 0 if data.validation is None or arguments.eval_on_test else len(data.validation)
        if "calibration" not in given and rows >= LEAST_ROWS:
            arguments.calibration = TEMPERATURE
        if thresholds.KEY not in given and labels.kind == MULTI and rows >= LEAST_ROWS_BY_LABEL:
            arguments.multi_label_threshold = VALIDATION
        return notes

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
        settings = asked_for(arguments)
        if settings.windows:
            limit = sequence_limit(tokenizer, arguments.max_seq_length)
            return tokenize_windows(split, data.columns, tokenizer, limit, settings)
        return tokenize(
            split,
            data.columns,
            tokenizer,
            arguments.max_seq_length,
            pad_to_max_length=arguments.pad_to_max_length,
        )

    def collate(self, tokenizer: Any, labels: Labels | None, multiple_of: int | None = None) -> LabelCollate:
        return LabelCollate(tokenizer, labels is not None and labels.kind != SINGLE, multiple_of)

    def distance(
        self, student: Outputs, teacher: Outputs, temperature: float, batch: Batch, config: Any
    ) -> Tensor:
        """See `Task`; which distance, the configuration's `problem_type` says."""
        logits = student["logits"]
        return distillation_loss(
            logits, teacher["logits"].to(logits.device), temperature, problem_type(config)
        )

    def loss(
        self, data: TextData, labels: Labels | None, arguments: Any
    ) -> Callable[[Outputs, Tensor], Tensor] | None:
        """Cross entropy with weights of classes, or the focal loss; see `sparseml.class_loss`."""
        assert labels is not None
        weights = _weights(data, labels, arguments)
        if labels.kind == REGRESSION or (weights is None and not arguments.focal_gamma):
            if labels.kind == REGRESSION and (arguments.focal_gamma or arguments.class_weights):
                warn("--class_weights and --focal_gamma have no effect: the labels are scores.")
            return None
        if weights is not None:
            say(f"weights of the classes: {class_weights.described(labels, weights)}")
        return ClassLoss(labels.kind, weights, arguments.focal_gamma)

    def calibrates(self, arguments: Any) -> bool:
        return arguments.calibration == TEMPERATURE or getattr(arguments, thresholds.KEY) == VALIDATION

    def calibrate(
        self, outputs: tuple[Array, ...], truth: Array, labels: Labels | None, arguments: Any
    ) -> Fitted:
        assert labels is not None
        return fit(
            outputs[0],
            truth,
            labels,
            temperature=arguments.calibration == TEMPERATURE,
            by_label=getattr(arguments, thresholds.KEY) == VALIDATION,
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
        values = {
            key: value for key, value in values.items() if key not in confidence.KEYS or value is not None
        }
        if kind != SINGLE and values.keys() & {confidence.MIN_SCORE, confidence.OUT_OF_SCOPE}:
            raise ModelError(
                "--min_score and --out_of_scope_label are for a model whose labels exclude each other."
            )
        several = {thresholds.KEY: values.get(thresholds.KEY) or thresholds.DEFAULT} if kind == MULTI else {}
        return {**values, "problem_type": kind, **several}

    def evaluate_deployment(self, pipeline: Any, options: DataOptions) -> dict[str, float]:
        """See `Task`; on MNLI, of both validation splits: accuracy_m and accuracy_mm."""
        from deepsparse.pipeline import WINDOW

        labels = deployed_labels(pipeline)
        data = load_text_data(_as_trained(options, pipeline, labels))
        for note in data.notes:
            say(note)
        score = metrics_for(data.task_name, labels)

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


def _weights(data: TextData, labels: Labels | None, arguments: Any) -> Array | None:
    """The weights of the classes, by the training rows; None where none are asked for, or there are none."""
    if labels is None or labels.kind == REGRESSION or data.train is None:
        return None
    return class_weights.class_weights(
        arguments.class_weights, labels, np.asarray(list(data.train["labels"]))
    )


def _as_trained(options: DataOptions, pipeline: Any, labels: Labels) -> DataOptions:
    """Options by which rows are read as those that a deployed model was trained on."""
    columns = pipeline.handler.deployment.text_columns()
    return replace(options, known_labels=_with_outside(labels), known_columns=columns)


def _with_outside(labels: Labels) -> Labels:
    """Labels by which rows out of scope can be read, too: their name as one more class, where it is none."""
    name = labels.confidence.out_of_scope_label
    if labels.kind != SINGLE or name is None or outside_id(labels) < labels.num_labels:
        return labels
    return replace(labels, names=(*labels.names, name))


def problem_type(config: Any) -> Kind:
    """What a classifier predicts, by its configuration; Transformers' rule where that does not say."""
    kind: Kind = config.problem_type or (REGRESSION if config.num_labels == 1 else SINGLE)
    return kind


def deployed_labels(pipeline: Any) -> Labels:
    """The labels of a deployed model, and how it decides on them."""
    own = pipeline.handler.label_set
    return Labels(pipeline.problem_type, pipeline.labels, own.threshold or thresholds.DEFAULT, own.confidence)


def deployed_rows(task: Task, pipeline: Any, options: DataOptions) -> tuple[Array, Array, Labels]:
    """A deployed model's logits [rows, labels] of labelled rows, their labels, and the model's.

    Rows out of scope have the number of labels as their class, where that is none of the model's.
    """
    labels = deployed_labels(pipeline)
    data = load_text_data(_as_trained(options, pipeline, labels))
    for note in data.notes:
        say(note)
    assert data.validation is not None
    logits = deployed_logits(pipeline, task.texts(data, data.validation), _WINDOW, "classifying")
    return logits, np.asarray(list(data.validation["labels"])), labels


def deployed_logits(pipeline: Any, texts: Sequence[Texts], window: int, doing: str) -> Array:
    """The logits [rows, labels] of a deployed model, `window` rows at a time, with a progress bar."""
    rows = [row[0] if len(row) == 1 else row for row in texts]
    windows = [rows[start : start + window] for start in range(0, len(rows), window)]
    return np.concatenate([pipeline.logits(window) for window in track(windows, doing)])


class LabelCollate(Collate):
    """See `Collate`; labels and the teacher's logits are stacked.

    Args:
        labels_as_float: labels are scores or rows of zeros and ones, not class ids.
    """

    def __init__(self, tokenizer: Any, labels_as_float: bool = False, multiple_of: int | None = None) -> None:
        super().__init__(tokenizer, multiple_of)
        self._label_type = torch.float32 if labels_as_float else torch.int64

    def targets(self, rows: Sequence[Mapping[str, Any]], tokens: int) -> dict[str, Tensor]:
        """Labels of [batch] or [batch, labels], and `teacher_logits` of [batch, labels]."""
        found = {}
        if "labels" in rows[0]:
            found["labels"] = torch.tensor([row["labels"] for row in rows], dtype=self._label_type)
        if "teacher_logits" in rows[0]:
            logits = np.asarray([row["teacher_logits"] for row in rows], dtype=np.float32)
            found["teacher_logits"] = torch.from_numpy(logits)
        return found


def write_predictions(path: Path, logits: Array, labels: Labels) -> None:
    """Write tab-separated values: index, prediction, and a column of probability for each class.

    Several labels of one row are joined by commas; a score is written as it is. What counts as predicted is what
    the metrics count.
    """
    scaled = labels.confidence.scaled(logits)
    shares = probabilities(scaled, labels.kind)
    chosen = (
        decided(logits, labels) if labels.kind == SINGLE else decisions(scaled, labels.kind, labels.threshold)
    )
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        if labels.kind == REGRESSION:
            writer.writerow(["index", "prediction"])
            writer.writerows([index, f"{score:.6g}"] for index, score in enumerate(shares.reshape(-1)))
            return
        writer.writerow(["index", "prediction", *(f"probability_{name}" for name in labels.names)])
        for index, (row, one) in enumerate(zip(shares, chosen, strict=True)):
            writer.writerow([index, _predicted(one, labels), *(f"{share:.6f}" for share in row)])


def _predicted(chosen: Any, labels: Labels) -> str:
    """The name of a class id, or those of a row of zeros and ones; of a row that gets no class what stands for it."""
    if labels.kind == MULTI:
        return ",".join(name for name, flag in zip(labels.names, chosen, strict=True) if flag)
    if int(chosen) == confidence.REFUSED:
        return labels.confidence.out_of_scope_label or ""
    return labels.names[int(chosen)]
