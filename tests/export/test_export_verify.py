"""How the answers of PyTorch and of an export are compared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sparseml.export import verify
from sparseml.export.trace import ExportError


def answers(expected: Any, got: Any, kind: str = "single_label_classification") -> verify.Comparison:
    logits = np.array(expected, np.float32), np.array(got, np.float32)
    return verify.Comparison(*logits, [("row",)] * len(logits[0]), kind)


def test_a_tie_is_no_mismatch_and_another_label_is() -> None:
    answers([[1.0, 1.01]], [[1.01, 1.0]]).refuse_mismatch()
    with pytest.raises(ExportError, match="1 of 1 rows"):
        answers([[1.0, 2.0]], [[2.0, 1.0]]).refuse_mismatch()
    with pytest.raises(ExportError, match="1 of 1 rows"):
        answers([[1.0, 2.0]], [[1.0, -2.0]], "multi_label_classification").refuse_mismatch()
    with pytest.raises(ExportError, match="1 of 1 rows"):
        answers([[1.0]], [[2.0]], "regression").refuse_mismatch()
    with pytest.raises(ExportError, match="not finite"):
        answers([[1.0, 2.0]], [[np.nan, 2.0]]).refuse_mismatch()


def test_one_row_in_a_thousand_may_differ_and_two_may_not() -> None:
    expected = [[0.0, 1.0]] * 1000
    answers(expected, [[1.0, 0.0], *expected[1:]]).refuse_mismatch()
    with pytest.raises(ExportError):
        answers(expected, [[1.0, 0.0]] * 2 + expected[2:]).refuse_mismatch()


def test_labels_may_differ_as_far_as_pytorch_differs_from_itself() -> None:
    pytorch, far = [[1.0, 1.2], [0.0, 3.0]], [[1.0, 1.2], [0.0, 3.11]]
    other = answers(pytorch, [[1.2, 1.0], [0.0, 3.0]])
    with pytest.raises(ExportError, match="1 of 2 rows"):
        other.refuse_mismatch()
    with pytest.raises(ExportError, match="1 of 2 rows"):
        replace(other, exact=np.array(pytorch, np.float32)).refuse_mismatch()
    explained = replace(other, exact=np.array(far, np.float32))
    explained.refuse_mismatch()
    assert explained.facts()["label_agreement"] == 0.5
    assert explained.facts()["near_ties"] == 1
    assert explained.facts()["pytorch_against_its_float64_sums"]["label_agreement"] == 1


def test_logits_that_drift_without_changing_labels_are_a_mismatch() -> None:
    drifted = answers([[0.0, 3.0]] * 5, [[0.1, 3.0]] * 5)
    assert drifted.differ
    with pytest.raises(ExportError, match="away from PyTorch's on average"):
        drifted.refuse_mismatch()
    own = np.array([[0.04, 3.0]] * 5, np.float32)
    replace(drifted, exact=own).refuse_mismatch()


def test_exact_sums_are_those_of_float64() -> None:
    torch.manual_seed(0)
    left, right, bias = torch.randn(7, 900), torch.randn(5, 900), torch.randn(5)
    wanted = (left.double() @ right.double().T + bias.double()).float()
    heads = torch.randn(3, 1, 2, 9, 8).unbind()
    attended = F.scaled_dot_product_attention(*(head.double() for head in heads)).float()
    with verify.ExactSums():
        assert torch.equal(F.linear(left, right, bias), wanted)
        assert torch.equal(torch.matmul(left, right.T), (left.double() @ right.double().T).float())
        assert torch.equal(left @ right.T, torch.matmul(left, right.T))
        assert torch.equal(F.scaled_dot_product_attention(*heads), attended)
    assert not torch.equal(F.linear(left, right, bias), wanted)
