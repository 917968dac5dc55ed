"""The loss under a recipe: the task's, the distillation's, their mixture, and its gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from transformers import TrainerCallback

from sparseml.session.trainer import RecipeTrainer
from sparseml.tasks.text_classification import LabelCollate
from support import tiny
from support.tiny import train
from support.trainers import ROWS, classifier, dataset, trainer

pytestmark = pytest.mark.usefixtures("one_thread")

HARDNESS, TEMPERATURE = 0.6, 3.0


def distilling(hardness: float = HARDNESS, temperature: float = TEMPERATURE) -> str:
    return f"modifiers:\n  - !DistillationModifier\n      hardness: {hardness}\n      temperature: {temperature}\n"


def first_batch(made: RecipeTrainer) -> dict[str, Tensor]:
    return made.data_collator([made.train_dataset[index] for index in range(8)])


def reference_task_loss(kind: str, logits: Tensor, labels: Tensor) -> Tensor:
    if kind == "regression":
        return ((logits[:, 0] - labels) ** 2).mean()
    if kind == "multi_label_classification":
        return F.binary_cross_entropy_with_logits(logits, labels)
    return F.cross_entropy(logits, labels)


def reference_distance(kind: str, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """From the definitions, with probabilities in float64."""
    student, teacher = student.double(), teacher.double()
    if kind == "regression":
        return ((student - teacher) ** 2).mean()
    if kind == "multi_label_classification":
        p, q = (teacher / temperature).sigmoid(), (student / temperature).sigmoid()
        each = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    else:
        p, q = (teacher / temperature).softmax(-1), (student / temperature).softmax(-1)
        each = p * (p / q).log()
    return temperature**2 * each.sum(-1).mean()


KINDS = ["single_label_classification", "multi_label_classification", "regression"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hardness", [0.0, 0.3, 1.0])
def test_loss_is_the_mixture(tmp_path: Path, kind: str, hardness: float) -> None:
    made = trainer(tmp_path, distilling(hardness), kind, train_dataset=dataset(kind, teacher=True))
    assert made.session is not None
    made.session.begin(made.clock(), 0, None)
    batch = first_batch(made)
    made.model.train()
    with torch.no_grad():
        logits = made.model(**{key: batch[key] for key in ("input_ids", "attention_mask")}).logits
    task = reference_task_loss(kind, logits, batch["labels"])
    distance = reference_distance(kind, logits, batch["teacher_logits"], TEMPERATURE)
    loss = made.compute_loss(made.model, dict(batch))
    assert float(loss.detach()) == pytest.approx(float((1 - hardness) * task + hardness * distance), rel=1e-5)


def test_full_hardness_ignores_labels(tmp_path: Path) -> None:
    """Random labels in place of the right ones: the same weights come out."""
    rows = dataset(teacher=True)
    other = rows.remove_columns("labels").add_column("labels", [0] * ROWS)
    ends = []
    for number, given in enumerate((rows, other)):
        made = trainer(tmp_path / str(number), distilling(1.0), train_dataset=given)
        made.train()
        ends.append(made.model.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_evaluation_loss_is_the_task_loss(tmp_path: Path) -> None:
    """Scores compare models that were trained with and without a teacher."""
    rows = dataset(teacher=True)
    made = trainer(tmp_path, distilling(), eval_dataset=rows)
    assert made.session is not None
    made.session.begin(made.clock(), 0, None)
    plain = trainer(tmp_path, None, eval_dataset=rows.remove_columns("teacher_logits"))
    assert made.evaluate()["eval_loss"] == pytest.approx(plain.evaluate()["eval_loss"], rel=1e-6)


def test_live_teacher_and_its_logits_beforehand_train_alike(tmp_path: Path) -> None:
    torch.manual_seed(7)
    teacher = classifier().eval()
    rows = dataset()
    batch = LabelCollate(tiny.tokenizer())([rows[index] for index in range(ROWS)])
    with torch.no_grad():
        logits = teacher(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    beforehand = trainer(
        tmp_path / "beforehand",
        distilling(),
        train_dataset=rows.add_column("teacher_logits", logits.tolist()),
        train_sampling_strategy="sequential",
    )
    live = trainer(tmp_path / "live", distilling(), teacher=teacher, train_sampling_strategy="sequential")
    beforehand.train()
    live.train()
    for (name, ours), theirs in zip(
        beforehand.model.named_parameters(), live.model.parameters(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4, msg=name)


class Gradients(TrainerCallback):
    """Keeps the gradients of each optimizer step, before clipping could be told from them."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Tensor]] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self.steps.append(
            {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        )


@pytest.mark.parametrize("kind", KINDS)
def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path: Path, kind: str) -> None:
    kept = []
    for size, accumulate in ((32, 1), (8, 4)):
        gradients = Gradients()
        trainer(
            tmp_path / str(size),
            distilling(),
            kind,
            train_dataset=dataset(kind, teacher=True),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulate,
            train_sampling_strategy="sequential",
            max_grad_norm=0.0,
            callbacks=[gradients],
        ).train()
        kept.append(gradients.steps)
    assert [len(steps) for steps in kept] == [1, 1]
    for name, whole in kept[0][0].items():
        torch.testing.assert_close(kept[1][0][name], whole, rtol=1e-4, atol=1e-6)


def test_distillation_of_the_whole_command_uses_the_teacher(rows_folder: Path, tmp_path: Path) -> None:
    start = tiny.bert(tmp_path / "start", names=["negative", "positive"])
    train(
        start,
        rows_folder,
        tmp_path / "self",
        recipe=tiny.RECIPE + tiny.DISTILLATION,
        distill_teacher="self",
    )
    train(
        start,
        rows_folder,
        tmp_path / "none",
        recipe=tiny.RECIPE + tiny.DISTILLATION,
        distill_teacher="disable",
    )
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("self", "none"))
    assert any(not torch.equal(ours[name], theirs[name]) for name in ours)
