"""The distance of a classifier's logits to its teacher's, for distillation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float, problem_type: str) -> Tensor:
    """The distance of the student's logits to the teacher's, both [batch, labels]; a scalar, mean over rows.

    Hinton, Vinyals and Dean 2015, arXiv:1503.02531.

    - single_label_classification: T^2 KL(softmax(teacher / T) || softmax(student / T)).
    - multi_label_classification: the same with one Bernoulli distribution a label, summed over labels.
    - regression: the mean squared difference; a softmax over one output would say nothing.
    """
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
