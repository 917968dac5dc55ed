"""How the answers of PyTorch and of an export are compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import BertConfig

from resparse.long_texts import LongTexts
from sparseml.export import verify
from sparseml.export.rounding import OtherRounding
from sparseml.export.trace import ExportError
from sparseml.tasks import load_task


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
    pytorch, far = [[1.0, 1.2], [0.0, 3.0]], [[1.0, 1.31], [0.0, 3.0]]
    other = answers(pytorch, [[1.2, 1.0], [0.0, 3.0]])
    with pytest.raises(ExportError, match="1 of 2 rows"):
        other.refuse_mismatch()
    with pytest.raises(ExportError, match="1 of 2 rows"):
        replace(other, rounded=np.array(pytorch, np.float32)).refuse_mismatch()
    # That another row is sensitive to rounding explains nothing.
    elsewhere = np.array([[1.0, 1.2], [0.0, 3.11]], np.float32)
    with pytest.raises(ExportError, match="1 of 2 rows"):
        replace(other, rounded=elsewhere, moved=np.array([0.0, 0.2])).refuse_mismatch()
    explained = replace(other, rounded=np.array(far, np.float32))
    explained.refuse_mismatch()
    replace(other, rounded=elsewhere, moved=np.array([0.2, 0.0])).refuse_mismatch()
    assert explained.facts()["label_agreement"] == 0.5
    assert explained.facts()["near_ties"] == 1
    assert explained.facts()["pytorch_with_other_rounding"]["label_agreement"] == 1


def test_where_every_token_has_a_label_each_counts() -> None:
    """A long text is not wrong as a whole: of its thousand labels one may differ, as of a thousand texts."""
    expected = np.array([[0.0, 0.06]] * 1000, np.float32)
    other = expected.copy()
    other[7] = (0.06, 0.0)
    owner = np.repeat(np.arange(4), 250)
    comparison = replace(
        answers([[0.0, 1.0]] * 4, [[0.0, 1.0]] * 4), expected=expected, actual=other, row_of=owner
    )
    comparison.refuse_mismatch()
    facts = comparison.facts()
    assert (facts["rows"], facts["labels"], facts["label_agreement"]) == (4, 1000, 0.999)
    other[990] = (0.06, 0.0)
    with pytest.raises(ExportError, match="2 of 1,000 tokens of 4 rows"):
        replace(comparison, actual=other).refuse_mismatch()


def test_logits_that_drift_without_changing_labels_are_a_mismatch() -> None:
    drifted = answers([[0.0, 3.0]] * 5, [[0.1, 3.0]] * 5)
    assert drifted.differ
    with pytest.raises(ExportError, match="away from PyTorch's on average"):
        drifted.refuse_mismatch()
    own = np.array([[0.04, 3.0]] * 5, np.float32)
    replace(drifted, rounded=own).refuse_mismatch()


def test_other_rounding_moves_results_by_their_last_digit_and_nothing_else() -> None:
    torch.manual_seed(0)
    left, right, bias = torch.randn(7, 900), torch.randn(5, 900), torch.randn(5)
    heads = torch.randn(3, 1, 2, 9, 8).unbind()
    products = {
        "linear": lambda: F.linear(left, right, bias),
        "matmul": lambda: torch.matmul(left, right.T),
        "@": lambda: left @ right.T,
        "attention": lambda: F.scaled_dot_product_attention(*heads),
        "normalization": lambda: F.layer_norm(left, [900]),
        "gelu": lambda: F.gelu(left),
        "softmax": lambda: left.softmax(-1),
    }
    for name, product in products.items():
        usual = product()
        with OtherRounding(1):
            moved, summed = product(), usual + 1
        with OtherRounding(1):
            again = product()
        with OtherRounding(2):
            otherwise = product()
        size = usual.abs()
        if name in ("linear", "matmul", "@", "attention"):  # the error of a sum is that of its terms
            size = torch.maximum(size, size.amax(dim=-1, keepdim=True) / 8)
        far = (moved.double() - usual.double()) / (size.double() * 2**-23)
        assert 0.4 < (far != 0).double().mean() < 1, name
        assert 0.5 < far.std() < 1.5 and far.abs().max() < 7, name
        assert 0.2 < (far > 0).double().mean() < 0.7, name
        assert torch.equal(moved, again), name
        assert not torch.equal(moved, otherwise), name
        assert torch.equal(summed, usual + 1), name


class Steep(torch.nn.Module):
    """A model whose answers to token 1 hang on the last digit of a product, and to others on the token."""

    config = BertConfig(problem_type="single_label_classification")

    def forward(self, input_ids: torch.Tensor) -> Any:
        product = torch.matmul(input_ids.float(), torch.tensor([[2.0**24]]))
        last_digit = (product - input_ids * 2.0**24).relu()  # only where it is rounded up
        choice = torch.where(input_ids == 1, 0.5 - last_digit, input_ids)
        return {"logits": torch.cat([choice, -choice], dim=1)}


@pytest.mark.parametrize("wrong", [1, 2])
def test_rows_with_another_label_are_computed_again(wrong: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = np.array([1] * 20 + [2, 3, 4])

    def other_runtime(_: Any, feed: dict[str, Any]) -> list[Any]:
        ids = feed["input_ids"].astype(np.float32)
        choice = np.where(ids == 1, 0.5, ids) * np.where(ids == wrong, -1, 1)
        return [np.concatenate([choice, -choice], axis=1)]

    def encode(rows: Any) -> dict[str, torch.Tensor]:
        ids = torch.tensor([[int(row[0])] for row in rows])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    monkeypatch.setattr(verify, "open_session", lambda _: SimpleNamespace(run=other_runtime))
    trained: Any = SimpleNamespace(
        task=load_task(), inputs=["input_ids"], model=Steep(), encode=encode, long_texts=LongTexts()
    )
    comparison = verify.compare(trained, Path("model.onnx"), [(str(token),) for token in tokens])
    assert ((comparison.flips > 0) == (tokens == wrong)).all()
    assert comparison.rounded is not None and comparison.moved is not None
    at_once = (comparison.rounded != comparison.expected).any(axis=1)
    assert 0 < at_once.sum() < 20 and (tokens[at_once] == 1).all()
    assert ((comparison.moved > 0) == ((tokens == 1) & (wrong == 1) & ~at_once)).all()
    if wrong == 1:
        comparison.refuse_mismatch()
    else:
        with pytest.raises(ExportError, match="1 of 23 rows"):
            comparison.refuse_mismatch()
