"""The small parts of a session: order of rows, batches, the rate as PyTorch's scheduler, damaged files."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import BatchSampler
from transformers import AutoModelForSequenceClassification

from resparse.errors import UserError
from resparse.files import WriteError
from sparseml.modifiers import Clock, build
from sparseml.modifiers.schedule import merge
from sparseml.recipe import load_plan
from sparseml.session import checkpoint
from sparseml.session.callback import RecipeRate
from sparseml.session.models import load_model, load_tokenizer, resolve
from sparseml.session.sampling import LengthGroupedSampler, ShareSampler, by_length
from sparseml.session.sources import ModelError
from sparseml.tasks.text_classification import LabelCollate
from support import tiny

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=300)


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 16), st.integers(0, 2**31), st.integers(0, 20))
def test_every_row_is_drawn_once_in_an_order_of_seed_and_epoch(
    lengths: list[int], batch: int, seed: int, epoch: int
) -> None:
    sampler, again = LengthGroupedSampler(lengths, batch, seed), LengthGroupedSampler(lengths, batch, seed)
    torch.manual_seed(0)
    sampler.set_epoch(epoch)
    drawn = list(sampler)
    torch.manual_seed(1)
    again.set_epoch(epoch)
    assert sorted(drawn) == list(range(len(lengths))) and len(sampler) == len(lengths)
    assert list(again) == drawn == list(sampler)


def test_epochs_differ_and_batches_are_of_like_length() -> None:
    lengths = np.random.default_rng(0).integers(3, 60, 2000).tolist()
    sampler = LengthGroupedSampler(lengths, 16, seed=5)
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    assert orders[0] != orders[1] != orders[2]
    for order in orders:
        padded = sum(
            max(lengths[row] for row in order[i : i + 16]) * len(order[i : i + 16])
            for i in range(0, 2000, 16)
        )
        assert padded < 1.1 * sum(lengths)


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 9), st.integers(1, 5), st.booleans())
def test_processes_share_out_the_batches_of_one(rows: int, batch: int, processes: int, drop: bool) -> None:
    """Every step's rows are those of one process with as many; so are the last ones, in parts of about one size."""
    alone = list(BatchSampler(range(rows), batch * processes, drop))
    samplers = [
        ShareSampler(range(rows), batch, process, processes, drop)  # type: ignore[arg-type]
        for process in range(processes)
    ]
    shares = [list(sampler) for sampler in samplers]
    assert {len(sampler) for sampler in samplers} == {len(own) for own in shares} == {len(alone)}
    for step, parts in zip(alone, zip(*shares, strict=True), strict=True):
        sizes = [len(part) for part in parts]
        assert min(sizes) >= 1 and max(sizes) <= batch and max(sizes) - min(sizes) <= 1
        together = [row for part in parts for row in part]
        assert together == step if len(step) >= processes else set(together) == set(step)


@settings(deadline=None)
@given(LENGTHS)
def test_rows_by_length_and_back(lengths: list[int]) -> None:
    rows = Dataset.from_dict({"length": lengths, "row": list(range(len(lengths)))})
    ordered, order = by_length(rows)
    assert sorted(ordered["length"]) in (list(ordered["length"]), list(ordered["length"])[::-1])
    assert list(ordered["row"]) == list(order)


@pytest.mark.parametrize("as_float", [False, True])
def test_batch_is_padded_to_its_longest_row(as_float: bool) -> None:
    rows: list[dict[str, Any]] = [
        {
            "input_ids": [2, 9, 3],
            "attention_mask": [1] * 3,
            "labels": 1,
            "length": 3,
            "teacher_logits": [0.5, 1],
        },
        {
            "input_ids": [2, 9, 8, 7, 3],
            "attention_mask": [1] * 5,
            "labels": 0,
            "length": 5,
            "teacher_logits": [2, 3],
        },
    ]
    batch = LabelCollate(tiny.tokenizer(), as_float)(rows)
    assert batch["input_ids"].tolist() == [[2, 9, 3, 0, 0], [2, 9, 8, 7, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1] * 5]
    assert batch["labels"].dtype == (torch.float32 if as_float else torch.int64)
    assert batch["teacher_logits"].dtype == torch.float32
    assert batch.keys() == {"input_ids", "attention_mask", "labels", "teacher_logits"}
    assert LabelCollate(tiny.tokenizer(), multiple_of=8)(rows)["input_ids"].shape == (2, 8)


def test_rate_of_each_group_and_of_a_scheduler_that_was_loaded() -> None:
    plan = load_plan(
        "modifiers:\n  - !LearningRateFunctionModifier\n      lr_func: linear\n      init_lr: 0.1\n"
        "      final_lr: 0.0\n      start_epoch: 1\n      end_epoch: 3\n      param_groups: [1]\n"
    )
    schedule, clock = merge(build(plan)), Clock(5, 15)

    def optimizer() -> torch.optim.SGD:
        groups = [{"params": [nn.Parameter(torch.ones(1))]}, {"params": [nn.Parameter(torch.ones(1))]}]
        return torch.optim.SGD(groups, lr=0.02)

    first = optimizer()
    scheduler = RecipeRate(first, schedule, clock)
    rates = []
    for _ in range(15):
        rates.append([group["lr"] for group in first.param_groups])
        first.step()
        scheduler.step()
        if len(rates) == 8:
            kept = scheduler.state_dict()
    assert [rate[0] for rate in rates] == [0.02] * 15
    assert [rate[1] for rate in rates] == pytest.approx(
        [0.02] * 5 + [0.1 * (1 - step / 10) for step in range(10)]
    )
    second = optimizer()
    resumed = RecipeRate(second, schedule, clock)
    resumed.load_state_dict(kept)
    assert [group["lr"] for group in second.param_groups] == rates[8] == resumed.get_last_lr()


@settings(deadline=None)
@given(st.data())
def test_a_cut_safetensors_file_is_damaged_wherever_it_is_cut(data: Any) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_file({"a": torch.arange(30.0), "b": torch.ones(3, 2)}, path)
        whole = path.read_bytes()
        assert checkpoint.damage(path) is None
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        assert checkpoint.damage(path)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        RuntimeError(
            "[enforce fail at inline_container.cc:595] . PytorchStreamWriter failed writing file data/2"
        ),
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 704 vs 598"),
        Exception("No space left on device (os error 28)"),
        Exception("File too large (os error 27)"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_failed_writes_become_one_error(tmp_path: Path, error: Exception) -> None:
    with (
        pytest.raises(WriteError, match=f"Could not write {tmp_path}"),
        checkpoint.clear_write_errors(tmp_path),
    ):
        raise error


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes differ"), UserError("a clear one"), KeyboardInterrupt()]
)
def test_other_errors_pass(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, checkpoint.clear_write_errors(tmp_path):
        raise error
    assert caught.value is error


def finish(folder: Path) -> None:
    """Write what a checkpoint is finished with."""
    folder.mkdir()
    save_file({"weight": torch.zeros(2)}, folder / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({}, folder / name)
    (folder / checkpoint.TRAINER_STATE_FILE).write_text("{}", encoding="utf-8")


def test_replaced_folder_comes_back_when_writing_fails(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-5"
    with checkpoint.replacing(folder):
        finish(folder)
    before = tiny.contents(tmp_path)
    with pytest.raises(KeyboardInterrupt), checkpoint.replacing(folder):
        folder.mkdir()
        (folder / "new").write_text("half", encoding="utf-8")
        raise KeyboardInterrupt
    assert tiny.contents(tmp_path) == before
    with checkpoint.replacing(folder):
        folder.mkdir()
        (folder / "new").write_text("new", encoding="utf-8")
    assert tiny.contents(tmp_path).keys() == {"checkpoint-5", "checkpoint-5/new"}
    with checkpoint.replacing(folder):  # which is not finished, so that nothing is lost with it
        assert list(tmp_path.iterdir()) == []
        folder.mkdir()


@pytest.mark.parametrize(
    ("called", "words"),
    [("./nowhere", "does not exist"), ("a/b/c", "does not exist"), ("{file}", "is a file")],
)
def test_model_that_is_not_there(tmp_path: Path, called: str, words: str) -> None:
    file = tmp_path / "model.safetensors"
    file.touch()
    with pytest.raises(ModelError, match=words):
        resolve(called.format(file=file))


def test_head_is_made_new_and_encoder_is_not(pruned_model: Path, tmp_path: Path) -> None:
    loaded = load_model(resolve(str(pruned_model)), AutoModelForSequenceClassification)
    assert loaded.new == ["classifier.bias", "classifier.weight"]
    assert loaded.notes == ["new, to be trained: classifier"]
    other = tiny.bert(tmp_path / "other", names=["a", "b", "c"])
    tensors = {
        k: v
        for k, v in load_model(resolve(str(other)), AutoModelForSequenceClassification)
        .model.state_dict()
        .items()
        if ".layer.1." not in k
    }
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 16 weights .*layer\.1"):
        load_model(resolve(str(other)), AutoModelForSequenceClassification)


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "tokenizer_config.json"])
def test_model_folder_cut_short(tmp_path: Path, name: str) -> None:
    folder = tiny.bert(tmp_path / "model")
    path = folder / name
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ModelError, match="Could not load"):
        load_tokenizer(resolve(str(folder)))
        load_model(resolve(str(folder)), AutoModelForSequenceClassification)
