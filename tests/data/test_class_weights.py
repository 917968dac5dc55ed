"""Weights of classes, and the loss with them: against PyTorch, scikit-learn and the definitions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight

from resparse.errors import UserError
from sparseml.class_loss import class_loss
from sparseml.class_weights import choose, class_weights
from sparseml.data.label_encoding import MULTI, REGRESSION, SINGLE, Labels

NAMES = ("anger", "joy", "optimism")
LABELS = Labels(SINGLE, NAMES)
TRUTH = np.array([0] * 30 + [1] * 15 + [2] * 5)


def logits(rows: int, labels: int = 3, scale: float = 2.0) -> torch.Tensor:
    torch.manual_seed(0)
    return (scale * torch.randn(rows, labels)).requires_grad_()


def test_balanced_is_as_scikit_learn_has_it() -> None:
    expected = compute_class_weight("balanced", classes=np.arange(3), y=TRUTH)
    found = class_weights("balanced", LABELS, TRUTH)
    assert found == pytest.approx(expected)
    assert found[TRUTH].mean() == pytest.approx(1)
    assert class_weights("none", LABELS, TRUTH) is None and class_weights(None, LABELS, TRUTH) is None


def test_a_class_without_rows_counts_for_nothing() -> None:
    found = class_weights("balanced", Labels(SINGLE, (*NAMES, "fear")), TRUTH)
    assert found == pytest.approx([*compute_class_weight("balanced", classes=np.arange(3), y=TRUTH), 1])


def test_of_several_labels_it_is_the_others_for_each_of_its_own() -> None:
    truth = np.eye(3)[TRUTH]
    assert class_weights("balanced", Labels(MULTI, NAMES), truth) == pytest.approx([20 / 30, 35 / 15, 45 / 5])


def test_a_file_says_how_they_stand_to_each_other(tmp_path: Path) -> None:
    path = tmp_path / "weights.json"
    path.write_text(json.dumps({"optimism": 8, "joy": 2}))
    found = class_weights(str(path), LABELS, TRUTH)
    assert found / found[0] == pytest.approx([1, 2, 8]) and found[TRUTH].mean() == pytest.approx(1)
    several = class_weights(str(path), Labels(MULTI, NAMES), np.eye(3)[TRUTH])
    assert several == pytest.approx([1, 2, 8])  # as PyTorch's pos_weight, which is no share


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"optimsm": 2}', "Did you mean 'optimism'"),
        ('{"joy": 0}', "a weight is a number above 0"),
        ('{"joy": "2"}', "a weight is a number above 0"),
        ("[1, 2, 3]", "an object of classes"),
        ("{", "not JSON"),
    ],
)
def test_a_file_that_makes_no_sense(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "weights.json"
    path.write_text(text)
    with pytest.raises(UserError, match=says):
        class_weights(str(path), LABELS, TRUTH)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(UserError, match=r"balancd is neither balanced nor none, nor a file"):
        class_weights("balancd", LABELS, TRUTH)


def test_a_guided_run_weights_where_a_class_is_rare() -> None:
    assert choose(LABELS, TRUTH)[0] == "balanced" and "optimism 5" in str(choose(LABELS, TRUTH)[1])
    assert choose(LABELS, TRUTH[:45]) == ("none", None)  # a class without rows is a mistake, not rare
    assert choose(Labels(SINGLE, NAMES[:2]), TRUTH[:45]) == ("none", None)  # twice as many
    assert choose(Labels(MULTI, NAMES), np.eye(3)[TRUTH]) == ("none", None)


def test_without_weights_it_is_cross_entropy() -> None:
    given, truth = logits(50), torch.tensor(TRUTH)
    assert class_loss(given, truth, SINGLE, None, 0).item() == pytest.approx(
        F.cross_entropy(given, truth).item()
    )
    flags = torch.eye(3)[truth]
    assert class_loss(given, flags, MULTI, None, 0).item() == pytest.approx(
        F.binary_cross_entropy_with_logits(given, flags).item()
    )


def test_weights_are_pytorchs_but_for_the_divisor() -> None:
    given, truth = logits(50), torch.tensor(TRUTH)
    weights = torch.tensor([0.5, 1.0, 4.0])
    expected = F.cross_entropy(given, truth, weight=weights, reduction="none").mean()
    assert class_loss(given, truth, SINGLE, weights, 0).item() == pytest.approx(expected.item())
    flags = torch.eye(3)[truth]
    several = F.binary_cross_entropy_with_logits(given, flags, pos_weight=weights)
    assert class_loss(given, flags, MULTI, weights, 0).item() == pytest.approx(several.item())


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_loss_is_the_papers(gamma: float) -> None:
    given, truth = logits(50), torch.tensor(TRUTH)
    weights = torch.tensor([0.5, 1.0, 4.0])
    p = given.softmax(-1)[torch.arange(50), truth]
    expected = (-weights[truth] * (1 - p) ** gamma * p.log()).mean()
    assert class_loss(given, truth, SINGLE, weights, gamma).item() == pytest.approx(expected.item(), rel=1e-5)
    flags = torch.eye(3)[truth]
    share = given.sigmoid()
    yes, no = flags * (1 - share) ** gamma * share.log(), (1 - flags) * share**gamma * (1 - share).log()
    found = class_loss(given, flags, MULTI, weights, gamma)
    assert found.item() == pytest.approx(-(weights * yes + no).mean().item(), rel=1e-5)


@pytest.mark.parametrize("kind", [SINGLE, MULTI])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_gradients_stay_finite_where_it_is_certain(kind: str, gamma: float) -> None:
    given = logits(50, scale=1e4)
    truth = given.detach().argmax(1)
    class_loss(given, truth if kind == SINGLE else torch.eye(3)[truth], kind, None, gamma).backward()
    assert given.grad is not None and bool(torch.isfinite(given.grad).all())


def test_parts_of_a_batch_add_up_to_it() -> None:
    """Gradient accumulation, and a batch of one class: PyTorch's divisor would take the weights out again."""
    given, truth = logits(50), torch.tensor(TRUTH)
    weights = torch.tensor([0.5, 1.0, 4.0])
    parts = [class_loss(given[at : at + 5], truth[at : at + 5], SINGLE, weights, 2) for at in range(0, 50, 5)]
    whole = class_loss(given, truth, SINGLE, weights, 2)
    assert torch.stack(parts).mean().item() == pytest.approx(whole.item(), rel=1e-5)


def test_scores_have_no_classes(tmp_path: Path) -> None:
    from sparseml.tasks import load_task

    task, asked = load_task(), load_task().arguments(class_weights="balanced")
    assert task.loss(None, Labels(REGRESSION, ("score",)), asked) is None  # type: ignore[arg-type]
