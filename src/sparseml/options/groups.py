"""The three groups of arguments, with their defaults and help texts."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Final

import transformers

from sparseml.data.known_datasets import BENCHMARK_TASKS
from sparseml.data.readers import READERS

DEFAULT_MODEL: Final = (
    "zoo:nlp/sentence_embedding/minilm-l6/pytorch/huggingface/sentence_transformers/pruned80-none"
)


def argument(default: Any, text: str, **metadata: Any) -> Any:
    """A dataclass field with its help text."""
    return field(default=default, metadata={"help": text, **metadata})


@dataclass
class ModelArguments:
    """Where the model is loaded from."""

    model_name_or_path: str = argument(
        DEFAULT_MODEL, "The checkpoint to start from: a folder, a zoo: stub or a Hub id."
    )
    config_name: str | None = argument(None, "A configuration, if not the model's own.")
    tokenizer_name: str | None = argument(None, "A tokenizer, if not the model's own.")
    cache_dir: str | None = argument(None, "Where downloads are kept.")
    use_fast_tokenizer: bool = argument(True, "Use the tokenizer written in Rust.")
    use_teacher_tokenizer: bool = argument(
        False, "Tokenize for the teacher with the teacher's own tokenizer."
    )
    model_revision: str | None = argument(
        None, "A branch, tag or commit of the Hub's repository; by default main, or what the zoo pins."
    )
    classifier_pooling: str | None = argument(
        None,
        "What a classifier reads: the first token (cls), or the mean of all, which few rows want.",
        choices=("cls", "mean"),
    )
    head_first: bool | None = argument(
        None, "Begin with the classifier that logistic regression on the start's features gives."
    )
    contrastive_steps: int | None = argument(
        None,
        "Before the classifier is fitted, so many steps that move texts of a class together; with --head_first.",
    )
    token: str | bool | None = argument(
        None, "An access token for the Hub; without a value, the one you logged in with."
    )


@dataclass
class DataTrainingArguments:
    """Which data, and how texts are tokenized."""

    task_name: str | None = argument(None, f"A known task: {', '.join(BENCHMARK_TASKS)}.")
    dataset_name: str | None = argument(None, "A dataset of the Hub, or a local folder with one.")
    dataset_config_name: str | None = argument(None, "Which subset of the dataset.")
    train_file: str | None = argument(None, f"A local file of training rows ({', '.join(READERS)}).")
    validation_file: str | None = argument(None, "A local file of validation rows.")
    test_file: str | None = argument(None, "A local file of test rows.")
    validation_ratio: float | None = argument(
        None, "The part of the training rows to validate on, where there is no such split."
    )
    split_seed: int | None = argument(
        None, "The seed that validation rows are held out by, and rows are limited by; --seed by default."
    )
    eval_on_test: bool = argument(False, "Evaluate on the test split.")
    input_column_names: str | None = argument(None, "The column of the text, or two separated by a comma.")
    label_column_name: str = argument("label", "The column of the label.")
    do_regression: bool | None = argument(
        None, "Take numbers as scores (true) or as classes (false); by default their values decide."
    )
    multi_label_threshold: float | str | None = argument(
        None,
        "Of several labels, those with a probability above this count, here and when deployed; 0.3 by default. "
        "`validation` finds one for each label, that of the greatest F1 on the validation rows.",
    )
    max_seq_length: int = argument(384, "Longer texts are cut to so many tokens.")
    pad_to_max_length: bool = argument(
        False, "Pad every text to --max_seq_length, rather than each batch to its longest text."
    )
    max_train_samples: int | None = argument(None, "Train on no more rows than this.")
    max_eval_samples: int | None = argument(None, "Evaluate no more rows than this.")
    max_predict_samples: int | None = argument(None, "Predict no more rows than this.")
    preprocessing_num_workers: int | None = argument(None, "Processes that tokenize.")
    overwrite_cache: bool = argument(False, "Tokenize again rather than use what is cached.")
    one_shot: bool = argument(False, "Apply the recipe without training.")
    num_export_samples: int = argument(0, "Save so many sample inputs and outputs.")


@dataclass
class TrainingArguments(transformers.TrainingArguments):
    """Transformers' arguments and the recipe's, with our defaults: batches by length, no trackers."""

    output_dir: str | None = argument(None, "The folder for the model and its report.")
    do_train: bool = argument(False, "Train.")
    do_eval: bool = argument(False, "Evaluate, on the validation rows.")
    do_predict: bool = argument(False, "Predict the test rows, and write labels with their probabilities.")
    recipe: str | None = argument(None, "A recipe: a file (.yaml, .yml, .md), a zoo: stub, or its text.")
    recipe_args: str | dict[str, Any] | None = field(
        default=None, metadata={"help": "Values for the recipe's variables: JSON, or name=value,..."}
    )
    distill_teacher: str | None = argument(
        None, "The teacher: a folder, a zoo: stub, a Hub id, `self`, or `disable` for none."
    )
    best_model_after_epoch: int | None = argument(None, "Look for the best model only after this epoch.")
    early_stopping_patience: int | None = argument(
        None, "End after so many evaluations in a row without a gain, once the recipe's last phase has begun."
    )
    early_stopping_threshold: float | None = argument(
        None, "By how much --metric_for_best_model must improve to be a gain; 0 by default."
    )
    allow_dense_start: bool = argument(
        False, "Let a recipe that keeps sparsity start from weights that have none."
    )
    overwrite_output_dir: bool = argument(
        False, "Train from the beginning even where --output_dir holds checkpoints."
    )
    resume_from_checkpoint: str | bool | None = argument(
        None, "A checkpoint to go on from; without a value, the newest in --output_dir."
    )
    train_sampling_strategy: str = argument(
        "group_by_length",
        "How training rows are drawn; group_by_length puts texts of like length into a batch.",
        choices=("random", "sequential", "group_by_length", "batch_rebalance"),
    )
    report_to: str | list[str] | None = field(
        default="none", metadata={"help": "Trackers to report to: none, all, or names such as tensorboard."}
    )
    disable_tqdm: bool | None = argument(False, "Show no progress bar.")
    logging_dir: str | None = argument(None, "TensorBoard's folder.")

    def __post_init__(self) -> None:
        named = [self.report_to] if isinstance(self.report_to, str) else self.report_to or ["none"]
        if self.logging_dir is not None:
            os.environ["TENSORBOARD_LOGGING_DIR"] = self.logging_dir
        super().__post_init__()
        # Transformers adds some trackers itself where it detects their hosts.
        if "all" not in named:
            self.report_to = [tracker for tracker in self.report_to or [] if tracker in named]
