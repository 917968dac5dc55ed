"""From arguments to what a run works on: data, labels, model and tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from resparse.console import say, warn
from sparseml.data import DataOptions, Labels, TextData, load_text_data, tokenize
from sparseml.data.label_encoding import Kind
from sparseml.session.models import Loaded, Source, load_classifier, load_config, load_tokenizer, resolve
from sparseml.transformers.arguments import Arguments
from sparseml.transformers.options.groups import DataTrainingArguments, ModelArguments


@dataclass
class Prepared:
    """All that a run works on."""

    data: TextData
    labels: Labels
    source: Source
    loaded: Loaded
    tokenizer: Any


def prepare(arguments: Arguments) -> Prepared:
    """Load data, model and tokenizer, and say what was chosen."""
    asked = arguments.model
    source = resolve(asked.model_name_or_path, asked.model_revision, asked.token, asked.cache_dir)
    config_source = _settings(asked, asked.config_name) or source
    config = load_config(config_source)
    known = None if arguments.learns else labels_of(config)
    data = load_text_data(_data_options(arguments, known))
    for note in data.notes:
        say(note)
    labels = data.labels or known
    assert labels is not None
    if arguments.learns:
        config = load_config(
            config_source,
            num_labels=labels.num_labels,
            id2label=labels.id2label,
            label2id=labels.label2id,
            problem_type=labels.kind,
            finetuning_task=arguments.data.task_name,
        )
    tokenizer_source = _settings(asked, asked.tokenizer_name) or source
    tokenizer = load_tokenizer(tokenizer_source, asked.use_fast_tokenizer)
    loaded = load_classifier(source, config)
    for note in loaded.notes:
        say(note)
    return Prepared(data, labels, source, loaded, tokenizer)


def _settings(asked: ModelArguments, called: str | None) -> Source | None:
    """Where another configuration or tokenizer comes from; None where the model's own is wanted."""
    return resolve(called, None, asked.token, asked.cache_dir, weights=False) if called else None


def _data_options(arguments: Arguments, known: Labels | None) -> DataOptions:
    asked, training = arguments.data, arguments.training
    return DataOptions(
        task_name=asked.task_name,
        dataset_name=asked.dataset_name,
        dataset_config_name=asked.dataset_config_name,
        train_file=asked.train_file,
        validation_file=asked.validation_file,
        test_file=asked.test_file,
        validation_ratio=asked.validation_ratio,
        hold_out=arguments.guided is not None and arguments.guided.hold_out,
        eval_on_test=asked.eval_on_test,
        input_column_names=asked.input_column_names,
        label_column_name=asked.label_column_name,
        do_regression=asked.do_regression,
        max_train_samples=asked.max_train_samples,
        max_eval_samples=asked.max_eval_samples,
        max_predict_samples=asked.max_predict_samples,
        cache_dir=arguments.model.cache_dir,
        token=arguments.model.token,
        seed=training.seed,
        needs_train=arguments.learns,
        needs_eval=training.do_eval or training.eval_strategy != "no",
        needs_predict=training.do_predict,
        known_labels=known,
    )


def tokenized(arguments: Arguments, prepared: Prepared) -> dict[str, Any]:
    """The splits that the run needs, tokenized for the student, by name."""
    asked = arguments.data
    limit = prepared.tokenizer.model_max_length
    if asked.max_seq_length > limit and asked.max_seq_length != DataTrainingArguments.max_seq_length:
        warn(f"--max_seq_length {asked.max_seq_length} is more than the model takes: {limit} used instead.")
    data = prepared.data
    splits = {
        "train": data.train,
        "validation": data.validation,
        "validation_mismatched": data.validation_mismatched,
        "test": data.test,
        "test_mismatched": data.test_mismatched,
    }
    return {
        name: tokenize(
            split,
            data.columns,
            prepared.tokenizer,
            asked.max_seq_length,
            pad_to_max_length=asked.pad_to_max_length,
        )
        for name, split in splits.items()
        if split is not None
    }


def labels_of(config: Any) -> Labels | None:
    """The labels of a trained classifier's configuration; None for one that has no head of its own."""
    if not any("SequenceClassification" in name for name in config.architectures or ()):
        return None
    names = tuple(str(config.id2label[index]) for index in range(config.num_labels))
    kind: Kind = config.problem_type or (
        "regression" if config.num_labels == 1 else "single_label_classification"
    )
    return Labels(kind, names)
