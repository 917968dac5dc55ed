"""The training commands run by two processes, as torchrun starts them: one model, one writer, what one would make.

One process takes the same batches of a step one after the other (--gradient_accumulation_steps), or as one.
"""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sparseml.session import checkpoint
from support import corpora, ranks, tiny
from support.hub import LoopbackHub
from support.ranks import Result

pytestmark = pytest.mark.slow

OWN_FILE = "rng_state_1.pth"
COMMAND = "text_classification"


@dataclass(frozen=True)
class Runs:
    """The results of two processes, and of one; and what the two were told."""

    pair: list[Result]
    alone: Result
    arguments: dict[str, Any]
    environment: dict[str, str]
    requests: tuple[str, ...] = ()  # to the Hub


def run(
    folder: Path,
    command: str,
    arguments: dict[str, Any],
    alone: dict[str, Any],
    environment: dict[str, str] | None = None,
) -> Runs:
    """Run two processes, and one, whose arguments differ by `alone`."""
    environment = {"SPARSEZOO_HOME": str(folder / "zoo"), **(environment or {})}
    arguments = {**arguments, "output_dir": folder / "two"}
    pair = ranks.run(2, command, folder / "two-log", arguments, environment)
    single = {**arguments, **alone, "output_dir": folder / "one"}
    return Runs(pair, *ranks.run(1, command, folder / "one-log", single, environment), arguments, environment)


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("upstream")
    arguments = {
        "model_name_or_path": tiny.bert(folder / "encoder", sparsity=0.0),
        "train_file": corpora.write(folder / "corpus.txt", corpora.documents(520)),
        "recipe": corpora.RECIPE,
        "distill_teacher": "self",
        "do_train": True,
        "do_eval": True,
        "max_seq_length": 32,
        "per_device_train_batch_size": 4,
        "learning_rate": 3e-3,
        "validation_split_percentage": 20,
        "save_strategy": "steps",
        "save_steps": 20,
    }
    return run(folder, "masked_language_modeling", arguments, {"gradient_accumulation_steps": 2})


ALONE = {"per_device_train_batch_size": 8}
ROWS = 51
"""No whole number of steps of eight: the last one of an epoch has three rows, one and two for two processes."""


@pytest.fixture(scope="module")
def transfer(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """From a model and by a teacher that are fetched from the Hub."""
    folder = tmp_path_factory.mktemp("transfer")
    settings: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    names = ["negative", "positive"]
    models = {
        "owner/pruned": tiny.bert(folder / "pruned", **settings),
        "owner/teacher": tiny.bert(folder / "teacher", names=names, seed=1, **settings),
    }
    arguments = {
        "model_name_or_path": "owner/pruned",
        "train_file": tiny.write(folder / "train.csv", tiny.rows(ROWS)),
        "validation_file": tiny.write(folder / "validation.csv", tiny.rows(17, seed=1)),
        "recipe": tiny.RECIPE + tiny.DISTILLATION,
        "distill_teacher": "owner/teacher",
        "do_train": True,
        "do_eval": True,
        "max_seq_length": 32,
        "per_device_train_batch_size": 4,
        "eval_strategy": "steps",
        "save_strategy": "steps",
        "eval_steps": 5,
        "save_steps": 5,
        "load_best_model_at_end": True,
        # Adam makes whole steps of what is rounding alone, such as the gradient of a key's bias.
        "optim": "sgd",
        "recipe_args": "init_lr=0.1",
    }
    with LoopbackHub() as hub:
        for name, model in models.items():
            hub.add(name, {path.name: path.read_bytes() for path in model.iterdir()})
        variables = hub.environment(folder)
        added = {name: value for name, value in variables.items() if os.environ.get(name) != value}
        runs = run(folder, COMMAND, arguments, ALONE, added)
        return replace(runs, requests=tuple(hub.requests))


RUNS = ("upstream", "transfer")


@pytest.mark.parametrize("name", RUNS)
def test_both_processes_hold_the_same_bits_after_every_step(
    name: str, request: pytest.FixtureRequest
) -> None:
    first, second = request.getfixturevalue(name).pair
    assert len(first.steps) == len(second.steps) > 15
    for one, other in zip(first.steps, second.steps, strict=True):
        assert one.keys() == other.keys()
        assert [key for key in one if not torch.equal(one[key].nan_to_num(), other[key].nan_to_num())] == []
    assert first.report == second.report


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_end_where_one_ends(name: str, request: pytest.FixtureRequest) -> None:
    """Up to the order in which gradients are added; and once quantized, to values that round to the next step."""
    runs = request.getfixturevalue(name)
    first, alone = runs.pair[0], runs.alone
    assert len(first.steps) == len(alone.steps)
    assert_near(first.steps, alone.steps)
    assert any(key.endswith(".pruned") for key in alone.steps[-1])
    for key, value in alone.report["metrics"].items():
        if key.startswith("eval"):
            assert first.report["metrics"][key] == pytest.approx(value, rel=1e-2), key


def assert_near(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    """The same masks, and about the same of all else, at every step."""
    for ours, theirs in zip(first, second, strict=True):
        quantized = any(key.endswith(".minimum") and value.isfinite().all() for key, value in theirs.items())
        for key, value in theirs.items():
            if key.endswith(".pruned"):
                assert torch.equal(ours[key], value)
            elif key.endswith(".zero_point"):
                assert (ours[key] - value).abs().max() <= 2
            else:
                near = {"rtol": 0.0, "atol": 0.05 if quantized else 1e-5}
                torch.testing.assert_close(ours[key], value, **near, equal_nan=True)


def test_what_processes_need_is_fetched_by_one_of_them(transfer: Runs) -> None:
    fetched = [line for line in transfer.requests if line.startswith("GET") and "/resolve/" in line]
    weights = [line for line in transfer.requests if "/cdn/" in line]
    assert len(fetched) == len(set(fetched)) > 4
    assert len(weights) == len(set(weights)) == 2


def beyond_its_own(result: Result) -> list[str]:
    """What a process wrote but for its random state; Transformers makes the folder in every process."""
    return [entry for entry in result.written if OWN_FILE not in entry and not entry.startswith("os.mkdir")]


@pytest.mark.parametrize("name", RUNS)
def test_one_process_writes_and_speaks(name: str, request: pytest.FixtureRequest) -> None:
    runs = request.getfixturevalue(name)
    (first, second), alone = runs.pair, runs.alone
    assert len(first.written) > 20
    assert beyond_its_own(second) == []
    assert first.printed.count("model: ") == alone.printed.count("model: ") == 1
    assert "Warning" not in first.printed


def test_a_stopped_run_of_two_goes_on_with_the_same_bits(upstream: Runs, tmp_path: Path) -> None:
    checkpoint = upstream.arguments["output_dir"] / "checkpoint-40"
    assert (checkpoint / OWN_FILE).is_file()
    more = {"output_dir": tmp_path / "resumed", "resume_from_checkpoint": checkpoint}
    again = ranks.run(
        2, "masked_language_modeling", tmp_path / "log", {**upstream.arguments, **more}, upstream.environment
    )
    whole = upstream.pair[0].steps
    for one in again:
        assert len(one.steps) == len(whole) - 40
        assert [key for key, value in whole[-1].items() if not torch.equal(one.steps[-1][key], value)] == []


def test_a_run_of_two_that_is_stopped_goes_on_with_one(transfer: Runs, tmp_path: Path) -> None:
    """SIGTERM at one of them; the folder is that of the same run, as a step has as many rows."""
    step, folder = 11, tmp_path / "stopped"
    arguments = {**transfer.arguments, "output_dir": folder}
    code, printed = ranks.struck(
        2, COMMAND, tmp_path / "first", arguments, signal.SIGTERM, step, transfer.environment
    )
    assert code != 0 and "exitcode  : 143" in printed
    assert printed.count("Stopped by SIGTERM") == 1
    assert checkpoint.newest(folder).name == f"checkpoint-{step}"
    (again,) = ranks.run(1, COMMAND, tmp_path / "second", {**arguments, **ALONE}, transfer.environment)
    assert f"Going on from {folder / f'checkpoint-{step}'}" in again.printed
    assert_near(again.steps, transfer.alone.steps[step:])
    assert again.report["metrics"]["eval_accuracy"] == transfer.alone.report["metrics"]["eval_accuracy"]


def test_a_run_of_one_goes_on_with_two(transfer: Runs, tmp_path: Path) -> None:
    began = tmp_path / "alone" / "checkpoint-10"
    more = {"output_dir": tmp_path / "resumed", "resume_from_checkpoint": began}
    shutil.copytree(transfer.arguments["output_dir"].with_name("one"), began.parent)
    again = ranks.run(2, COMMAND, tmp_path / "log", {**transfer.arguments, **more}, transfer.environment)
    assert "made of something else" not in again[0].printed
    for one in again:
        assert_near(one.steps, transfer.alone.steps[10:])


def test_when_one_of_two_is_killed_the_other_ends(transfer: Runs, tmp_path: Path) -> None:
    """Rather than wait for it; the checkpoints before are whole."""
    arguments = {**transfer.arguments, "output_dir": tmp_path / "out"}
    code, printed = ranks.struck(
        2, COMMAND, tmp_path / "log", arguments, signal.SIGKILL, 12, transfer.environment
    )
    assert code != 0 and "exitcode  : -9" in printed
    assert checkpoint.newest(tmp_path / "out").name == "checkpoint-10"
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_a_guided_run_of_two_makes_one_deployment(tmp_path: Path) -> None:
    arguments = {
        "model_name_or_path": tiny.bert(tmp_path / "pruned"),
        "train_file": tiny.write(tmp_path / "rows.csv", tiny.rows(120)),
        "output_dir": tmp_path / "out",
        "recipe_args": "num_epochs=1.0",
    }
    first, second = ranks.run(2, COMMAND, tmp_path / "log", arguments, {"SPARSEZOO_HOME": str(tmp_path)})
    assert beyond_its_own(second) == []
    assert first.printed.count("serve it") == 1
    assert (tmp_path / "out" / "deployment" / "model.onnx").is_file()
    assert first.report["export"] and first.report["metrics"] == second.report["metrics"]
