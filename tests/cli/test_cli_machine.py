"""Arguments that this machine cannot follow: replaced by what comes nearest, and said."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from resparse.errors import UserError
from sparseml import processes
from sparseml.guided.choices import fit
from sparseml.options import environment as machine
from sparseml.options.groups import TrainingArguments
from sparseml.session.distributed import one_device
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
    assert one_device(training) == []
    training._n_gpu = 4
    assert one_device(training) == [
        "One of 4 GPUs is used: `torchrun --nproc_per_node=4 -m ...` uses all of them."
    ]
    assert training.n_gpu == 1


def test_guided_processes_share_the_rows_that_one_would_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch that is chosen is of all processes; given, it is of one."""
    data = SimpleNamespace(train=range(5000))
    prepared = SimpleNamespace(data=data, labels=None)
    prepared.loaded = SimpleNamespace(model=SimpleNamespace(config=None), new=[])
    prepared.task = SimpleNamespace(choose=lambda *_: [], initialize_head=lambda *_: False)
    prepared.tokenizer = SimpleNamespace(model_max_length=512)
    words = ["--train_file", "a.csv", "--output_dir", "out"]

    def rows_of_a_step(processes: int, *more: str) -> int:
        monkeypatch.setattr(TrainingArguments, "world_size", processes)
        arguments = parse([*words, *more])
        assert arguments.guided is not None
        fit(arguments.guided, arguments.training, arguments.data, prepared)
        return arguments.training.per_device_train_batch_size * processes

    assert rows_of_a_step(2) == rows_of_a_step(1) > 1
    assert rows_of_a_step(2, "--per_device_train_batch_size", "3") == 6


@pytest.mark.parametrize("launched", [False, True])
def test_sharding_is_refused_with_what_serves_instead(
    monkeypatch: pytest.MonkeyPatch, launched: bool
) -> None:
    words = ["--do_train", "--train_file", "a.csv", "--output_dir", "out"]
    if launched:
        monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match=r"fsdp would cut each parameter.*torchrun --nproc_per_node"):
        parse([*words, *([] if launched else ["--fsdp", "full_shard"])])


def test_one_process_in_place_of_several_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """`accelerate launch --cpu --num_processes 2` starts one, and these are its variables."""
    for name in ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    assert machine.alone_after_all() == []
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    (note,) = machine.alone_after_all()
    assert "started one process" in note and "torchrun" in note
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    assert machine.alone_after_all() == []
    assert processes.started_as_several()


def test_use_cpu_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "accelerator", lambda: "cuda")
    training = parse(
        ["--task_name", "sst2", "--do_train", "--output_dir", "out", "--fp16", "--use_cpu"]
    ).training
    assert training.bf16 and not training.fp16
