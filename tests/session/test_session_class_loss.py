"""The task's own loss under a recipe: in the place of the model's, mixed with a teacher's, and when evaluated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sparseml.class_loss import ClassLoss, class_loss
from sparseml.distillation.loss import distillation_loss
from sparseml.session.trainer import RecipeTrainer
from support.trainers import classifier, dataset, trainer

pytestmark = pytest.mark.usefixtures("one_thread")

WEIGHTS = np.array([0.5, 1.0, 4.0])
GAMMA = 2.0
KINDS = ["single_label_classification", "multi_label_classification"]
DISTILLING = "modifiers:\n  - !DistillationModifier\n      hardness: 0.6\n      temperature: 3.0\n"


def made(folder: Path, kind: str, recipe: str | None, **more: object) -> RecipeTrainer:
    built = trainer(
        folder,
        recipe,
        kind,
        model=classifier(kind),
        train_dataset=dataset(kind, teacher=recipe is not None),
        **more,
    )
    built._task_loss = ClassLoss(kind, WEIGHTS, GAMMA)  # type: ignore[arg-type]
    return built


def batch(of: RecipeTrainer) -> dict[str, Tensor]:
    return of.data_collator([of.train_dataset[index] for index in range(8)])


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_tasks_part_of_the_mixture(tmp_path: Path, kind: str) -> None:
    """(1 - h) task + h distance, in which the distance knows no weights."""
    of = made(tmp_path, kind, DISTILLING)
    inputs = batch(of)
    teacher = inputs["teacher_logits"]
    of.model.train()
    assert of.session is not None
    of.session.begin(of.clock(), 0, None)
    loss, outputs = of.compute_loss(of.model, dict(inputs), return_outputs=True)
    own = class_loss(
        outputs["logits"], inputs["labels"], kind, torch.tensor(WEIGHTS, dtype=torch.float32), GAMMA
    )
    distance = distillation_loss(outputs["logits"], teacher, 3.0, kind)
    assert loss.item() == pytest.approx((0.4 * own + 0.6 * distance).item(), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_logs_and_evaluates_it(tmp_path: Path, kind: str) -> None:
    of = made(tmp_path, kind, None, eval_dataset=dataset(kind), learning_rate=0.0, num_train_epochs=1)
    of.train()
    with torch.no_grad():
        expected = []
        for start in range(0, 32, 8):
            inputs = of.data_collator([of.train_dataset[index] for index in range(start, start + 8)])
            logits = of.model(**{key: value for key, value in inputs.items() if key != "labels"})["logits"]
            weights = torch.tensor(WEIGHTS, dtype=torch.float32)
            expected.append(class_loss(logits, inputs["labels"], kind, weights, GAMMA).item())
    assert of.evaluate()["eval_loss"] == pytest.approx(np.mean(expected), rel=1e-5)
    logged = [entry["loss"] for entry in of.state.log_history if "loss" in entry]
    assert np.mean(logged) == pytest.approx(np.mean(expected), rel=1e-3)
