"""Masked language modelling: upstream training on plain text, of an encoder with its head or without one.

With a head the model predicts masked tokens. Without one, as sentence encoders are saved, there is nothing to predict:
a recipe's PerLayerDistillationModifier teaches it a teacher's hidden states on the same windows of text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resparse.errors import UserError
from resparse.progress import track
from sparseml.data import DataError, DataOptions, Labels
from sparseml.data.corpus import ENDINGS
from sparseml.data.documents import Documents
from sparseml.data.label_encoding import SINGLE
from sparseml.data.ranges import STRIPE, Ranges, held_out
from sparseml.data.text_sources import TextSource, find_texts
from sparseml.data.token_file import TokenFile, tokenize_corpus
from sparseml.data.windows import IGNORED, Windows, masking_of
from sparseml.distillation.loss import distillation_loss
from sparseml.modifiers.base import Batch, Outputs
from sparseml.modifiers.layer_outputs import comparing
from sparseml.options.groups import DataTrainingArguments, argument
from sparseml.processes import summed_by_name
from sparseml.tasks.base import Task

if TYPE_CHECKING:
    from sparseml.session.trainer import RecipeTrainer

_MOST_HELD_OUT = 250_000
_SHORTEST = 16
# What other tasks' data have and a corpus has not, by the option.
_UNKNOWN_TO_A_CORPUS = {
    "do_predict": "labels rows, and a corpus has none",
    "task_name": "names labelled rows, and a corpus has no labels",
    "test_file": "is labelled by --do_predict, and a corpus has no labels",
    "eval_on_test": "wants a test split, and a corpus has none",
    "num_export_samples": "are for deployments, and a model of plain text is not deployed",
}


@dataclass
class CorpusArguments(DataTrainingArguments):
    """Which text, and how it is cut and masked."""

    max_seq_length: int = argument(128, "The longest window of text, in tokens.")
    window_lengths: str | None = argument(
        None, "Lengths of windows, separated by commas; by default max_seq_length and its halves down to 16."
    )
    pair_probability: float = argument(
        0.5, "The share of windows that hold two texts, as pairs of sentences do."
    )
    mlm_probability: float = argument(
        0.15, "The share of tokens (or words) to predict, where the model has a head."
    )
    whole_word_mask: bool = argument(False, "Mask whole words rather than single tokens.")
    line_by_line: bool = argument(
        False,
        "Every line, or row of a table, is a text of its own in a batch; otherwise documents, between empty lines, are "
        "joined to windows without padding.",
    )
    validation_split_percentage: float = argument(
        5.0,
        "The share of the corpus to validate on, where there is no --validation_file; 250,000 tokens at most.",
    )


@dataclass
class CorpusSplit:
    """What a split is read from, and the part of it that belongs to the split.

    Attributes:
        sources: to be read and tokenized.
        part: "all", or what `ranges.held_out` gives: "train" or "validation".
        most: documents to take of the sources; None for all.
        documents: the number of them, when they have been tokenized.
    """

    sources: Sequence[TextSource]
    part: str = "all"
    most: int | None = None
    documents: int = 0


@dataclass
class Corpus:
    """The data of a run, as `TextData` is for rows."""

    name: str
    train: CorpusSplit | None = None
    validation: CorpusSplit | None = None
    labels: None = None
    validation_mismatched: None = None
    test: None = None
    test_mismatched: None = None
    notes: list[str] = field(default_factory=list)
    task_name: None = None
    # What the model and the training's arguments say, set by `MaskedLanguageModeling.settle`.
    masks: bool = False
    batch_rows: int = 1
    seed: int = 0

    @property
    def rows(self) -> dict[str, int]:
        """Number of documents of each split that was tokenized; a held-out part's are its corpus's."""
        both = {"train": self.train, "validation": self.validation}
        return {name: split.documents for name, split in both.items() if split is not None}


class CorpusTaskError(UserError):
    """A run that upstream training cannot do."""


class AutoEncoder:
    """Loads a model with its masked language modelling head where the checkpoint has one, and without where not."""

    @staticmethod
    def from_pretrained(folder: Any, *, config: Any = None, **keywords: Any) -> Any:
        """As Transformers' Auto classes; of a model without a head the dropout is off.

        What it learns are fixed targets, which noise in its hidden states would only blur. The configuration, and with
        it later trainings, keep their dropout.
        """
        from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM

        config = config if config is not None else AutoConfig.from_pretrained(folder, trust_remote_code=False)
        kind = AutoModelForMaskedLM if has_head(config) else AutoModel
        loaded = kind.from_pretrained(folder, config=config, **keywords)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        if kind is AutoModel:
            for module in model.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.0
        return loaded


def has_head(config: Any) -> bool:
    """Whether a checkpoint has a masked language modelling head, by the classes that it was saved from."""
    names = [str(name) for name in getattr(config, "architectures", None) or ()]
    return any(name.endswith(("ForMaskedLM", "BertForPreTraining", "WithLMHeadModel")) for name in names)


class MaskedLanguageModeling(Task):
    """See `Task`."""

    name = "masked_language_modeling"
    cuts_whole_batches = True
    file_endings = ENDINGS
    holds_out = True
    introduction = """\
Trains an encoder on plain text: prunes it while a dense teacher keeps it right, so that it is
a start for any task. `sparseml sparsify` chooses all of it."""

    def pipeline_tag(self, model_class: str) -> str | None:
        """Without its head it is an encoder."""
        return "fill-mask" if model_class.endswith("ForMaskedLM") else "feature-extraction"

    def usage(self, address: str) -> list[str]:
        """It is a start for other tasks."""
        return [f"sparseml train --train_file rows.csv --model_name_or_path {address}"]

    @property
    def arguments(self) -> type:
        return CorpusArguments

    @property
    def model_class(self) -> Any:
        return AutoEncoder

    def load_data(self, options: DataOptions, arguments: Any) -> Any:
        """Find the texts; they are read when they are encoded."""
        given = {**vars(arguments), "do_predict": options.needs_predict}
        for option, why in _UNKNOWN_TO_A_CORPUS.items():
            if given[option]:
                raise CorpusTaskError(f"--{option} {why}: leave it out.")
        return corpus_of(options, arguments)

    def labels_of(self, config: Any) -> Labels | None:
        return None

    def config_values(self, data: Any, labels: Labels | None) -> dict[str, Any]:
        return {}

    def text_columns(self, data: Any) -> tuple[str, ...]:
        return ()

    def settle(self, data: Any, model: nn.Module, training: Any) -> None:
        data.masks = has_head(model.config)
        data.batch_rows = int(training.train_batch_size)
        data.seed = int(training.seed)

    def has_no_loss(self, config: Any) -> bool:
        return not has_head(config)

    def encode(self, split: CorpusSplit, data: Any, tokenizer: Any, arguments: Any) -> Windows | Documents:
        """Tokenize the split's texts, or take them from the cache, and cut them into batches."""
        file = _tokenized(split, tokenizer, arguments)
        split.documents = file.documents
        longest = min(arguments.max_seq_length, int(tokenizer.model_max_length))
        ranges = _parts(file, arguments)[split.part]
        masking = (
            masking_of(tokenizer, arguments.mlm_probability, arguments.whole_word_mask)
            if data.masks
            else None
        )
        common: dict[str, Any] = {
            "max_length": longest,
            "rows": data.batch_rows,
            "masking": masking,
            "seed": data.seed,
        }
        if arguments.line_by_line:
            return Documents(file, tokenizer, ranges, **common)
        return Windows(
            file,
            tokenizer,
            ranges,
            lengths=window_lengths(arguments.window_lengths, longest),
            pair_probability=arguments.pair_probability,
            **common,
        )

    def collate(
        self, tokenizer: Any, labels: Labels | None, multiple_of: int | None = None
    ) -> Callable[[Sequence[Mapping[str, Any]]], dict[str, Tensor]]:
        """Items are whole batches already."""
        return lambda items: dict(items[0])

    def distance(
        self, student: Outputs, teacher: Outputs, temperature: float, batch: Batch, config: Any
    ) -> Tensor:
        """T^2 KL of the logits at the tokens to predict; 0 for models without a head."""
        if "logits" not in student:
            return next(iter(student.values())).new_zeros(())
        if "logits" not in teacher:
            raise CorpusTaskError(
                "The teacher has no masked language modelling head, and a DistillationModifier compares those: name a "
                "teacher with a head, or a recipe with a PerLayerDistillationModifier alone."
            )
        chosen = batch["labels"] != IGNORED
        return distillation_loss(student["logits"][chosen], teacher["logits"][chosen], temperature, SINGLE)

    def metrics(self, data: Any, labels: Labels | None, rows: Any) -> Callable[[Any], dict[str, float]]:
        """None of them from outputs kept in memory; see `evaluate`."""
        return lambda evaluation: {}

    def evaluate(self, trainer: RecipeTrainer, rows: Windows | Documents) -> dict[str, float]:
        """Loss, accuracy and perplexity of the masked tokens, and the distance of hidden states to the teacher's.

        A batch at a time: all logits of a corpus would not fit into memory. Of several processes each takes its share.
        """
        model: Any = trainer.model
        teacher = trainer.session.run.teacher if trainer.session is not None else None
        device, was_training = trainer.args.device, model.training
        sums = dict.fromkeys(("loss", "right", "masked"), 0.0)
        if teacher is not None:
            sums |= dict.fromkeys(("distance", "last_layer_distance"), 0.0)
        model.eval()
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            stack.enter_context(trainer.accelerator.autocast())
            compare = stack.enter_context(comparing(model, teacher)) if teacher is not None else None
            own = range(trainer.args.process_index, len(rows), trainer.args.world_size)
            for index in track(own, "evaluating"):
                batch = {name: values.to(device) for name, values in rows[index].items()}
                outputs = model(**batch)
                found = _masked_sums(outputs, batch["labels"]) if "labels" in batch else {}
                if compare is not None and teacher is not None:
                    teacher(**{name: values for name, values in batch.items() if name != "labels"})
                    layers = compare(batch.get("attention_mask"))
                    found |= {
                        "distance": float(sum(layers)) / len(layers),
                        "last_layer_distance": float(layers[-1]),
                    }
                for name, value in found.items():
                    sums[name] += value
        model.train(was_training)
        return _averages(summed_by_name(sums, device), len(rows))

    def write_predictions(
        self, stem: Path, outputs: Any, data: Any, labels: Labels | None, rows: Any
    ) -> Path:
        raise NotImplementedError("refused by load_data")

    def evaluate_deployment(self, pipeline: Any, options: DataOptions) -> dict[str, float]:
        raise CorpusTaskError("A model of plain text is a start for transfer: it is not deployed.")


def corpus_of(options: DataOptions, arguments: CorpusArguments) -> Corpus:
    """The splits that the options name; without one to validate on, a part of the training texts is held out.

    Raises:
        DataError: there are no such texts, or none to do what is asked.
    """
    name, found, notes = find_texts(options, arguments.line_by_line)
    corpus = Corpus(name, notes=notes)
    train, validation = found.get("train"), found.get("validation")
    if options.needs_train and train is None:
        raise DataError(f"{name}: there is nothing to train on. Name it with --train_file.")
    if train is not None and (options.needs_train or validation is None):
        part = "train" if validation is None and options.needs_eval else "all"
        corpus.train = CorpusSplit(train, part, options.max_train_samples)
    if options.needs_eval:
        corpus.validation = (
            CorpusSplit(validation, "all", options.max_eval_samples)
            if validation is not None
            else CorpusSplit(train or [], "validation", options.max_train_samples)
        )
    if not options.needs_train:
        corpus.train = None
    return corpus


def encoded_corpus(arguments: CorpusArguments, tokenizer: Any) -> int:
    """Tokenize the training texts of these arguments into the cache; returns the tokens that are trained on."""
    given = {entry.name for entry in fields(arguments)} & {entry.name for entry in fields(DataOptions)}
    corpus = corpus_of(DataOptions(**{name: getattr(arguments, name) for name in given}), arguments)
    assert corpus.train is not None
    file = _tokenized(corpus.train, tokenizer, arguments)
    taken = sum(end - start for start, end in _parts(file, arguments)[corpus.train.part])
    return taken * len(file) // file.documents if arguments.line_by_line else taken


def _tokenized(split: CorpusSplit, tokenizer: Any, arguments: CorpusArguments) -> TokenFile:
    return tokenize_corpus(
        split.sources, tokenizer, max_documents=split.most, again=arguments.overwrite_cache
    )


def _parts(file: TokenFile, arguments: CorpusArguments) -> dict[str, Ranges]:
    """The parts of a corpus, in tokens, or in documents where these are not joined; "all", "train", "validation"."""
    count, most, stripe = len(file), _MOST_HELD_OUT, STRIPE
    limit = arguments.max_eval_samples
    if arguments.line_by_line:
        count, most, stripe = file.documents, max(1, most * file.documents // len(file)), 1
    elif limit is not None:
        limit *= arguments.max_seq_length
    share = arguments.validation_ratio or arguments.validation_split_percentage / 100
    train, validation = held_out(count, share, most if limit is None else min(most, limit), stripe)
    return {"all": [(0, count)], "train": train, "validation": validation}


def window_lengths(given: str | None, longest: int) -> list[int]:
    """The lengths that `--window_lengths` names; by default the longest and its halves.

    Raises:
        DataError: one is no number, or does not divide the longest.
    """
    if given is None:
        lengths = [longest]
        while lengths[-1] % 2 == 0 and lengths[-1] // 2 >= _SHORTEST:
            lengths.append(lengths[-1] // 2)
        return lengths
    words = [word.strip() for word in given.split(",")]
    if not all(word.isdecimal() and int(word) >= 8 and longest % int(word) == 0 for word in words):
        raise DataError(
            f"--window_lengths {given}: give numbers from 8 that divide --max_seq_length {longest}, such as "
            f"{longest // 4},{longest // 2},{longest}."
        )
    return [int(word) for word in words]


def _masked_sums(outputs: Any, labels: Tensor) -> dict[str, float]:
    chosen = labels != IGNORED
    logits, wanted = outputs["logits"][chosen].float(), labels[chosen]
    return {
        "loss": float(F.cross_entropy(logits, wanted, reduction="sum")),
        "right": float((logits.argmax(-1) == wanted).sum()),
        "masked": float(chosen.sum()),
    }


def _averages(sums: Mapping[str, float], batches: int) -> dict[str, float]:
    scores = {
        f"eval_{name}": sums[name] / batches for name in ("distance", "last_layer_distance") if name in sums
    }
    if sums.get("masked"):
        loss = sums["loss"] / sums["masked"]
        scores |= {
            "eval_loss": loss,
            "eval_masked_accuracy": sums["right"] / sums["masked"],
            "eval_perplexity": math.exp(min(loss, 700.0)),
        }
    return scores
