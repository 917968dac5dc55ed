"""Token classification: a tag for each word of a text, such as those of named entities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from resparse.arrays import Array
from resparse.console import say
from resparse.files import write_text
from resparse.progress import track
from resparse.tags import IOB2, OUTSIDE
from sparseml.data import DataOptions, Labels, TextData
from sparseml.data.label_encoding import SINGLE
from sparseml.data.readers import COLUMN_READERS, READERS
from sparseml.data.rows import rows_text
from sparseml.data.token_classification import SCHEMES, TokenData, load_tokens
from sparseml.data.token_rows import IGNORED, encode_rows, read_tags
from sparseml.distillation.loss import distillation_loss
from sparseml.entity_metrics import by_type, confusions, finder, scores
from sparseml.modifiers.base import Batch, Outputs
from sparseml.options.groups import DataTrainingArguments, argument
from sparseml.options.table import ArgumentError
from sparseml.tasks.base import Task, Texts
from sparseml.tasks.collate import Collate

if TYPE_CHECKING:
    from datasets import Dataset

_WINDOW = 256


@dataclass
class TokenArguments(DataTrainingArguments):
    """Which data, and how tags are read, learned and scored."""

    text_column_name: str | None = argument(None, "The column of the words [found by its name].")
    label_column_name: str = argument("label", "The column of the tags [found by its name].")
    label_all_tokens: bool = argument(
        False, "Learn the tags of all tokens of a word, rather than of its first."
    )
    return_entity_level_metrics: bool = argument(False, "Also give the metrics of each type of entity.")
    tagging_scheme: str = argument(
        IOB2, "Write IOB1, BIOES and BILOU tags as IOB2, or keep them as they are.", choices=SCHEMES
    )
    strict_entities: bool = argument(
        False, "Count entities only where they are tagged to the letter of IOB2 or BIOES."
    )


class TokenClassification(Task):
    """See `Task`."""

    name = "token_classification"
    guided = True
    guided_recipe = "zoo:nlp/token_classification/minilm-l6/pytorch/huggingface/default/pruned80_quant-none"
    file_endings = (*READERS, *COLUMN_READERS)
    reads_windows = True
    product = "tagger"
    introduction = """\
Trains a model that tags words, such as those of names: a pruned checkpoint, tagged rows and a
recipe go in; a sparse, quantized tagger with its report comes out."""

    @property
    def arguments(self) -> type:
        return TokenArguments

    @property
    def model_class(self) -> Any:
        from transformers import AutoModelForTokenClassification

        return AutoModelForTokenClassification

    def load_data(self, options: DataOptions, arguments: Any) -> TokenData:
        data = load_tokens(
            options,
            text=arguments.text_column_name,
            label=arguments.label_column_name,
            tagging=arguments.tagging_scheme,
        )
        return _Data(
            **{
                **vars(data),
                "rules": _Rules(arguments.strict_entities, arguments.return_entity_level_metrics),
            }
        )

    def texts(self, data: TextData, split: Any) -> list[Texts]:
        return [(text,) for text in split["text"]]

    def labels_of(self, config: Any) -> Labels | None:
        if not any("TokenClassification" in name for name in config.architectures or ()):
            return None
        return Labels(SINGLE, tuple(str(config.id2label[index]) for index in range(config.num_labels)))

    def config_values(self, data: TextData, labels: Labels | None) -> dict[str, Any]:
        assert labels is not None
        return {
            "num_labels": labels.num_labels,
            "id2label": labels.id2label,
            "label2id": labels.label2id,
            "problem_type": None,
            "finetuning_task": None,
        }

    def encode(self, split: Any, data: Any, tokenizer: Any, arguments: Any) -> Dataset:
        name = data.name_of(split)
        rows = encode_rows(
            split,
            name,
            tokenizer,
            arguments.max_seq_length,
            data.labels,
            all_tokens=arguments.label_all_tokens,
            pad_to_max_length=arguments.pad_to_max_length,
        )
        if len(rows) > len(split):
            longer = len(np.flatnonzero(np.bincount(rows["row"]) > 1))
            say(
                f"{name}: {rows_text(longer)} of {len(split):,} longer than {arguments.max_seq_length} tokens, read in "
                f"{len(rows) - len(split) + longer:,} windows"
            )
        return rows

    def collate(self, tokenizer: Any, labels: Labels | None, multiple_of: int | None = None) -> Collate:
        return TagCollate(tokenizer, multiple_of)

    def distance(
        self, student: Outputs, teacher: Outputs, temperature: float, batch: Batch, config: Any
    ) -> Tensor:
        """The mean of the distances at the tokens that have a label."""
        ours = student["logits"]
        kept = batch["labels"] != IGNORED if "labels" in batch else batch["attention_mask"] != 0
        kept = kept.to(ours.device)
        theirs = teacher["logits"].to(ours.device)
        if not kept.any():
            return ours.sum() * 0.0
        return distillation_loss(ours[kept], theirs[kept], temperature, "single_label_classification")

    def metrics(self, data: Any, labels: Labels | None, rows: Any) -> Callable[[Any], dict[str, float]]:
        assert labels is not None

        def score(evaluation: Any) -> dict[str, float]:
            logits = evaluation.predictions
            logits = logits[0] if isinstance(logits, tuple) else logits
            gold, said = _both(logits, data, labels, rows)
            return scores(gold, said, data.rules.finder(data), data.rules.each_type)

        return score

    def evaluation(
        self, outputs: tuple[Array, ...], truth: Any, labels: Labels | None, data: Any, rows: Any
    ) -> dict[str, Any] | None:
        """Precision, recall and F1 of each type, and which words are taken for which."""
        assert labels is not None
        gold, said = _both(outputs[0], data, labels, rows)
        types = by_type(gold, said, data.rules.finder(data))
        return {
            "kind": self.name,
            "rows": len(gold),
            "scheme": data.scheme,
            "entities": [{"type": kind, **row} for kind, row in types.items()],
            "confused": confusions(gold, said)[:20],
        }

    def write_predictions(
        self, stem: Path, outputs: tuple[Array, ...], data: Any, labels: Labels | None, rows: Any
    ) -> Path:
        """See `Task`; `predictions.txt`, the tags of a row in a line, as Transformers' run_ner, and a file of columns.

        The latter has a word and its tag in a line, and can be read by this command again.
        """
        assert labels is not None
        split = getattr(data, rows[0]["split"])
        said = read_tags(outputs[0], rows, list(map(len, split["tokens"])), labels.names, _outside(labels))
        suffix = stem.name.removeprefix("predict_results")
        write_text(stem.with_name(f"predictions{suffix}.txt"), "".join(f"{' '.join(row)}\n" for row in said))
        path = stem.with_name(f"{stem.name}.conll")
        lines = []
        for words, tags in zip(split["tokens"], said, strict=True):
            lines += [
                f"{' '.join(word.split()) or '_'}\t{tag}" for word, tag in zip(words, tags, strict=True)
            ]
            lines.append("")
        write_text(path, "\n".join(lines) + "\n")
        return path

    def truth(self, split: Any) -> Array | None:
        """The tag ids of each row's words, a list each."""
        if "labels" not in split.column_names:
            return None
        gold = np.empty(len(split), object)
        gold[:] = [list(row) for row in split["labels"]]
        return gold

    def assess(
        self, pipeline: Any, texts: Sequence[Texts], truth: Array, labels: Labels | None
    ) -> dict[str, Any]:
        """See `Task` and `guided/tagged.py`; the words of a row have blanks between them."""
        from sparseml.guided.tagged import facts

        assert labels is not None
        rows = [text.split(" ") for (text,) in texts]
        gold = [[labels.names[index] for index in row] for row in truth]
        return facts(rows, gold, word_tags(pipeline, rows, "asking the exported model"))

    def summarize(self, facts: Mapping[str, Any], width: int) -> list[str]:
        """See `Task` and `guided/tagged.py`."""
        from sparseml.guided.tagged import lines

        return lines(facts, width)

    def pipeline_tag(self, model_class: str) -> str | None:
        return "token-classification"

    def decisions(self, outputs: Mapping[str, Array], mask: Array) -> tuple[Array, Array]:
        """See `Task`: the tag of each token."""
        row, token = np.nonzero(mask)
        return outputs["logits"][row, token], row

    def evaluate_deployment(self, pipeline: Any, options: DataOptions) -> dict[str, float]:
        """See `Task`: the words as the data have them, tagged by the deployed model."""
        from dataclasses import replace

        labels = Labels(SINGLE, pipeline.handler.names)
        column = options.label_column_name
        data = load_tokens(replace(options, known_labels=labels), label=None if column == "label" else column)
        for note in data.notes:
            say(note)
        split = data.validation
        assert split is not None
        said = word_tags(pipeline, split["tokens"], "tagging")
        gold = [[labels.names[index] for index in row] for row in split["labels"]]
        return scores(gold, said)


@dataclass(frozen=True)
class _Rules:
    """How entities are counted."""

    strict: bool = False
    each_type: bool = False

    def finder(self, data: TokenData) -> Callable[..., Any]:
        try:
            return finder(data.scheme, self.strict)
        except ValueError as error:
            raise ArgumentError(f"--strict_entities: {error}.") from None


@dataclass(frozen=True)
class _Data(TokenData):
    """The data of a run, with how it counts."""

    rules: _Rules = _Rules()


class TagCollate(Collate):
    """See `Collate`; tags are padded like tokens."""

    def targets(self, rows: Sequence[Mapping[str, Any]], tokens: int) -> dict[str, Tensor]:
        """Rows of `encode_rows` to labels of [batch, tokens]."""
        if "labels" not in rows[0]:
            return {}
        labels = torch.full((len(rows), tokens), IGNORED)
        for place, row in enumerate(rows):
            labels[place, : len(row["labels"])] = torch.as_tensor(row["labels"])
        return {"labels": labels}


def word_tags(pipeline: Any, rows: Sequence[Sequence[str]], doing: str) -> list[list[str]]:
    """The tags that a deployed model gives words, with a progress bar; "O" for words without a token."""
    windows = [[list(row) for row in rows[start : start + _WINDOW]] for start in range(0, len(rows), _WINDOW)]
    return [
        found.word_tags()
        for window in track(windows, doing)
        for found in pipeline.predict(inputs=window, is_split_into_words=True)
    ]


def _outside(labels: Labels) -> int:
    return labels.label2id.get(OUTSIDE, 0)


def _both(logits: Array, data: Any, labels: Labels, rows: Any) -> tuple[list[list[str]], list[list[str]]]:
    """The right tags and those of the model, of the words of each row of the rows' split."""
    split = getattr(data, rows[0]["split"])
    said = read_tags(logits, rows, list(map(len, split["tokens"])), labels.names, _outside(labels))
    return [[labels.names[index] for index in row] for row in split["labels"]], said
