"""Learning from a teacher's logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from sparseml.modifiers.base import Modifier

if TYPE_CHECKING:
    import torch


class DistillationModifier(Modifier):
    """Mixes the task's loss with the distance to a teacher's logits: (1 - h) task + h T^2 KL.

    Hinton, Vinyals and Dean 2015, arXiv:1503.02531. The teacher is named on the command line
    (`--distill_teacher`); without one, or with `disable`, the modifier does nothing.
    """

    label = "distillation"

    hardness: float = Field(
        0.5, ge=0, le=1, description="h: share of the teacher in the loss; 1 leaves labels out"
    )
    temperature: float = Field(2.0, gt=0, description="T: softens both distributions")
    distill_output_keys: list[str] | None = Field(
        None, description="model outputs to compare; for classification that is [logits]"
    )
    teacher_input_keys: list[str] | None = Field(
        None, description="accepted; the teacher is given every input that its forward method takes"
    )
    update_frequency: float = Field(-1, description="accepted, without effect")

    def mix(
        self, task_loss: torch.Tensor, student: torch.Tensor, teacher: torch.Tensor, problem_type: str
    ) -> torch.Tensor:
        """The loss to train with, from the task's own loss and both models' logits [batch, labels]."""
        return (1 - self.hardness) * task_loss + self.hardness * distillation_loss(
            student, teacher, self.temperature, problem_type
        )


def distillation_loss(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float, problem_type: str
) -> torch.Tensor:
    """The distance of the student's logits to the teacher's, both [batch, labels]; a scalar, mean over rows.

    - single_label_classification: T^2 KL(softmax(teacher / T) || softmax(student / T)).
    - multi_label_classification: the same with one Bernoulli distribution a label, summed over labels.
    - regression: the mean squared difference; a softmax over one output would say nothing.
    """
    import torch.nn.functional as F

    student, teacher = student.float(), teacher.float()
    if problem_type == "regression":
        return F.mse_loss(student, teacher)
    student, teacher = student / temperature, teacher / temperature
    if problem_type == "multi_label_classification":
        target = teacher.sigmoid()
        entropy = F.binary_cross_entropy_with_logits(teacher, target, reduction="sum")
        crossed = F.binary_cross_entropy_with_logits(student, target, reduction="sum")
        divergence = (crossed - entropy) / student.shape[0]
    else:
        divergence = F.kl_div(
            F.log_softmax(student, dim=-1),
            F.log_softmax(teacher, dim=-1),
            log_target=True,
            reduction="batchmean",
        )
    return temperature**2 * divergence
