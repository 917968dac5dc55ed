from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from resparse.magnitude import smallest_entries

# Few distinct values, so that ties are the rule.
arrays = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=1, max_dims=3, max_side=6),
    elements=st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0]),
)
shares = st.floats(0, 1)


@given(st.lists(arrays, min_size=1, max_size=4), shares)
def test_the_selection_is_that_of_a_sort(weights: list[NDArray[np.float32]], share: float) -> None:
    magnitudes = [np.abs(weight) for weight in weights]
    flat = np.concatenate([magnitude.ravel() for magnitude in magnitudes])
    count = round(share * flat.size)
    order = sorted(range(flat.size), key=lambda index: (float(flat[index]), index))
    selected = smallest_entries(magnitudes, count)
    assert [mask.shape for mask in selected] == [magnitude.shape for magnitude in magnitudes]
    together = np.concatenate([mask.ravel() for mask in selected])
    assert set(np.flatnonzero(together)) == set(order[:count])


@pytest.mark.parametrize("count", [-1, 4])
def test_a_count_beyond_the_entries_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=r"count must lie in \[0, 3\]"):
        smallest_entries([np.ones(2), np.ones(1)], count)


def test_of_equal_magnitudes_the_earlier_array_is_selected_first() -> None:
    first, second = smallest_entries([np.array([[2.0, 1.0]]), np.array([1.0, 1.0])], 2)
    assert first.tolist() == [[False, True]]
    assert second.tolist() == [True, False]
