"""Extractive question answering: a question and a passage to the part of the passage that answers it, or to none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from resparse.arrays import Array
from resparse.console import say
from resparse.files import write_json
from resparse.progress import track
from resparse.spans import KEY, Candidate, Decision, Reading, decide
from sparseml.data import DataOptions, Labels, TextData
from sparseml.data.question_answering import QuestionData, load_questions
from sparseml.data.question_windows import POSITIONS, encode_windows, windows_by_row
from sparseml.distillation.loss import distillation_loss
from sparseml.modifiers.base import Batch, Outputs
from sparseml.options.groups import DataTrainingArguments, argument
from sparseml.options.table import ArgumentError
from sparseml.span_metrics import Answered, mistakes, scores
from sparseml.tasks.base import Task, Texts
from sparseml.tasks.collate import Collate

if TYPE_CHECKING:
    from datasets import Dataset

_OUTPUTS = ("start_logits", "end_logits")
_NEVER_CHOSEN = -1e4


@dataclass
class QuestionArguments(DataTrainingArguments):
    """Which data, how passages are read, and how answers are chosen."""

    question_column_name: str | None = argument(None, "The column of the question [found by its name].")
    context_column_name: str | None = argument(None, "The column of the passage [found by its name].")
    answer_column_name: str | None = argument(
        None, "The column of the answers: a text, or texts with their places as in SQuAD [found by its name]."
    )
    max_seq_length: int = argument(
        384, "Tokens of a window, with the question; longer passages are several windows."
    )
    doc_stride: int = argument(128, "Tokens that neighbouring windows of a passage have in common.")
    max_question_length: int = argument(64, "Longer questions are cut to so many tokens.")
    version_2_with_negative: bool | None = argument(
        None,
        "Whether a question may have no answer, as in SQuAD 2.0; by default, if one of the data has none.",
    )
    null_score_diff_threshold: float = argument(
        0.0, "No answer is given where its score is higher than the best answer's by more than this."
    )
    n_best_size: int = argument(20, "Candidates that are kept of each answer.")
    max_answer_length: int = argument(30, "Tokens of an answer at most.")


class QuestionAnswering(Task):
    """See `Task`."""

    name = "question_answering"
    output_names = _OUTPUTS
    guided = True
    guided_recipe = "zoo:nlp/question_answering/minilm-l6/pytorch/huggingface/default/pruned80_quant-none"
    guided_length = 384
    reads_windows = True
    product = "reader"
    introduction = """\
Trains a model that answers questions by a part of a passage: a pruned checkpoint, a dataset
in the form of SQuAD and a recipe go in; a sparse, quantized model with its report comes out."""

    @property
    def arguments(self) -> type:
        return QuestionArguments

    @property
    def model_class(self) -> Any:
        from transformers import AutoModelForQuestionAnswering

        return AutoModelForQuestionAnswering

    def load_data(self, options: DataOptions, arguments: Any) -> QuestionData:
        names = {entry.name for entry in fields(Reading)} - {"version_2_with_negative"}
        try:
            reading = Reading(**{name: getattr(arguments, name) for name in names})
        except ValueError as error:
            raise ArgumentError(f"--{error}.") from None
        return load_questions(
            options,
            reading,
            version_2=arguments.version_2_with_negative,
            question=arguments.question_column_name,
            context=arguments.context_column_name,
            answers=arguments.answer_column_name,
        )

    def texts(self, data: TextData, split: Any) -> list[Texts]:
        return list(zip(split["question"], split["context"], strict=True))

    def labels_of(self, config: Any) -> Labels | None:
        """None: there are no classes, only tokens to choose from."""
        return None

    def config_values(self, data: Any, labels: Labels | None) -> dict[str, Any]:
        """Two outputs for each token; and how the model reads, which its deployment keeps."""
        names = ("start", "end")
        return {
            "id2label": dict(enumerate(names)),
            "label2id": {name: index for index, name in enumerate(names)},
            "num_labels": len(names),
            "problem_type": None,
            "finetuning_task": None,
            KEY: data.reading.stated(),
        }

    def encode(self, split: Any, data: Any, tokenizer: Any, arguments: Any) -> Dataset:
        name = data.name_of(split)
        rows = encode_windows(
            split, name, tokenizer, data.reading, pad_to_max_length=arguments.pad_to_max_length
        )
        if len(rows) > len(split):
            say(
                f"{name}: {len(split):,} questions in {len(rows):,} windows of {data.reading.max_seq_length} tokens"
            )
        return rows

    def collate(self, tokenizer: Any, labels: Labels | None, multiple_of: int | None = None) -> Collate:
        return QuestionCollate(tokenizer, multiple_of)

    def distance(
        self, student: Outputs, teacher: Outputs, temperature: float, batch: Batch, config: Any
    ) -> Tensor:
        """The mean of the distances of starts and of ends, each over the tokens of a window."""
        parts = []
        for name in _OUTPUTS:
            padding = batch["attention_mask"].to(student[name].device) == 0
            ours = student[name].float().masked_fill(padding, _NEVER_CHOSEN)
            theirs = teacher[name].to(ours.device).float().masked_fill(padding, _NEVER_CHOSEN)
            parts.append(distillation_loss(ours, theirs, temperature, "single_label_classification"))
        return torch.stack(parts).mean()

    def metrics(self, data: Any, labels: Labels | None, rows: Any) -> Callable[[Any], dict[str, float]]:
        def score(evaluation: Any) -> dict[str, float]:
            split, decisions = _decisions(evaluation.predictions, data, rows)
            return scores(answered(decisions, split), data.reading.version_2_with_negative)

        return score

    def evaluation(
        self, outputs: tuple[Array, ...], truth: Any, labels: Labels | None, data: Any, rows: Any
    ) -> dict[str, Any] | None:
        """What became of the questions; see `span_metrics.mistakes`."""
        split, decisions = _decisions(outputs, data, rows)
        counts = mistakes(answered(decisions, split), data.reading.version_2_with_negative)
        return {"kind": self.name, "rows": len(split), "answers": counts}

    def write_evaluation(self, folder: Path, outputs: tuple[Array, ...], data: Any, rows: Any) -> None:
        split, decisions = _decisions(outputs, data, rows)
        write_answers(folder, "eval", decisions, split)

    def write_predictions(
        self, stem: Path, outputs: tuple[Array, ...], data: Any, labels: Labels | None, rows: Any
    ) -> Path:
        """See `Task`; the files of Transformers' run_qa, which `write_answers` describes."""
        split, decisions = _decisions(outputs, data, rows)
        return write_answers(stem.parent, "predict", decisions, split)

    def truth(self, split: Any) -> Array | None:
        """The right answers of each question, a list each."""
        if "answers" not in split.column_names:
            return None
        gold = np.empty(len(split), object)
        gold[:] = [tuple(texts) for texts in split["answers"]]
        return gold

    def assess(
        self, pipeline: Any, texts: Sequence[Texts], truth: Array, labels: Labels | None
    ) -> dict[str, Any]:
        """See `Task` and `guided/answers.py`."""
        from sparseml.guided.answers import facts

        return facts(pipeline, texts, truth)

    def summarize(self, facts: Mapping[str, Any], width: int) -> list[str]:
        """See `Task` and `guided/answers.py`."""
        from sparseml.guided.answers import lines

        return lines(facts, width)

    def pipeline_tag(self, model_class: str) -> str | None:
        return "question-answering"

    def decisions(self, outputs: Mapping[str, Array], mask: Array) -> tuple[Array, Array]:
        """See `Task`: for each row the token of the start and that of the end."""
        both = [np.where(mask > 0, outputs[name], _NEVER_CHOSEN) for name in _OUTPUTS]
        return np.concatenate(both), np.tile(np.arange(len(mask)), 2)

    def evaluate_deployment(self, pipeline: Any, options: DataOptions) -> dict[str, float]:
        """See `Task`; how passages are read and answers chosen is the pipeline's."""
        from deepsparse.pipeline import WINDOW

        reading = pipeline.handler.reading
        data = load_questions(options, reading, version_2=reading.version_2_with_negative or None)
        for note in data.notes:
            say(note)
        split = data.validation
        assert split is not None
        pairs = list(zip(split["question"], split["context"], strict=True))
        windows = [pairs[start : start + WINDOW] for start in range(0, len(pairs), WINDOW)]
        decisions = [
            answer.decision for window in track(windows, "answering") for answer in pipeline.predict(window)
        ]
        return scores(answered(decisions, split), data.reading.version_2_with_negative)


class QuestionCollate(Collate):
    """See `Collate`; the positions of answers are stacked."""

    def targets(self, rows: Sequence[Mapping[str, Any]], tokens: int) -> dict[str, Tensor]:
        """Rows of `encode_windows` to positions of [batch]."""
        return {name: torch.tensor([row[name] for row in rows]) for name in POSITIONS if name in rows[0]}


def answered(decisions: Sequence[Decision], split: Any) -> list[Answered]:
    """What was said to the questions of a split with known answers, for the metrics."""
    return [
        Answered(gold, text(decision.chosen, context), text(decision.best_span, context), decision.null_odds)
        for decision, gold, context in zip(decisions, split["answers"], split["context"], strict=True)
    ]


def text(candidate: Candidate | None, context: str) -> str:
    """The words of an answer; "" for none."""
    return "" if candidate is None else context[candidate.start : candidate.end]


def write_answers(folder: Path, stage: str, decisions: Sequence[Decision], split: Any) -> Path:
    """Write what Transformers' run_qa writes, by the questions' ids.

    `STAGE_predictions.json` has the answers; `STAGE_nbest_predictions.json` the candidates, with their logits and
    probabilities, and (more than there) their characters; `STAGE_null_odds.json`, where a question may have no answer,
    how far that scores above the best answer.

    Returns:
        The first file.
    """
    rows = list(zip(split["id"], split["context"], decisions, strict=True))
    first = folder / f"{stage}_predictions.json"
    write_json(first, {name: text(decision.chosen, context) for name, context, decision in rows})
    write_json(
        folder / f"{stage}_nbest_predictions.json",
        {
            name: [
                {
                    "text": text(one, context),
                    "probability": one.probability,
                    "start_logit": one.start_logit,
                    "end_logit": one.end_logit,
                    "start": one.start,
                    "end": one.end,
                }
                for one in decision.candidates
            ]
            for name, context, decision in rows
        },
    )
    odds = {name: decision.null_odds for name, _, decision in rows if decision.null_odds is not None}
    if odds:
        write_json(folder / f"{stage}_null_odds.json", odds)
    return first


def _decisions(outputs: tuple[Array, ...], data: Any, rows: Any) -> tuple[Any, list[Decision]]:
    """The split that windows are of, and the answers to its questions, in their order."""
    split = getattr(data, rows[0]["split"])
    return split, [decide(windows, data.reading) for _, windows in windows_by_row(rows, outputs)]
