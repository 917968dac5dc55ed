"""Arguments of the training command: all the forms in which they come, and what they become."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from sparseml.options.groups import DEFAULT_MODEL, TrainingArguments
from sparseml.options.table import ArgumentError, options_of
from sparseml.training.arguments import Arguments
from support.arguments import all_options, parse

BASE = ["--task_name", "sst2", "--do_train", "--output_dir", "out"]
FILES = ["--do_train", "--output_dir", "out", "--train_file", "a.csv"]

ZOO = "zoo:nlp/masked_language_modeling/obert-base/pytorch/huggingface/wikipedia_bookcorpus/pruned90-none"
MNLI = "zoo:nlp/text_classification/obert-base/pytorch/huggingface/mnli/pruned90_quant-none"
SST2 = "zoo:nlp/sentiment_analysis/obert-base/pytorch/huggingface/sst2/pruned90_quant-none"
DENSE = "zoo:nlp/masked_language_modeling/bert-base/pytorch/huggingface/wikipedia_bookcorpus/base-none"
TWELVE = '{"num_epochs":12,"qat_start_epoch":7.0, "observer_epoch": 11.0}'
EIGHT = (
    "--do_train --do_eval --max_seq_length 128 --evaluation_strategy epoch "
    "--logging_steps 1000 --save_steps 1000 --per_device_train_batch_size 8 "
    "--per_device_eval_batch_size 32 --gradient_accumulation_steps 4 "
    "--preprocessing_num_workers 32 --seed 5114"
)
AS_EIGHT = {
    "do_train": True,
    "do_eval": True,
    "max_seq_length": 128,
    "eval_strategy": "epoch",
    "logging_steps": 1000,
    "save_steps": 1000,
    "save_strategy": "steps",
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 32,
    "gradient_accumulation_steps": 4,
    "preprocessing_num_workers": 32,
    "seed": 5114,
}
TOMATOES = (
    "--dataset_name rotten_tomatoes --input_column_names text --label_column_name label --max_seq_length 128 "
    "--per_device_train_batch_size 32 --per_device_eval_batch_size 32 --preprocessing_num_workers 6 "
    "--do_train --do_eval --evaluation_strategy epoch --fp16 --save_strategy epoch --save_total_limit 1"
)
AS_TOMATOES = {
    "dataset_name": "rotten_tomatoes",
    "input_column_names": "text",
    "label_column_name": "label",
    "max_seq_length": 128,
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 32,
    "preprocessing_num_workers": 6,
    "do_train": True,
    "do_eval": True,
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "save_total_limit": 1,
}

TUTORIAL: dict[str, tuple[str, dict[str, Any]]] = {
    "mnli": (
        f"--task_name mnli --model_name_or_path {ZOO} --recipe {MNLI} "
        "--distill_teacher zoo:nlp/text_classification/obert-base/pytorch/huggingface/mnli/base-none "
        f"--output_dir sparse_quantized_bert-text_classification_mnli {EIGHT}",
        {
            **AS_EIGHT,
            "task_name": "mnli",
            "model_name_or_path": ZOO,
            "recipe": MNLI,
            "distill_teacher": "zoo:nlp/text_classification/obert-base/pytorch/huggingface/mnli/base-none",
            "output_dir": "sparse_quantized_bert-text_classification_mnli",
        },
    ),
    "qqp": (
        f"--task_name qqp --model_name_or_path {ZOO} --recipe {MNLI.replace('mnli', 'qqp')} "
        "--distill_teacher zoo:nlp/text_classification/obert-base/pytorch/huggingface/qqp/base-none "
        "--output_dir obert_base_pruned90_quant_qqp --do_train --do_eval --evaluation_strategy epoch "
        "--logging_steps 1000 --save_steps 1000 --per_device_train_batch_size 32 "
        "--per_device_eval_batch_size 32 --preprocessing_num_workers 32 --max_seq_length 128 --seed 10194",
        {
            "task_name": "qqp",
            "per_device_train_batch_size": 32,
            "seed": 10194,
            "gradient_accumulation_steps": 1,
        },
    ),
    "emotion from the Hub": (
        f"--model_name_or_path {ZOO} --recipe {SST2} --recipe_args '{TWELVE}' --distill_teacher disable "
        '--dataset_name tweet_eval --dataset_config_name emotion --input_column_names "text" '
        f'--label_column_name "label" --output_dir emotion {EIGHT}',
        {
            **AS_EIGHT,
            "recipe_args": TWELVE,
            "distill_teacher": "disable",
            "dataset_name": "tweet_eval",
            "dataset_config_name": "emotion",
            "input_column_names": "text",
        },
    ),
    "emotion from files": (
        f"--model_name_or_path {ZOO} --recipe {SST2} --recipe_args '{TWELVE}' --distill_teacher disable "
        "--train_file ./emotion-train.csv --validation_file ./emotion-validation.csv "
        f'--input_column_names "text" --label_column_name "label" --output_dir emotion-csv {EIGHT}',
        {**AS_EIGHT, "train_file": "./emotion-train.csv", "validation_file": "./emotion-validation.csv"},
    ),
    "sick from the Hub": (
        f"--model_name_or_path {ZOO} --recipe {MNLI} --distill_teacher disable --dataset_name sick "
        f"--input_column_names 'sentence_A,sentence_B' --label_column_name 'label' --output_dir sick {EIGHT}",
        {**AS_EIGHT, "dataset_name": "sick", "input_column_names": "sentence_A,sentence_B"},
    ),
    "sick from files": (
        f"--model_name_or_path {ZOO} --recipe {MNLI} --distill_teacher disable "
        "--train_file ./sick-train.csv --validation_file ./sick-validation.csv "
        f"--input_column_names 'sentence_A,sentence_B' --label_column_name 'label' --output_dir sick {EIGHT}",
        {**AS_EIGHT, "train_file": "./sick-train.csv", "input_column_names": "sentence_A,sentence_B"},
    ),
    "dense teacher": (
        f"--output_dir dense-teacher_rotten_tomatoes --model_name_or_path {DENSE} "
        "--recipe zoo:nlp/sentiment_analysis/bert-base/pytorch/huggingface/sst2/base-none "
        f"--recipe_args '{{\"init_lr\":0.00003}}' {TOMATOES}",
        {**AS_TOMATOES, "model_name_or_path": DENSE, "recipe_args": '{"init_lr":0.00003}'},
    ),
    "own teacher, its flag doubled": (
        f"--model_name_or_path {ZOO} --recipe {SST2} --recipe_args '{TWELVE}' "
        "--distill_teacher --distill_teacher ./dense-teacher_rotten_tomatoes "
        f"--output_dir tomatoes {TOMATOES}",
        {**AS_TOMATOES, "distill_teacher": "./dense-teacher_rotten_tomatoes"},
    ),
    "teacher from the Hub": (
        f"--model_name_or_path {ZOO} --recipe {SST2} "
        "--distill_teacher cardiffnlp/twitter-roberta-base-emotion --use_teacher_tokenizer true "
        "--dataset_name tweet_eval --dataset_config_name emotion "
        f'--input_column_names "text" --label_column_name "label" --output_dir emotion {EIGHT}',
        {
            **AS_EIGHT,
            "use_teacher_tokenizer": True,
            "distill_teacher": "cardiffnlp/twitter-roberta-base-emotion",
        },
    ),
}

# Section 1 of the reference: each argument with a value, and what it must become.
REFERENCE: dict[str, tuple[str, Any]] = {
    "model_name_or_path": ("folder", "folder"),
    "config_name": ("folder", "folder"),
    "tokenizer_name": ("folder", "folder"),
    "cache_dir": ("cache", "cache"),
    "use_fast_tokenizer": ("false", False),
    "use_teacher_tokenizer": ("true", True),
    "model_revision": ("v2", "v2"),
    "task_name": ("SST-2", "sst2"),
    "max_seq_length": ("64", 64),
    "overwrite_cache": ("true", True),
    "preprocessing_num_workers": ("4", 4),
    "pad_to_max_length": ("true", True),
    "max_train_samples": ("10", 10),
    "max_eval_samples": ("11", 11),
    "max_predict_samples": ("12", 12),
    "train_file": ("x.csv", "x.csv"),
    "validation_file": ("x.json", "x.json"),
    "test_file": ("x.jsonl", "x.jsonl"),
    "validation_ratio": ("0.25", 0.25),
    "eval_on_test": ("true", True),
    "input_column_names": ("a, b", "a,b"),
    "label_column_name": ("class", "class"),
    "num_export_samples": ("3", 3),
    "distill_teacher": ("self", "self"),
    "best_model_after_epoch": ("5", 5),
    "recipe": ("recipe.yaml", "recipe.yaml"),
    "overwrite_output_dir": ("true", True),
    "do_predict": ("true", True),
    "eval_strategy": ("steps", "steps"),
    "save_strategy": ("no", "no"),
    "save_steps": ("50", 50),
    "save_total_limit": ("2", 2),
    "logging_steps": ("25", 25),
    "seed": ("7", 7),
    "per_device_train_batch_size": ("16", 16),
    "per_device_eval_batch_size": ("64", 64),
    "gradient_accumulation_steps": ("2", 2),
    "num_train_epochs": ("1.5", 1.5),
    "learning_rate": ("8e-5", 8e-5),
    "warmup_steps": ("10", 10.0),
    "lr_scheduler_type": ("cosine", "cosine"),
    "weight_decay": ("0.01", 0.01),
    "bf16": ("true", True),
    "resume_from_checkpoint": ("out/checkpoint-3", "out/checkpoint-3"),
    "metric_for_best_model": ("f1", "f1"),
    "remove_unused_columns": ("false", False),
    "label_smoothing_factor": ("0.1", 0.1),
    "local_rank": ("0", 0),
    "allow_dense_start": ("true", True),
}


def value_of(arguments: Arguments, name: str) -> Any:
    """An argument's value, whichever group it is in."""
    for group in (arguments.model, arguments.data, arguments.training):
        if hasattr(group, name):
            return getattr(group, name)
    raise KeyError(name)


@pytest.mark.parametrize("name", TUTORIAL)
def test_the_tutorials_commands_mean_what_they_say(name: str) -> None:
    command, expected = TUTORIAL[name]
    arguments = parse(shlex.split(command))
    assert {key: value_of(arguments, key) for key in expected} == expected
    assert any("--eval_strategy" in note for note in arguments.notes)


def test_a_doubled_flag_is_said_once() -> None:
    arguments = parse(shlex.split(TUTORIAL["own teacher, its flag doubled"][0]))
    assert sum("--distill_teacher was written twice" in note for note in arguments.notes) == 1


@pytest.mark.parametrize("name", REFERENCE)
def test_every_argument_of_the_reference_is_read(name: str) -> None:
    text, expected = REFERENCE[name]
    words = [*BASE, f"--{name}", text]
    assert value_of(parse(words), name) == expected
    assert value_of(parse([*BASE, f"--{name.replace('_', '-')}={text}"]), name) == expected


def test_every_field_of_transformers_has_an_option() -> None:
    fields = options_of(TrainingArguments)
    aliases = {"gradient_checkpointing", "gradient_checkpointing_kwargs"}
    assert set(fields) - set(all_options()) <= aliases
    assert len(fields) > 100


def test_defaults() -> None:
    arguments = parse(BASE)
    assert arguments.model.model_name_or_path == DEFAULT_MODEL
    assert any(DEFAULT_MODEL in note for note in arguments.notes)
    assert arguments.model.use_fast_tokenizer and not arguments.model.use_teacher_tokenizer
    assert arguments.data.max_seq_length == 384
    assert not arguments.data.pad_to_max_length
    assert arguments.data.label_column_name == "label"
    training = arguments.training
    assert training.train_sampling_strategy == "group_by_length"
    assert training.report_to == []
    assert training.disable_tqdm is False
    assert (training.do_train, training.do_eval, training.do_predict) == (True, False, False)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--use_fast_tokenizer"], True),
        (["--use_fast_tokenizer", "false"], False),
        (["--use_fast_tokenizer=False"], False),
        (["--no_use_fast_tokenizer"], False),
        (["--no-use-fast-tokenizer"], False),
        (["--no_use_fast_tokenizer", "--use_fast_tokenizer", "yes"], True),
    ],
)
def test_switches(words: list[str], expected: bool) -> None:
    assert parse([*BASE, *words]).model.use_fast_tokenizer is expected


def test_no_pad_to_max_length_is_the_default_and_accepted() -> None:
    assert parse([*BASE, "--no_pad_to_max_length"]).data.pad_to_max_length is False


def test_a_value_may_begin_with_dashes_or_be_negative() -> None:
    recipe = "---\nnum_epochs: 3\n---"
    assert parse([*BASE, "--recipe", recipe]).training.recipe == recipe
    assert parse([*BASE, "--max_steps", "-1"]).training.max_steps == -1


def test_resume_without_a_value_means_the_newest() -> None:
    assert parse([*BASE, "--resume_from_checkpoint"]).training.resume_from_checkpoint is True
    assert parse([*BASE, "--resume_from_checkpoint", "True"]).training.resume_from_checkpoint is True
    assert parse([*BASE, "--resume_from_checkpoint", "1"]).training.resume_from_checkpoint == "1"


def test_the_last_of_several_values_counts_and_is_said() -> None:
    arguments = parse([*BASE, "--seed", "1", "--seed", "2"])
    assert arguments.training.seed == 2
    assert any("--seed was given more than once" in note for note in arguments.notes)


def test_lists_take_several_values() -> None:
    assert parse([*BASE, "--label_names", "a", "b"]).training.label_names == ["a", "b"]
    assert parse([*BASE, "--label_names", "a"]).training.label_names == ["a"]


@pytest.mark.parametrize(
    "words",
    [
        ["--do_eval", "--validation_ratio", "0.1"],
        ["--do_eval", "--validation_file", "b.parquet"],
        ["--do_eval", "--eval_on_test", "--test_file", "b.tsv"],
        ["--task_name", "sst2"],
        ["--train_file", "part-*.csv"],
        ["--train_file", "a.csv,b.jsonl"],
    ],
)
def test_ways_to_give_local_data(words: list[str]) -> None:
    assert parse([*FILES, *words]).data.train_file is not None


def test_a_file_says_the_same_as_flags(tmp_path: Path) -> None:
    given = {"task_name": "mnli", "do_train": True, "output_dir": "o", "learning_rate": 8e-5, "fp16": False}
    as_json, as_yaml = tmp_path / "args.json", tmp_path / "args.yaml"
    as_json.write_text(json.dumps({**given, "recipe": "r.yaml", "recipe_args": {"a": 1}, "seed": None}))
    # YAML 1.1 takes 8e-5 for text and `no` for false.
    as_yaml.write_text(
        "task_name: mnli\ndo_train: true\noutput_dir: o\nlearning_rate: 8e-5\n"
        "fp16: false\neval_strategy: no\nrecipe: r.yaml\nrecipe_args: {a: 1}\n"
    )
    for path in (as_json, as_yaml):
        arguments = parse([str(path)])
        assert arguments.training.learning_rate == 8e-5
        assert arguments.training.recipe_args == {"a": 1}
        assert arguments.training.eval_strategy == "no"
        assert arguments.data.task_name == "mnli"


def test_keywords() -> None:
    arguments = parse(
        task_name="mnli",
        do_train=True,
        output_dir=Path("out"),
        recipe="r.yaml",
        recipe_args={"a": 1},
        distill_teacher=None,
        evaluation_strategy="epoch",
        hub_token="secret",
    )
    assert arguments.training.output_dir == "out"
    assert arguments.training.recipe_args == {"a": 1}
    assert arguments.training.distill_teacher is None
    assert arguments.training.eval_strategy == "epoch"
    assert "secret" not in arguments.command
    with pytest.raises(ArgumentError, match="--task_name"):
        parse(task_nam="mnli")


def test_the_command_keeps_no_secret() -> None:
    arguments = parse([*BASE, "--hub_token", "s3cret", "--use-auth-token=s3cret", "--seed", "3"])
    assert not any("s3cret" in word for word in arguments.command)
    assert arguments.model.token == "s3cret"
    assert arguments.training.hub_token == "s3cret"
    assert arguments.command[-2:] == ["--seed", "3"]


@pytest.mark.parametrize("word", ["-h", "--help", "--help-all"])
def test_help(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse([word])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    shown = {line.split()[0] for line in text.splitlines() if line.startswith("  --")}
    assert {"--recipe", "--task_name", "--model_name_or_path", "--output_dir"} <= shown
    missing = {f"--{name}" for name in all_options()} - shown
    assert (not missing) is (word == "--help-all")
    assert len(text.splitlines()[0]) < 111
