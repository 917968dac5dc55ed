"""A quantizer that several layers share: its memo of what it computed last, and when it lets go of that."""

from __future__ import annotations

import copy
import pickle
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparseml.quantization.fake_quantize import FakeQuantize
from sparseml.quantization.scheme import TensorScheme

UNSIGNED = TensorScheme(symmetric=False)


def enabled(sharers: int = 1) -> FakeQuantize:
    quantizer = FakeQuantize(UNSIGNED)
    quantizer.enabled, quantizer.sharers = True, sharers
    return quantizer


class Counting(FakeQuantize):
    """Counts how often it rounds."""

    rounded = 0

    def round(self, x: Tensor) -> Tensor:
        self.rounded += 1
        return super().round(x)


def shared(sharers: int = 3) -> Counting:
    quantizer = Counting(UNSIGNED)
    quantizer.enabled, quantizer.sharers = True, sharers
    return quantizer


def test_a_shared_quantizer_computes_once_a_tensor_and_its_gradient_is_the_sum() -> None:
    x, weights = torch.randn(4, 6, requires_grad=True), torch.randn(3, 6, 5)
    quantizer = shared()
    torch.stack([quantizer(x) @ weight for weight in weights]).square().sum().backward()
    assert quantizer.rounded == 1

    apart = x.detach().clone().requires_grad_()
    held = [enabled() for _ in weights]
    torch.stack(
        [each(apart) @ weight for each, weight in zip(held, weights, strict=True)]
    ).square().sum().backward()
    torch.testing.assert_close(x.grad, apart.grad)


def test_a_shared_quantizer_moves_its_range_once_a_tensor() -> None:
    quantizer = shared()
    for highest in (1.0, 2.0):
        x = torch.tensor([0.0, highest])
        for _ in range(3):
            quantizer(x)  # nobody keeps the result, as when autocast copies it to another type
    assert quantizer.maximum.item() == pytest.approx(1.01)
    assert quantizer.rounded == 2


def test_after_the_last_that_shares_it_the_result_is_let_go_of() -> None:
    quantizer, x = shared(), torch.randn(3)
    result = weakref.ref(quantizer(x))
    assert result() is quantizer(x)
    quantizer(x)
    assert result() is None


def test_an_unshared_quantizer_remembers_nothing() -> None:
    quantizer, x = enabled().eval(), torch.tensor([0.2, 0.9])
    first = quantizer(x)
    quantizer.scale.fill_(0.3)
    assert not torch.equal(quantizer(x), first)


def test_a_tensor_that_was_changed_in_place_is_quantized_anew() -> None:
    quantizer, x = shared().eval(), torch.tensor([0.2, 0.9])
    first = quantizer(x).clone()
    x.mul_(100)
    assert not torch.equal(quantizer(x), first) and quantizer.rounded == 2


def test_a_result_without_gradient_is_not_reused_where_one_is_wanted() -> None:
    quantizer, x = shared(), torch.tensor([0.2, 0.9], requires_grad=True)
    with torch.no_grad():
        assert not quantizer(x).requires_grad
    assert quantizer(x).requires_grad


def test_another_tensor_takes_the_memos_place() -> None:
    quantizer = shared().eval()
    first, second = torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0])
    quantizer(first)
    kept = quantizer(second)
    assert quantizer(second) is kept and quantizer.rounded == 2


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))], ids=["copy", "pickle"]
)
def test_a_quantizer_in_use_can_be_copied_and_pickled(again: Any) -> None:
    module = nn.Sequential(nn.Linear(3, 2))
    module.add_module("quantizer", enabled(sharers=3))
    x = torch.randn(4, 3)
    kept = module.quantizer(x)
    other = again(module)
    assert torch.equal(other.quantizer.eval()(x), kept)
    assert other.quantizer.enabled and other.quantizer.scale == module.quantizer.scale
