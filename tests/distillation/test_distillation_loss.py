"""The distillation loss against its formula in NumPy, and its gradient against differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit, log_softmax, rel_entr, softmax
from torch import Tensor

from sparseml.distillation.loss import distillation_loss
from sparseml.modifiers import Clock, Run
from sparseml.modifiers.distillation import DistillationModifier

KINDS = ["single_label_classification", "multi_label_classification", "regression"]


def logits(seed: int, rows: int = 5, labels: int = 4) -> Tensor:
    return torch.randn(rows, labels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3


def reference(student: NDArray[Any], teacher: NDArray[Any], temperature: float, kind: str) -> float:
    """The loss as the literature writes it, in float64."""
    if kind == "regression":
        return float(((student - teacher) ** 2).mean())
    if kind == "single_label_classification":
        divergences = rel_entr(softmax(teacher / temperature, axis=1), softmax(student / temperature, axis=1))
    else:
        p, q = expit(teacher / temperature), expit(student / temperature)
        divergences = rel_entr(p, q) + rel_entr(1 - p, 1 - q)
    return float(temperature**2 * divergences.sum(axis=1).mean())


@settings(deadline=None)
@given(st.sampled_from(KINDS), st.floats(0.5, 10), st.integers(0, 99), st.integers(100, 199))
def test_it_is_the_formula(kind: str, temperature: float, one: int, other: int) -> None:
    student, teacher = logits(one), logits(other)
    got = distillation_loss(student, teacher, temperature, kind).item()
    assert got == pytest.approx(
        reference(student.numpy(), teacher.numpy(), temperature, kind), rel=1e-4, abs=1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_that_says_what_its_teacher_says_has_nothing_to_learn(kind: str) -> None:
    teacher = logits(0)
    student = teacher.clone().requires_grad_()
    loss = distillation_loss(student, teacher, 2.0, kind)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert student.grad.abs().max() < 1e-5


def test_the_gradient_is_t_times_the_difference_of_the_distributions() -> None:
    teacher, student, temperature = logits(1), logits(2).requires_grad_(), 3.0
    distillation_loss(student, teacher, temperature, KINDS[0]).backward()
    difference = (student.detach() / temperature).softmax(1) - (teacher / temperature).softmax(1)
    torch.testing.assert_close(student.grad, temperature * difference / len(teacher), rtol=1e-4, atol=1e-6)


def test_a_hard_teacher_at_temperature_one_is_cross_entropy() -> None:
    labels = torch.tensor([0, 2, 1, 3, 3])
    teacher = torch.nn.functional.one_hot(labels, 4).double() * 200
    student = logits(3)
    expected = -log_softmax(student.numpy(), axis=1)[np.arange(5), labels.numpy()].mean()
    assert distillation_loss(student, teacher, 1.0, KINDS[0]).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("hardness", [0.0, 0.3, 1.0])
def test_hardness_is_the_teachers_share(hardness: float) -> None:
    student, teacher, task = logits(4), logits(5), torch.tensor(0.7)
    modifier = DistillationModifier(hardness=hardness, temperature=2.0)
    whole = distillation_loss(student, teacher, 2.0, KINDS[0]).item()
    run = Run(torch.nn.Linear(1, 1), Clock(1, 1))
    run.distance = lambda ours, theirs, t: distillation_loss(ours["logits"], theirs["logits"], t, KINDS[0])
    got = modifier.mix_loss(run, task, {"logits": student}, {"logits": teacher}).item()
    assert got == pytest.approx((1 - hardness) * 0.7 + hardness * whole, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_it_is_computed_in_float32(dtype: torch.dtype) -> None:
    student, teacher = logits(6).to(dtype), logits(7).to(dtype)
    got = distillation_loss(student, teacher, 2.0, KINDS[0])
    assert got.dtype == torch.float32
    assert got == distillation_loss(student.float(), teacher.float(), 2.0, KINDS[0])
