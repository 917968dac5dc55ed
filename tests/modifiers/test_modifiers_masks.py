"""Masks: which weights they take, held at brute force's answers; what they hold; how they are packed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sparseml.modifiers import ModifierError
from sparseml.modifiers.masks import Masks, pack_bits, smallest, smallest_on_device, unpack_bits, zero_where

# Few different values, so that most scores are equal to others.
SCORES = st.lists(
    st.lists(st.sampled_from([-1.0, 0.0, 0.25, 0.5, 3.0]), min_size=1, max_size=12), min_size=1, max_size=4
)


def brute_force(values: list[float], count: int) -> list[bool]:
    """By repeated search for the smallest that is left; the first of equal ones."""
    left, chosen = dict(enumerate(values)), set()
    for _ in range(count):
        index = min(left, key=lambda place: (left[place], place))
        chosen.add(index)
        del left[index]
    return [index in chosen for index in range(len(values))]


def named(values: list[list[float]], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return {f"layer.{index}": torch.tensor(each, dtype=dtype) for index, each in enumerate(values)}


@settings(deadline=None)
@given(SCORES, st.floats(0, 1))
def test_each_tensor_loses_its_own_share(values: list[list[float]], sparsity: float) -> None:
    masks = smallest(named(values), sparsity)
    for mask, each in zip(masks.values(), values, strict=True):
        assert mask.tolist() == brute_force(each, round(sparsity * len(each)))


@settings(deadline=None)
@given(SCORES, st.floats(0, 1))
def test_the_choice_on_an_accelerator_is_that_on_the_cpu(values: list[list[float]], sparsity: float) -> None:
    every = [score for each in values for score in each]
    count = round(sparsity * len(every))
    masks = smallest_on_device([torch.tensor(each) for each in values], count)
    assert [mask.numel() for mask in masks] == [len(each) for each in values]
    assert [flag for mask in masks for flag in mask.tolist()] == brute_force(every, count)


@settings(deadline=None)
@given(SCORES, st.floats(0, 1))
def test_all_tensors_together_lose_one_share(values: list[list[float]], sparsity: float) -> None:
    masks = smallest(named(values), sparsity, together=True)
    every = [score for each in values for score in each]
    got = [flag for mask in masks.values() for flag in mask.tolist()]
    assert got == brute_force(every, round(sparsity * len(every)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("together", [False, True])
def test_masks_have_the_shape_of_their_scores_whatever_their_layout(
    dtype: torch.dtype, together: bool
) -> None:
    """A transposed tensor is counted row by row too, as its mask is."""
    scores = {"a": torch.arange(12.0).reshape(3, 4).to(dtype).T, "b": torch.full((2, 3, 2), 50.0).to(dtype)}
    masks = smallest(scores, 0.5, together)
    assert {name: mask.shape for name, mask in masks.items()} == {"a": (4, 3), "b": (2, 3, 2)}
    taken = {name: int(mask.sum()) for name, mask in masks.items()}
    assert taken == ({"a": 12, "b": 0} if together else {"a": 6, "b": 6})
    if not together:
        assert masks["a"].tolist() == [[value < 6 for value in row] for row in scores["a"].tolist()]
        assert masks["b"].flatten().tolist() == [True] * 6 + [False] * 6


def test_neighbours_in_float64_are_told_apart() -> None:
    scores = torch.tensor([1.0, 1.0 - 1e-12, 1.0 + 1e-12], dtype=torch.float64)
    assert smallest({"w": scores}, 1 / 3)["w"].tolist() == [False, True, False]


def test_masks_that_change_are_held_in_place_of_the_older_ones() -> None:
    layer = nn.Linear(4, 1, bias=False)
    masks = Masks()
    for place in range(4):
        with torch.no_grad():
            layer.weight.fill_(1.0)
        masks.pruned = {"weight": torch.tensor([[index == place for index in range(4)]])}
        masks.hold(dict(layer.named_parameters()), "it")
        layer.zero_grad()
        layer(torch.ones(1, 4)).sum().backward()
        expected = [[float(index != place) for index in range(4)]]
        assert layer.weight.tolist() == layer.weight.grad.tolist() == expected
    masks.release()
    layer.zero_grad()
    layer(torch.ones(1, 4)).sum().backward()
    assert layer.weight.grad.tolist() == [[1.0] * 4]


def test_gradients_of_pruned_weights_may_be_read_before_they_are_zeroed() -> None:
    layer = nn.Linear(4, 1, bias=False)
    masks = Masks()
    masks.pruned = {"weight": torch.tensor([[True, False, False, True]])}
    masks.hold(dict(layer.named_parameters()), "it", hook_gradients=False)
    masks.zero_gradients()  # there are none yet
    layer(torch.ones(1, 4)).sum().backward()
    assert layer.weight.grad.tolist() == [[1.0] * 4]
    assert [weight == 0 for weight in layer.weight[0].tolist()] == [True, False, False, True]
    layer.weight.grad[0, 0] = float("nan")
    masks.zero_gradients()
    assert layer.weight.grad.tolist() == [[0.0, 1.0, 1.0, 0.0]]


def test_masks_told_back_are_those_that_were_saved() -> None:
    masks, again = Masks(), Masks()
    masks.pruned = {
        "a.weight": torch.rand(3, 5) < 0.5,
        "b": torch.rand(7) < 0.5,
        "none": torch.zeros(2, 2, dtype=torch.bool),
    }
    again.load_state({**masks.state(), "score": torch.zeros(3)})
    assert list(again.pruned) == list(masks.pruned)
    assert all(torch.equal(again.pruned[name], mask) for name, mask in masks.pruned.items())


def test_mask_of_another_shape_names_both() -> None:
    masks = Masks()
    masks.pruned = {"weight": torch.ones(2, 4, dtype=torch.bool)}
    with pytest.raises(ModifierError, match=r"it: .*weight has shape \[2, 4\].*\[1, 4\]"):
        masks.hold(dict(nn.Linear(4, 1).named_parameters()), "it")


def test_a_masked_gradient_is_the_gradient_elsewhere() -> None:
    gradient, pruned = torch.randn(50, 40), torch.rand(50, 40) < 0.5
    expected = np.where(pruned.numpy(), np.float32(0), gradient.numpy())
    np.testing.assert_array_equal(zero_where(gradient, pruned).numpy(), expected)


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), max_size=3), st.randoms(use_true_random=False))
def test_bits_round_trip_in_any_shape(shape: list[int], random: Any) -> None:
    count = int(np.prod(shape))
    mask = torch.tensor([random.random() < 0.5 for _ in range(count)]).reshape(shape)
    packed = pack_bits(mask)
    assert packed.dtype == torch.uint8 and packed.shape == (-(-count // 8),)
    assert torch.equal(unpack_bits(packed, tuple(shape)), mask)


def test_the_first_bit_is_the_highest() -> None:
    assert pack_bits(torch.tensor([True] + [False] * 8 + [True])).tolist() == [0b1000_0000, 0b0100_0000]
