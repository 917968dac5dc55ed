"""When a run is guided, what it chooses from the arguments alone, and that what is given wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resparse.errors import UserError
from sparseml.guided import sizing
from sparseml.options import environment as machine
from sparseml.training.arguments import Arguments
from support.arguments import parse


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine, "accelerator", lambda: None)
    return tmp_path


def read(*words: str, **values: Any) -> Arguments:
    return parse(list(words), **values)


@pytest.mark.parametrize(
    "words",
    [
        ["--train_file", "rows.csv"],
        ["--train_file", "rows.csv", "--validation_file", "more.csv"],
        ["--train_file", "rows.csv", "--output_dir", "out"],
        ["--train_file", "rows.csv", "--recipe", "mine.yaml"],
        ["--dataset_name", "imdb"],
        ["--task_name", "sst2"],
    ],
)
def test_without_named_work_all_is_done(words: list[str]) -> None:
    arguments = read(*words)
    assert arguments.guided is not None
    assert arguments.training.do_train and arguments.training.do_eval


@pytest.mark.parametrize("work", ["--do_train", "--do_eval"])
def test_named_work_is_done_and_nothing_else(work: str) -> None:
    arguments = read(work, "--train_file", "a.csv", "--validation_file", "b.csv", "--output_dir", "out")
    assert arguments.guided is None
    assert arguments.training.do_train == (work == "--do_train")
    assert arguments.training.recipe is None
    assert arguments.data.max_seq_length == 384
    assert not arguments.training.bf16


def test_without_rows_to_train_on_there_is_nothing_to_do() -> None:
    with pytest.raises(UserError, match="Nothing to do"):
        read("--validation_file", "rows.csv", "--output_dir", "out")


def test_what_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "fast_bfloat16", lambda: "this test")
    arguments = read("--train_file", "data/rows.csv")
    assert arguments.training.recipe == sizing.RECIPE
    assert arguments.training.bf16
    assert "bfloat16, which this test computes fast" in "\n".join(arguments.notes)
    assert arguments.guided is not None and arguments.guided.hold_out


@pytest.mark.parametrize(
    ("name", "value", "group"),
    [
        ("output_dir", "mine", "training"),
        ("recipe", "mine.yaml", "training"),
        ("bf16", False, "training"),
        ("distill_teacher", "self", "training"),
        ("max_seq_length", 64, "data"),
        ("save_strategy", "no", "training"),
        ("eval_strategy", "no", "training"),
        ("per_device_eval_batch_size", 4, "training"),
        ("logging_steps", 7, "training"),
    ],
)
def test_what_is_given_wins(name: str, value: Any, group: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "fast_bfloat16", lambda: "this test")
    arguments = read(train_file="rows.csv", **{name: value})
    assert arguments.guided is not None
    assert getattr(getattr(arguments, group), name) == value


@pytest.mark.parametrize(
    "given",
    [{"validation_file": "b.csv"}, {"validation_ratio": 0.3}, {"test_file": "b.csv", "eval_on_test": True}],
)
def test_validation_rows_that_are_named_are_taken(given: dict[str, Any]) -> None:
    guided = read(train_file="a.csv", **given).guided
    assert guided is not None and not guided.hold_out


def test_test_rows_are_predicted() -> None:
    assert read(train_file="a.csv", test_file="b.csv").training.do_predict


def test_variables_of_the_chosen_recipe_can_be_given() -> None:
    assert read(train_file="a.csv", recipe_args="num_epochs=2").training.recipe_args == "num_epochs=2"


@pytest.mark.parametrize(
    ("capabilities", "said"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, "this processor's AMX"),
        ({"avx512_bf16": True}, "this processor's AVX-512 BF16"),
        ({"bf16": True}, "this processor's NEON BF16"),
        ({"avx512_f": True, "avx512_bf16": False}, None),
        ({}, None),
    ],
)
def test_bfloat16_is_chosen_where_instructions_multiply_it(
    capabilities: dict[str, bool], said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.torch.cpu, "get_capabilities", lambda: capabilities)
    assert machine.fast_bfloat16() == said
