"""Arguments of the training command: all the ways to get them wrong."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoModel

from resparse.errors import UserError
from sparseml.options.table import ArgumentError
from support.arguments import all_options, parse

BASE = ["--task_name", "sst2", "--do_train", "--output_dir", "out"]
FILES = ["--do_train", "--output_dir", "out", "--train_file", "a.csv"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--max_seq_lenght", "1"], ["Unknown argument --max_seq_lenght", "--max_seq_length"]),
        (["--max_seq", "1"], ["Unknown argument --max_seq", "--max_seq_length"]),
        (["--pad_to_max", "true"], ["Unknown argument --pad_to_max", "--pad_to_max_length"]),
        (["--no_seed"], ["Unknown argument --no_seed"]),
        (["--qqqqq"], ["Unknown argument --qqqqq", "--help"]),
        (["--max_seq_length", "abc"], ["--max_seq_length 'abc'", "whole number"]),
        (["--max_seq_length", "1.5"], ["--max_seq_length '1.5'", "whole number"]),
        (["--max_seq_length"], ["--max_seq_length needs a value", "whole number"]),
        (["--max_seq_length", "0"], ["--max_seq_length 0", "at least 1"]),
        (["--learning_rate", "fast"], ["--learning_rate 'fast'", "number"]),
        (["--learning_rate", "nan"], ["--learning_rate 'nan'"]),
        (["--learning_rate", "-1"], ["--learning_rate -1", "at least 0"]),
        (["--fp16", "maybe"], ["--fp16 'maybe'", "true or false"]),
        (["--no_fp16", "true"], ["--no_fp16 takes no value"]),
        (["--eval_strategy", "epochs"], ["--eval_strategy 'epochs'", "'epoch'"]),
        (["--lr_scheduler_type", "linea"], ["'linear'"]),
        (["--input_column_names", "a", "b"], ["--input_column_names takes one value, got 2"]),
        (["--input_column_names", "a,b,c"], ["one column, or exactly two"]),
        (["--input_column_names", "a,"], ["one column, or exactly two"]),
        (["--input_column_names", "a,a"], ["twice"]),
        (["--input_column_names", "label"], ["label column"]),
        (["--distill_teacher"], ["--distill_teacher needs a value"]),
        (["--distill_teacher", ""], ["--distill_teacher is empty"]),
        (["--recipe_args", "a=1"], ["--recipe_args", "no --recipe"]),
        (["--dataset_name", "imdb"], ["--dataset_name and --task_name"]),
        (["--validation_ratio", "1"], ["--validation_ratio 1", "between 0 and 1"]),
        (["--validation_ratio", "0.1", "--eval_on_test"], ["leave one out"]),
        (["--fp16", "--bf16"], ["--fp16 and --bf16"]),
        (["--report_to", "tensorbord"], ["'tensorbord'", "'tensorboard'"]),
        (["--one_shot", "--recipe", "r.yaml"], ["--one_shot", "--do_train"]),
        (["--load_best_model_at_end"], ["Transformers does not accept"]),
        (["--deepspeed", "nowhere.json"], ["Transformers does not accept"]),
    ],
)
def test_mistakes_get_one_clear_line(words: list[str], parts: list[str]) -> None:
    with pytest.raises(ArgumentError) as caught:
        parse([*BASE, *words])
    message = str(caught.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message
    assert "usage:" not in message


@pytest.mark.parametrize(
    "words", [["--deepspeed", "nowhere.json"], ["--logging_dir", "logs", "--load_best_model_at_end"]]
)
def test_a_refused_flag_leaves_the_process_as_it_was(words: list[str], pruned_model: Path) -> None:
    before = transformers.logging.get_verbosity(), dict(os.environ)
    transformers.logging.set_verbosity_info()
    try:
        with pytest.raises(ArgumentError) as kept:  # as a notebook keeps the last error, and so its frames
            parse([*BASE, *words])
        assert transformers.logging.get_verbosity() == logging.INFO
    finally:
        transformers.logging.set_verbosity(before[0])
    assert dict(os.environ) == before[1]
    assert AutoModel.from_pretrained(pruned_model).config.model_type == "bert"
    assert kept.value.__cause__ is not None


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--task_name", "ssst2", "--do_train", "--output_dir", "o"], "'sst2'"),
        (["mnli"], "Did not expect 'mnli'"),
        (["--validation_file", "a.csv", "--output_dir", "o"], "Nothing to do"),
        (["--task_name", "sst2", "--do_train"], "--output_dir is missing"),
        (["--do_train", "--output_dir", "o"], "No data"),
        (["--do_train", "--output_dir", "o", "--validation_file", "a.csv"], "--train_file"),
        (["--do_predict", "--output_dir", "o", "--train_file", "a.csv"], "--test_file"),
        ([*FILES, "--do_eval"], "--validation_file"),
        ([*FILES, "--eval_strategy", "epoch"], "--validation_file"),
        ([*FILES, "--do_eval", "--eval_on_test"], "--test_file"),
        ([*FILES, "--dataset_config_name", "x"], "--dataset_name"),
        ([*FILES, "--dataset_name", "x"], "--dataset_name and --train_file"),
        ([*FILES, "--validation_file", "a.cvs"], "Did you mean .csv?"),
        ([*FILES, "--validation_file", "a.csv", "--validation_ratio", "0.1"], "leave one out"),
    ],
)
def test_contradictions_and_gaps(words: list[str], part: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(words)
    assert part in str(caught.value)


def test_old_names_are_not_offered() -> None:
    with pytest.raises(ArgumentError) as caught:
        parse([*BASE, "--evaluation_strateg", "epoch"])
    assert "--eval_strategy" in str(caught.value)
    assert "--evaluation_strategy" not in str(caught.value).partition("Did you mean")[2]


def test_unknown_flags_are_all_named_at_once() -> None:
    with pytest.raises(ArgumentError) as caught:
        parse([*BASE, "--sed", "1", "--recip", "r"])
    assert "--seed" in str(caught.value) and "--recipe" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("a.json", b'{"task_name": }', "line 1: not JSON"),
        ("a.json", b"[1, 2]", "one mapping"),
        ("a.json", b"", "not JSON"),
        ("a.json", b'{"tsk_name": "mnli"}', "Did you mean --task_name"),
        ("a.json", b'{"max_seq_length": "abc"}', "whole number"),
        ("a.json", b'{"do_train": "perhaps"}', "true or false"),
        ("a.json", b'{"task_name": "\xff"}', "not UTF-8"),
        ("a.yaml", b"a: [", "not YAML"),
        ("a.yaml", b"", "one mapping"),
    ],
)
def test_a_bad_file_of_arguments(tmp_path: Path, name: str, content: bytes, part: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ArgumentError) as caught:
        parse([str(path)])
    assert part in str(caught.value)


def test_a_missing_file_of_arguments(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="No such file"):
        parse([str(tmp_path / "nowhere.json")])


# What Transformers would start, fetch or write when told to is not for a fuzzer.
_QUIET = sorted(set(all_options()) - {"deepspeed", "ddp_backend", "logging_dir", "tf32", "torch_compile"})
_VALUES = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["true", "none", "0", "1", "-1", "1e9", "{}", "[]", '{"a": 1}', "a,b", "inf"]),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.lists(st.text(max_size=3), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@settings(max_examples=150, deadline=None)
@example({"optim": []})
@example({"task": None})
@example({"self": 1})
@given(given=st.dictionaries(st.sampled_from(_QUIET) | st.text(max_size=8), _VALUES, max_size=4))
def test_keywords_of_any_kind_give_arguments_or_one_error(given: dict[str, Any]) -> None:
    given.pop("argv", None)
    try:
        parse([], **{"task_name": "sst2", "do_train": True, "output_dir": "out", **given})
    except UserError as error:
        assert str(error)


@settings(max_examples=150, deadline=None)
@given(
    pairs=st.lists(
        st.tuples(st.sampled_from(_QUIET) | st.text(max_size=8), st.text(max_size=8) | st.none()), max_size=4
    )
)
def test_flags_of_any_kind_give_arguments_or_one_error(pairs: list[tuple[str, str | None]]) -> None:
    words = [
        word for name, value in pairs for word in ([f"--{name}"] if value is None else [f"--{name}={value}"])
    ]
    if {"--help", "--help-all", "--help_all", "-h"} & set(words):
        return
    try:
        parse([*BASE, *words])
    except UserError as error:
        assert str(error)


def test_a_tracker_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparseml.options.checks.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"resparse\[mlflow\]"):
        parse([*BASE, "--report_to", "mlflow"])
