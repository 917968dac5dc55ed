from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from resparse.magnitude import prune_by_magnitude, smallest_entries
from sparsezoo.pypi import prune_encoder

# Few distinct values, so that ties are the rule.
arrays = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=1, max_dims=3, max_side=6),
    elements=st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0]),
)
shares = st.floats(0, 1)


def by_brute_force(weight: NDArray[np.float32], sparsity: float) -> NDArray[np.float32]:
    order = sorted(range(weight.size), key=lambda index: (abs(float(weight.flat[index])), index))
    pruned = weight.copy()
    for index in order[: round(sparsity * weight.size)]:
        pruned.flat[index] = 0
    return pruned


@given(arrays, shares)
def test_pruning_is_that_of_a_sort(weight: NDArray[np.float32], sparsity: float) -> None:
    before = weight.copy()
    np.testing.assert_array_equal(prune_by_magnitude([weight], sparsity)[0], by_brute_force(weight, sparsity))
    np.testing.assert_array_equal(weight, before)


@given(hnp.arrays(np.float32, (5, 7), elements=st.floats(0.5, 2, width=32)), shares)
def test_the_count_of_zeros_is_exact(weight: NDArray[np.float32], sparsity: float) -> None:
    assert np.count_nonzero(prune_by_magnitude([weight], sparsity)[0] == 0) == round(sparsity * 35)


@pytest.mark.parametrize("sparsity", [-0.1, 1.1, float("nan")])
def test_a_share_outside_zero_to_one_is_refused(sparsity: float) -> None:
    with pytest.raises(ValueError, match="sparsity"):
        prune_by_magnitude([np.ones(3, np.float32)], sparsity)


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_only_the_matrices_of_the_encoder_are_pruned(prefix: str) -> None:
    ones = np.ones((4, 5), np.float32)
    kept = {
        f"{prefix}embeddings.word_embeddings.weight": ones,
        f"{prefix}pooler.dense.weight": ones,
        f"{prefix}encoder.layer.0.output.LayerNorm.weight": np.ones(4, np.float32),
        f"{prefix}encoder.layer.0.output.dense.bias": np.ones(4, np.float32),
        "classifier.weight": ones,
    }
    pruned = {
        f"{prefix}encoder.layer.0.attention.self.query.weight": ones,
        f"{prefix}encoder.layer.11.output.dense.weight": ones,
    }
    done = prune_encoder({**kept, **pruned}, 0.8)
    assert list(done) == [*kept, *pruned]
    assert all(done[name] is tensor for name, tensor in kept.items())
    assert sum(np.count_nonzero(done[name]) for name in pruned) == 8


@given(
    st.lists(hnp.arrays(np.float32, (3, 4), elements=st.floats(-2, 2, width=32)), min_size=1, max_size=4),
    shares,
)
def test_one_threshold_holds_for_all_matrices(weights: list[NDArray[np.float32]], sparsity: float) -> None:
    names = [f"encoder.layer.{index}.attention.self.query.weight" for index in range(len(weights))]
    done = prune_encoder(dict(zip(names, weights, strict=True)), sparsity)
    found = np.concatenate([done[name].ravel() for name in names])
    np.testing.assert_array_equal(
        found, by_brute_force(np.concatenate([w.ravel() for w in weights]), sparsity)
    )


def test_without_an_encoder_nothing_changes() -> None:
    tensors = {"classifier.weight": np.ones((2, 2), np.float32)}
    assert prune_encoder(tensors, 0.5) == tensors


@pytest.mark.parametrize("count", [-1, 4])
def test_a_count_beyond_the_entries_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=r"count must lie in \[0, 3\]"):
        smallest_entries([np.ones(2), np.ones(1)], count)


def test_of_equal_magnitudes_the_earlier_array_is_selected_first() -> None:
    first, second = smallest_entries([np.array([[2.0, 1.0]]), np.array([1.0, 1.0])], 2)
    assert first.tolist() == [[False, True]]
    assert second.tolist() == [True, False]
