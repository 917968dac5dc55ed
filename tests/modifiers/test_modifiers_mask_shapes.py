"""Masks of blocks and of N:M patterns, held against brute force on small matrices."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparseml.modifiers import ModifierError
from sparseml.modifiers.mask_shapes import Group, MaskShape, choose_masks, parse_mask_type

# Few different values, so that most scores are equal to others.
VALUES = st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0])


@st.composite
def matrices(draw: st.DrawFn, rows: int, columns: int, most: int = 3) -> dict[str, Tensor]:
    """Up to `most` matrices of scores whose sides are multiples of `rows` and `columns`."""
    made = {}
    for index in range(draw(st.integers(1, most))):
        height, width = rows * draw(st.integers(1, 3)), columns * draw(st.integers(1, 3))
        flat = draw(st.lists(VALUES, min_size=height * width, max_size=height * width))
        made[f"layer.{index}"] = torch.tensor(flat).reshape(height, width)
    return made


def blocks(name: str, score: Tensor, rows: int, columns: int) -> list[tuple[float, str, int, int]]:
    """(mean, name, row, column) of each block, in memory's order."""
    return [
        (score[row : row + rows, column : column + columns].double().mean().item(), name, row, column)
        for row in range(0, score.shape[0], rows)
        for column in range(0, score.shape[1], columns)
    ]


def brute_force(scores: dict[str, Tensor], groups: list[Group], rows: int, columns: int) -> dict[str, Tensor]:
    masks = {name: torch.zeros_like(score, dtype=torch.bool) for name, score in scores.items()}
    for group in groups:
        every = [block for name in group.names for block in blocks(name, scores[name], rows, columns)]
        order = sorted(range(len(every)), key=lambda place: (every[place][0], place))
        for place in order[: round(group.sparsity * len(every))]:
            _, name, row, column = every[place]
            masks[name][row : row + rows, column : column + columns] = True
    return masks


def each(scores: dict[str, Tensor], sparsity: float) -> list[Group]:
    return [Group((name,), sparsity) for name in scores]


@pytest.mark.parametrize("block", [(1, 1), (1, 4), (2, 2), (3, 1), (4, 2)])
@settings(deadline=None, max_examples=40)
@given(st.data(), st.floats(0, 1), st.booleans())
def test_blocks_of_the_smallest_means_go(
    block: tuple[int, int], data: Any, sparsity: float, together: bool
) -> None:
    scores = data.draw(matrices(*block))
    groups = [Group(tuple(scores), sparsity)] if together else each(scores, sparsity)
    got = choose_masks(scores, groups, parse_mask_type(list(block)))
    expected = brute_force(scores, groups, *block)
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[name], expected[name]) for name in got)


@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(1, 4), st.integers(1, 11), st.floats(0, 1))
def test_block4_has_smaller_blocks_at_the_end_of_a_row(
    data: Any, height: int, width: int, sparsity: float
) -> None:
    flat = data.draw(st.lists(VALUES, min_size=height * width, max_size=height * width))
    scores = {"w": torch.tensor(flat).reshape(height, width)}
    got = choose_masks(scores, each(scores, sparsity), parse_mask_type("block4"))
    assert torch.equal(got["w"], brute_force(scores, each(scores, sparsity), 1, 4)["w"])


def test_a_block_may_be_a_whole_row_or_column() -> None:
    scores = {"w": torch.tensor([[1.0, 9.0], [2.0, 0.0], [5.0, 5.0], [9.0, 9.0]])}
    rows = choose_masks(scores, each(scores, 0.5), parse_mask_type([1, -1]))
    columns = choose_masks(scores, each(scores, 0.5), parse_mask_type([-1, 1]))
    assert rows["w"].all(1).tolist() == [True, True, False, False]
    assert columns["w"].all(0).tolist() == [True, False]


PATTERNS = [(2, 4), (1, 4), (3, 4), (1, 2), (4, 8), (2, 3)]


@pytest.mark.parametrize(("kept", "of"), PATTERNS)
@settings(deadline=None, max_examples=40)
@given(st.data())
def test_of_every_m_inputs_the_n_largest_stay(kept: int, of: int, data: Any) -> None:
    scores = data.draw(matrices(1, of))
    shape = parse_mask_type(f"{kept}:{of}")
    got = choose_masks(scores, each(scores, shape.most), shape)
    for name, score in scores.items():
        for row, column in itertools.product(range(score.shape[0]), range(0, score.shape[1], of)):
            values, mask = score[row, column : column + of].tolist(), got[name][row, column : column + of]
            order = sorted(range(of), key=lambda place: (values[place], place))
            assert mask.nonzero().flatten().tolist() == sorted(order[: of - kept])


@pytest.mark.parametrize(("kept", "of"), PATTERNS)
@settings(deadline=None, max_examples=40)
@given(st.data(), st.floats(0, 1), st.booleans())
def test_on_the_way_to_n_of_m_the_count_is_exact_and_no_group_has_too_few(
    kept: int, of: int, data: Any, part: float, together: bool
) -> None:
    scores, shape = data.draw(matrices(1, of)), parse_mask_type(f"{kept}:{of}")
    sparsity = part * shape.most
    groups = [Group(tuple(scores), sparsity)] if together else each(scores, sparsity)
    got = choose_masks(scores, groups, shape)
    for group in groups:
        size = sum(scores[name].numel() for name in group.names)
        assert sum(int(got[name].sum()) for name in group.names) == round(sparsity * size)
    assert all(mask.reshape(-1, of).sum(1).max() <= of - kept for mask in got.values())


def test_a_rounded_target_is_the_pattern_s_and_more_than_the_pattern_is_not_pruned() -> None:
    assert (
        parse_mask_type("2:3").share(0.33) == pytest.approx(1 / 3)
        and parse_mask_type("2:3").share(0.3) == 0.3
    )
    scores = {"w": torch.rand(5, 9)}
    mask = choose_masks(scores, each(scores, 0.9), parse_mask_type("2:3"))["w"]
    assert mask.reshape(-1, 3).sum(1).tolist() == [1] * 15


TYPES: list[str | list[int]] = ["unstructured", "block4", [2, 4], [4, 1], "2:4", "1:4"]


@pytest.mark.parametrize("mask_type", TYPES, ids=str)
@settings(deadline=None, max_examples=30)
@given(st.data(), st.lists(st.floats(0, 1), min_size=2, max_size=4), st.booleans())
def test_what_is_pruned_stays_so_though_the_scores_change(
    mask_type: str | list[int], data: Any, parts: list[float], together: bool
) -> None:
    shape = parse_mask_type(mask_type)
    scores = data.draw(matrices(4, 4))
    masks: dict[str, Tensor] = {}
    for part in sorted(parts):
        sparsity = part * shape.most
        groups = [Group(tuple(scores), sparsity)] if together else each(scores, sparsity)
        fresh = {name: torch.rand(score.shape) for name, score in scores.items()}
        later = choose_masks(fresh, groups, shape, keep=masks)
        assert all((mask <= later[name]).all() for name, mask in masks.items())
        masks = later


def test_groups_have_targets_of_their_own() -> None:
    scores = {name: torch.rand(10, 10) for name in "abc"}
    masks = choose_masks(scores, [Group(("a", "c"), 0.9), Group(("b",), 0.3)], MaskShape())
    assert int(masks["a"].sum() + masks["c"].sum()) == 180 and int(masks["b"].sum()) == 30


@pytest.mark.parametrize(
    "value", ["4:2", "2:2", "0:4", "blocky", "", "2:4:8", [0, 4], [4], [1, 2, 3], [-2, 1]]
)
def test_no_shape_of_a_mask_is_refused(value: str | list[int]) -> None:
    with pytest.raises(ValueError, match=r"mask|block"):
        parse_mask_type(value)


@pytest.mark.parametrize(("value", "printed"), [("tensorrt", "2:4"), ("block", "block4"), ([3, 2], "[3, 2]")])
def test_a_shape_says_what_it_is(value: str | list[int], printed: str) -> None:
    assert str(parse_mask_type(value)) == printed


@pytest.mark.parametrize(
    ("value", "shape", "fits"),
    [
        ("unstructured", (7,), True),
        ("block4", (3, 7), True),
        ("block4", (8,), False),
        ([2, 4], (6, 8), True),
        ([2, 4], (5, 8), False),
        ([2, 4], (6, 9), False),
        ([1, -1], (5, 7), True),
        ("2:4", (5, 8), True),
        ("2:4", (8, 6), False),
        ("2:4", (2, 2, 4), False),
    ],
)
def test_a_parameter_that_the_shape_does_not_fit_is_named(
    value: str | list[int], shape: tuple[int, ...], fits: bool
) -> None:
    if fits:
        parse_mask_type(value).check("the.weight", shape, "it")
        return
    with pytest.raises(ModifierError, match=r"it: the\.weight has shape \[.*mask_type"):
        parse_mask_type(value).check("the.weight", shape, "it")


def test_a_block_with_a_pruned_weight_goes_first() -> None:
    score = torch.tensor([[-math.inf, 9.0, 1.0, 1.0]])
    assert parse_mask_type([1, 2]).unit_scores(score).tolist() == [[-math.inf, 1.0]]
