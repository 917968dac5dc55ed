"""Knowledge distillation: learning from a teacher's outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from sparseml.modifiers.base import Modifier, ModifierError, Outputs, Run, without_effect

if TYPE_CHECKING:
    import torch


class DistillationModifier(Modifier):
    """Mixes the task's loss with the distance to a teacher's logits: (1 - h) task + h T^2 KL.

    Hinton, Vinyals and Dean 2015, arXiv:1503.02531. The teacher is named on the command line
    (`--distill_teacher`); without one, or with `disable`, the modifier does nothing.
    """

    label = "distillation"
    needs_teacher = True

    hardness: float = Field(
        0.5, ge=0, le=1, description="h: share of the teacher in the loss; 1 leaves labels out"
    )
    temperature: float = Field(2.0, gt=0, description="T: softens both distributions")
    distill_output_keys: list[str] | None = Field(
        None, description="model outputs to compare; for classification that is [logits]"
    )
    teacher_input_keys: list[str] | None = without_effect(
        None, "the teacher is given every input that its forward method takes"
    )
    update_frequency: float = without_effect(-1)

    def mix_loss(
        self, run: Run, loss: torch.Tensor, outputs: Outputs, teacher_outputs: Outputs
    ) -> torch.Tensor:
        if not teacher_outputs:
            return loss
        if run.distance is None:
            raise ModifierError(
                f"{self.name} needs the distance of two models' outputs, as the task defines it."
            )
        return (1 - self.hardness) * loss + self.hardness * run.distance(
            outputs, teacher_outputs, self.temperature, run.batch
        )

    def conflicts_with(self, other: Modifier) -> str | None:
        if isinstance(other, DistillationModifier) and self.overlaps(other):
            return f"{self.name} and the one in line {other.place[1]} both distil at the same time: keep one."
        return None
