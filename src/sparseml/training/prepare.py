"""From arguments to what a run works on: data, labels, model and tokenizer."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any, Final

from resparse.console import say, warn
from resparse.text_columns import KEY as TEXT_COLUMNS
from sparseml.data import DataOptions, Labels, TextData
from sparseml.data.text_classification import SPLITS
from sparseml.options.groups import ModelArguments
from sparseml.session.heads import match_head
from sparseml.session.models import (
    Loaded,
    Source,
    load_config,
    load_model,
    load_tokenizer,
    resolve,
    text_columns,
)
from sparseml.session.sources import ModelError
from sparseml.tasks.base import Task
from sparseml.training import long_texts
from sparseml.training.arguments import Arguments

_TRAINING_ONLY: Final = re.compile("dropout|drop_prob|initializer")
"""Settings of a configuration that do not change what a finished model computes."""


@dataclass
class Prepared:
    """All that a run works on.

    Attributes:
        task: what the model learns to do.
        data, labels: the rows, and what they say is to be predicted.
        source: where the model comes from.
        loaded: the model.
        tokenizer: its own, or the one that was named.
    """

    task: Task
    data: TextData
    labels: Labels | None
    source: Source
    loaded: Loaded
    tokenizer: Any


def start_of(arguments: Arguments) -> Source:
    """Where the model comes from, fetched where it is not on this machine."""
    asked = arguments.model
    return resolve(asked.model_name_or_path, asked.model_revision, asked.token, asked.cache_dir)


def prepare(arguments: Arguments, source: Source) -> Prepared:
    """Load data, model and tokenizer, and say what was chosen."""
    task, asked = arguments.task, arguments.model
    config_source = _settings(asked, asked.config_name) or source
    config = load_config(config_source)
    if config_source is not source:
        _compare_configurations(config, config_source, source)
    before = task.labels_of(config)
    known = None if arguments.learns else before
    columns = () if arguments.learns else text_columns(config)
    data = task.load_data(_data_options(arguments, known, columns), arguments.data)
    for note in data.notes:
        say(note)
    labels = data.labels or known
    if arguments.learns:
        values = {TEXT_COLUMNS: list(task.text_columns(data)) or None, **task.config_values(data, labels)}
        config = load_config(config_source, **values)
    tokenizer_source = _settings(asked, asked.tokenizer_name) or source
    tokenizer = load_tokenizer(tokenizer_source, asked.use_fast_tokenizer)
    loaded = load_model(source, task.model_class, config)
    if arguments.training.do_train and before is not None and labels is not None:
        match_head(loaded, before, labels)
    for note in loaded.notes:
        say(note)
    _check_vocabulary(loaded.model, tokenizer, tokenizer_source)
    if tokenizer_source is not source:
        _compare_vocabularies(tokenizer, tokenizer_source, source)
    long_texts.settle(arguments.data, loaded.model.config, tokenizer, arguments.learns)
    task.settle(data, loaded.model, arguments.training)
    return Prepared(task, data, labels, source, loaded, tokenizer)


def _compare_configurations(config: Any, named: Source, source: Source) -> None:
    """Warn where a configuration that was named computes otherwise than the model's own: its weights fit both."""
    from transformers import PretrainedConfig

    try:
        own = load_config(source).to_dict()
    except ModelError:
        return
    common = PretrainedConfig().to_dict()  # labels, versions, and the like
    different = [
        f"{name} is {value!r}, and not {own[name]!r}"
        for name, value in config.to_dict().items()
        if name in own and value != own[name] and name not in common and not _TRAINING_ONLY.search(name)
    ]
    if different:
        warn(
            f"The configuration of {named.called} is not the one that the weights of {source.called} were made with: "
            f"{'; '.join(different)}."
        )


def _check_vocabulary(model: Any, tokenizer: Any, source: Source) -> None:
    """Refuse a tokenizer with more entries than the model has embeddings."""
    entries, highest = model.get_input_embeddings().num_embeddings, max(tokenizer.get_vocab().values())
    if highest >= entries:
        raise ModelError(
            f"The tokenizer of {source.called} gives ids up to {highest:,}, but the model has {entries:,} embeddings: "
            "they do not belong together. Name the tokenizer that the model was made with by --tokenizer_name, or "
            "leave that out where the model has its own."
        )


def _compare_vocabularies(tokenizer: Any, named: Source, source: Source) -> None:
    """Warn where the model's own tokenizer gives its words other ids than the one that was named."""
    try:
        own = load_tokenizer(source)
    except ModelError:
        return
    ours, theirs = own.get_vocab(), tokenizer.get_vocab()
    moved = sum(theirs.get(piece) != place for piece, place in ours.items())
    if moved:
        warn(
            f"The tokenizer of {named.called} gives {moved:,} of the {len(ours):,} pieces of {source.called}'s own "
            "other ids, or does not have them: the model's embeddings are of other words."
        )


def encoded(arguments: Arguments, prepared: Prepared) -> dict[str, Any]:
    """The splits that the run needs, tokenized for the student, by name."""
    asked, tokenizer = arguments.data, prepared.tokenizer
    limit = tokenizer.model_max_length
    if asked.max_seq_length > limit and asked.max_seq_length != type(asked).max_seq_length:
        warn(f"--max_seq_length {asked.max_seq_length} is more than the model takes: {limit} used instead.")
    splits = {name: getattr(prepared.data, name) for name in SPLITS}
    return {
        name: prepared.task.encode(split, prepared.data, tokenizer, asked)
        for name, split in splits.items()
        if split is not None
    }


def _settings(asked: ModelArguments, called: str | None) -> Source | None:
    """Where another configuration or tokenizer comes from; None where the model's own is wanted."""
    return resolve(called, None, asked.token, asked.cache_dir, weights=False) if called else None


def _data_options(arguments: Arguments, known: Labels | None, columns: tuple[str, ...]) -> DataOptions:
    """The data arguments that every task's data need, under the same names, and what the run does with the data."""
    asked, training = arguments.data, arguments.training
    given = {entry.name for entry in fields(asked)} & {entry.name for entry in fields(DataOptions)}
    return DataOptions(
        **{name: getattr(asked, name) for name in given},
        hold_out=arguments.guided is not None and arguments.guided.hold_out,
        cache_dir=arguments.model.cache_dir,
        token=arguments.model.token,
        seed=training.seed if asked.split_seed is None else asked.split_seed,
        needs_train=arguments.learns,
        needs_eval=training.do_eval or training.eval_strategy != "no",
        needs_predict=training.do_predict,
        known_labels=known,
        known_columns=columns,
    )
