"""The mathematics of second-order pruning against explicit inverses, normal equations and brute force."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from sparseml.modifiers.mask_shapes import Group, choose_masks, parse_mask_type
from sparseml.modifiers.second_order import (
    Fisher,
    as_blocks,
    as_tiles,
    dampened,
    from_tiles,
    obs_saliency,
    obs_update,
    output_error,
    prune_columns,
    prune_layer,
    refit,
)
from support.row_pruning import prune_rows

DAMP = 1e-3


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def correlated(columns: int, seed: int = 0) -> Tensor:
    """X Xᵀ of inputs that depend on each other, and some of which are much larger."""
    scale = torch.linspace(0.2, 3, columns, dtype=torch.float64)
    inputs = random(3 * columns, columns, seed=seed) @ random(columns, columns, seed=seed + 1) * scale
    return inputs.T @ inputs


def fisher_of(gradients: Tensor, size: int) -> Fisher:
    fisher = Fisher(gradients.shape[1], size, len(gradients), torch.device("cpu"))
    for gradient in gradients:
        fisher.add(gradient)
    return fisher


@pytest.mark.parametrize("count", [1, 3, 6, 40], ids=lambda count: f"{count} gradients")
def test_the_fisher_inverse_is_the_explicit_one(count: int) -> None:
    """With fewer gradients than a block has weights by Woodbury, else by Cholesky."""
    gradients = random(count, 16)
    inverse = fisher_of(gradients, 6).inverse(DAMP)
    assert inverse.shape == (3, 6, 6)
    blocks = torch.stack([as_blocks(gradient, 6) for gradient in gradients])
    for block in range(3):
        matrix = DAMP * torch.eye(6, dtype=torch.float64) + blocks[:, block].T @ blocks[:, block] / count
        torch.testing.assert_close(inverse[block].double(), matrix.inverse(), rtol=1e-4, atol=1e-4)


def test_fewer_gradients_than_asked_for_are_averaged_over_those_there_are() -> None:
    whole = fisher_of(random(4, 6), 6).inverse(DAMP)
    fisher = Fisher(6, 6, 5, torch.device("cpu"))
    for gradient in random(4, 6):
        fisher.add(gradient)
    torch.testing.assert_close(fisher.inverse(DAMP), whole)


def inverse_of(size: int, blocks: int = 2) -> Tensor:
    return torch.stack([correlated(size, seed).inverse() for seed in range(blocks)])


def solved(weight: Tensor, matrix: Tensor, pruned: Tensor) -> Tensor:
    """Minimizes ½ δᵀ F δ under δ_P = -w_P by its Lagrangian's linear system."""
    size, removed = len(weight), pruned.nonzero()[:, 0]
    select = torch.eye(size, dtype=torch.float64)[removed]
    system = torch.zeros(size + len(removed), size + len(removed), dtype=torch.float64)
    system[:size, :size] = matrix
    system[size:, :size], system[:size, size:] = select, select.T
    known = torch.cat([torch.zeros(size, dtype=torch.float64), -weight[removed]])
    return torch.linalg.solve(system, known)[:size]


@pytest.mark.parametrize("pruned", [[0], [1, 4], [0, 1, 2, 5], [], [0, 1, 2, 3, 4, 5]], ids=str)
def test_the_update_solves_the_constrained_quadratic(pruned: list[int]) -> None:
    inverse, weights = inverse_of(6), random(2, 6)
    mask = torch.zeros(2, 6, dtype=torch.bool)
    mask[0, pruned] = mask[1, 2] = True
    change = obs_update(weights, inverse, mask)
    for block in range(2):
        torch.testing.assert_close(
            change[block], solved(weights[block], inverse[block].inverse(), mask[block])
        )
    assert (weights + change)[mask].abs().max() < 1e-10


@pytest.mark.parametrize("group", [1, 2, 3])
def test_the_saliency_is_the_loss_of_the_update(group: int) -> None:
    inverse, weights = inverse_of(6), random(2, 6)
    saliency = obs_saliency(weights, inverse, group)
    assert saliency.shape == (2, 6 // group)
    for block, unit in itertools.product(range(2), range(6 // group)):
        mask = torch.zeros(6, dtype=torch.bool)
        mask[unit * group : (unit + 1) * group] = True
        matrix = inverse[block].inverse()
        change = solved(weights[block], matrix, mask)
        torch.testing.assert_close(saliency[block, unit], 0.5 * change @ matrix @ change)


@pytest.mark.parametrize("shape", [(4, 8), (5, 7)])
@pytest.mark.parametrize("tile", [(1, 1), (1, 4), (2, 2)])
def test_tiles_are_put_back(shape: tuple[int, int], tile: tuple[int, int]) -> None:
    matrix = random(*shape)
    flat = as_tiles(matrix, *tile)
    assert torch.equal(from_tiles(flat, matrix.shape, *tile), matrix)
    assert flat[: tile[0] * tile[1]].reshape(tile).equal(matrix[: tile[0], : tile[1]])


def brute_force(row: Tensor, hessian: Tensor, count: int) -> tuple[float, tuple[int, ...]]:
    """The least ‖Δw X‖² of all masks with that many pruned weights, each with its least-squares weights."""
    found = []
    for pruned in itertools.combinations(range(len(row)), count):
        mask = torch.zeros(1, len(row), dtype=torch.bool)
        mask[0, list(pruned)] = True
        kept = (~mask[0]).nonzero()[:, 0]
        weights = torch.zeros_like(row)
        weights[kept] = torch.linalg.solve(hessian[kept][:, kept], hessian[kept] @ row)
        torch.testing.assert_close(refit(row.unsqueeze(0), hessian, mask)[0][0], weights)
        found.append((output_error((weights - row).unsqueeze(0), hessian), pruned))
    return min(found)


def test_one_weight_a_row_is_the_best_of_all() -> None:
    weight, hessian = random(5, 7), correlated(7)
    fitted, pruned, costs = prune_rows(weight, hessian, 1)
    for row in range(5):
        least, best = brute_force(weight[row], hessian, 1)
        assert tuple(pruned[row].nonzero()[:, 0].tolist()) == best
        assert output_error((fitted - weight)[row : row + 1], hessian) == pytest.approx(least)
        assert float(costs[row, 0]) == pytest.approx(least)


def test_rows_keep_their_least_squares_weights_at_every_step() -> None:
    weight, hessian = random(4, 8), correlated(8)
    for count in range(9):
        fitted, pruned, costs = prune_rows(weight, hessian, count)
        assert (pruned.sum(1) == count).all() and not fitted[pruned].any()
        torch.testing.assert_close(fitted, refit(weight, hessian, pruned)[0])
        assert output_error(fitted - weight, hessian) == pytest.approx(float(costs.sum()))
        if count < 5:
            for row in range(4):
                own = output_error((fitted - weight)[row : row + 1], hessian)
                assert own >= brute_force(weight[row], hessian, count)[0] * (1 - 1e-9) - 1e-9


@pytest.mark.parametrize("group", [1, 2])
def test_refitting_tells_the_cost_of_removing_one_more(group: int) -> None:
    weight, hessian = random(3, 6), correlated(6)
    pruned = torch.zeros(3, 6, dtype=torch.bool)
    pruned[0, 2:4] = pruned[1, :4] = True
    fitted, costs = refit(weight, hessian, pruned, group)
    for row, column in (~pruned[:, ::group]).nonzero().tolist():
        unit = slice(column * group, (column + 1) * group)
        more = pruned.clone()
        more[row, unit] = True
        rise = output_error(refit(weight, hessian, more)[0] - weight, hessian)
        rise -= output_error(fitted - weight, hessian)
        assert float(costs[row, unit].sum()) == pytest.approx(rise)
    assert not costs[pruned].any()


@pytest.mark.parametrize(("block_size", "group"), [(8, 1), (4, 1), (3, 1), (4, 2), (8, 4)])
def test_columns_make_up_for_those_before_them(block_size: int, group: int) -> None:
    """Removing columns in order, each step minimizes the error over the columns that are still to come."""
    weight, hessian = random(3, 8), correlated(8)
    masks = torch.zeros(3, 8, dtype=torch.bool)
    masks[0, :4] = masks[1, 4:6] = True
    fitted, pruned = prune_columns(
        weight,
        hessian,
        lambda saliency, begin: masks[:, begin : begin + saliency.shape[1]],
        block_size,
        group,
    )
    assert torch.equal(pruned, masks) and not fitted[masks].any()
    # In row 0 the pruned columns come first, so that all kept ones make up for them: the exact solution.
    torch.testing.assert_close(fitted[0], refit(weight, hessian, masks)[0][0])
    expected = weight[1].clone()
    expected[4:] += solved(expected[4:], hessian[4:, 4:], masks[1, 4:])
    torch.testing.assert_close(fitted[1], expected)
    torch.testing.assert_close(fitted[2], weight[2])


@pytest.mark.parametrize("group", [1, 2, 4])
def test_the_saliency_of_columns_is_the_error_of_removing_them(group: int) -> None:
    weight, hessian = random(3, 4), correlated(4)
    seen: list[Tensor] = []

    def choose(saliency: Tensor, begin: int) -> Tensor:
        seen.append(saliency.clone())
        return torch.zeros_like(saliency, dtype=torch.bool)

    prune_columns(weight, hessian, choose, group, group)
    for row, unit in itertools.product(range(3), range(4 // group)):
        begin = unit * group
        mask = torch.zeros(4 - begin, dtype=torch.bool)
        mask[:group] = True
        later = hessian[begin:, begin:]
        change = solved(weight[row, begin:], later, mask)
        assert float(seen[unit][row].sum()) == pytest.approx(float(change @ later @ change))


SHAPES = ["unstructured", "block4", [2, 2], [1, -1], [-1, 1], "2:4", "1:4"]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("hessian", ["correlated", "identity", "singular"])
@pytest.mark.parametrize("steps", [0, 3])
def test_a_layer_is_never_worse_than_by_magnitude_and_exactly_counted(
    shape: str | list[int], hessian: str, steps: int
) -> None:
    parsed = parse_mask_type(shape)
    sparsity = parsed.most if parsed.of else 0.63
    for seed in range(6):
        weight = random(12, 16, seed=seed).float()
        matrix = {
            "correlated": correlated(16, seed),
            "identity": torch.eye(16, dtype=torch.float64),
            "singular": torch.diag(torch.arange(16) % 4 > 0).double() * correlated(16, seed)[0, 0],
        }[hessian]
        fitted, pruned = prune_layer(weight, matrix, sparsity, parsed, block_size=4, steps=steps)
        magnitude = choose_masks({"": weight.abs()}, [Group(("",), sparsity)], parsed)[""]
        assert int(pruned.sum()) == int(magnitude.sum()) and not fitted[pruned].any()
        plain = output_error(weight.masked_fill(magnitude, 0.0) - weight, matrix)
        assert output_error(fitted - weight, matrix) <= plain * (1 + 1e-6)
        if hessian == "correlated":
            assert output_error(fitted - weight, matrix) < 0.9 * plain
        if parsed.of:
            assert ((fitted.reshape(-1, 4) != 0).sum(1) == parsed.kept).all()


def test_exact_costs_are_better_than_a_fixed_order() -> None:
    """On average over layers, and near the exact algorithm by rows."""
    shape = parse_mask_type("unstructured")
    errors = torch.zeros(3)
    for seed in range(8):
        weight, hessian = random(16, 32, seed=seed), correlated(32, seed)
        for index, steps in enumerate((0, 4)):
            fitted, _ = prune_layer(weight, hessian, 0.75, shape, damp=1e-6, block_size=8, steps=steps)
            errors[index] += output_error(fitted - weight, hessian)
        errors[2] += output_error(prune_rows(weight, dampened(hessian, 1e-6), 24)[0] - weight, hessian)
    assert errors[1] < 0.6 * errors[0] and errors[1] < 1.25 * errors[2]


@pytest.mark.parametrize("sparsity", [0.001, 0.999])
def test_none_and_all_of_a_small_layer(sparsity: float) -> None:
    weight = random(4, 8)
    fitted, pruned = prune_layer(weight, correlated(8), sparsity, parse_mask_type("unstructured"))
    assert torch.equal(fitted, weight if sparsity < 0.5 else torch.zeros_like(weight))
    assert bool(pruned.all()) == (sparsity > 0.5)
