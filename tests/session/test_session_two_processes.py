"""The training commands run by two processes, as torchrun starts them: one model, one writer, what one would make.

One process takes the same batches of a step one after the other (--gradient_accumulation_steps), or as one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from support import corpora, ranks, tiny
from support.ranks import Result

pytestmark = pytest.mark.slow

OWN_FILE = "rng_state_1.pth"


@dataclass(frozen=True)
class Runs:
    """The results of two processes, and of one; and what the two were told."""

    pair: list[Result]
    alone: Result
    arguments: dict[str, Any]
    environment: dict[str, str]


def run(folder: Path, command: str, arguments: dict[str, Any], alone: dict[str, Any]) -> Runs:
    """Run two processes, and one, whose arguments differ by `alone`."""
    environment = {"SPARSEZOO_HOME": str(folder / "zoo")}
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


@pytest.fixture(scope="module")
def transfer(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("transfer")
    settings: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    arguments = {
        "model_name_or_path": tiny.bert(folder / "pruned", **settings),
        "train_file": tiny.write(folder / "train.csv", tiny.rows(48)),
        "validation_file": tiny.write(folder / "validation.csv", tiny.rows(17, seed=1)),
        "recipe": tiny.RECIPE + tiny.DISTILLATION,
        "distill_teacher": tiny.bert(folder / "teacher", names=["negative", "positive"], seed=1, **settings),
        "do_train": True,
        "do_eval": True,
        "max_seq_length": 32,
        "per_device_train_batch_size": 4,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "load_best_model_at_end": True,
        # Adam makes whole steps of what is rounding alone, such as the gradient of a key's bias.
        "optim": "sgd",
        "recipe_args": "init_lr=0.1",
    }
    return run(folder, "text_classification", arguments, {"per_device_train_batch_size": 8})


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
    for ours, theirs in zip(first.steps, alone.steps, strict=True):
        quantized = any(key.endswith(".minimum") and value.isfinite().all() for key, value in theirs.items())
        for key, value in theirs.items():
            if key.endswith(".pruned"):
                assert torch.equal(ours[key], value)
            elif key.endswith(".zero_point"):
                assert (ours[key] - value).abs().max() <= 1
            else:
                near = {"rtol": 0.0, "atol": 0.05 if quantized else 1e-5}
                torch.testing.assert_close(ours[key], value, **near, equal_nan=True)
    assert any(key.endswith(".pruned") for key in alone.steps[-1])
    for key, value in alone.report["metrics"].items():
        if key.startswith("eval"):
            assert first.report["metrics"][key] == pytest.approx(value, rel=1e-2), key


@pytest.mark.parametrize("name", RUNS)
def test_one_process_writes_and_speaks(name: str, request: pytest.FixtureRequest) -> None:
    runs = request.getfixturevalue(name)
    (first, second), alone = runs.pair, runs.alone
    assert len(first.written) > 20
    assert [
        entry for entry in second.written if OWN_FILE not in entry and not entry.startswith("os.mkdir")
    ] == []
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
