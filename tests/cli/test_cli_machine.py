"""Arguments that this machine cannot follow: replaced by what comes nearest, and said."""

from __future__ import annotations

from pathlib import Path

import pytest

from resparse.errors import UserError
from sparseml.options import environment as machine
from sparseml.options.groups import TrainingArguments
from sparseml.training.run import run
from support.arguments import parse


@pytest.mark.parametrize(
    ("device", "bf16_gpu", "asked", "bf16", "fp16", "said"),
    [
        (None, False, "--fp16", True, False, True),
        (None, False, "--bf16", True, False, False),
        (None, False, "--fp16_full_eval", False, False, True),
        ("cuda", True, "--bf16", True, False, False),
        ("cuda", True, "--fp16", False, True, False),
        ("cuda", False, "--bf16", False, True, True),
        ("mps", False, "--fp16", False, True, False),
    ],
)
def test_half_precision_fits_the_machine(
    monkeypatch: pytest.MonkeyPatch,
    device: str | None,
    bf16_gpu: bool,
    asked: str,
    bf16: bool,
    fp16: bool,
    said: bool,
) -> None:
    monkeypatch.setattr(machine, "accelerator", lambda: device)
    monkeypatch.setattr(machine, "is_torch_bf16_gpu_available", lambda: bf16_gpu)
    values = {asked[2:]: True}
    notes = machine.fit(values)
    assert (bool(values.get("bf16")), bool(values.get("fp16"))) == (bf16, fp16)
    assert bool(notes) is said
    assert values.get("use_cpu", False) is (device is None)
    if asked == "--fp16_full_eval":
        assert values["bf16_full_eval"] and not values["fp16_full_eval"]


def test_one_process_uses_one_gpu() -> None:
    training = parse(["--do_train", "--train_file", "a.csv", "--output_dir", "out"]).training
    assert machine.one_device(training) == []
    training._n_gpu = 4
    assert machine.one_device(training) == [
        "One of 4 GPUs is used: `torchrun --nproc_per_node=4 -m ...` uses all of them."
    ]
    assert training.n_gpu == 1


def test_a_guided_run_is_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(TrainingArguments, "world_size", 2)
    with pytest.raises(UserError, match=r"Started as 2 processes.*name the work"):
        run(parse(["--train_file", "a.csv"]))
    assert list(tmp_path.iterdir()) == []


def test_use_cpu_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "accelerator", lambda: "cuda")
    training = parse(
        ["--task_name", "sst2", "--do_train", "--output_dir", "out", "--fp16", "--use_cpu"]
    ).training
    assert training.bf16 and not training.fp16
