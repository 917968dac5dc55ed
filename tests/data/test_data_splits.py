"""The splits of a run, with targets of any form: rows held out and sampled, in proportion and reproducibly."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparseml.data import DataError, DataOptions
from sparseml.data.rows import Places, RawSplit
from sparseml.data.splits import (
    PreparedSplit,
    default_validation_ratio,
    hold_out_indices,
    hold_out_rows,
    limit_rows,
    read_splits,
    sample_indices,
)

GROUPS = st.lists(st.integers(0, 5), min_size=2, max_size=200)
RATIOS = st.floats(0.01, 0.99)
SEEDS = st.integers(0, 2**32)


@given(GROUPS, RATIOS, SEEDS, st.booleans())
def test_hold_out_is_a_partition(groups: list[int], ratio: float, seed: int, stratified: bool):
    kept, held = hold_out_indices(groups if stratified else None, len(groups), ratio, seed)
    assert sorted([*kept, *held]) == list(range(len(groups)))
    assert list(kept) == sorted(kept)
    assert list(held) == sorted(held)
    again = hold_out_indices(groups if stratified else None, len(groups), ratio, seed)
    assert np.array_equal(held, again[1])


@given(GROUPS, RATIOS, SEEDS, st.booleans())
def test_rows_that_belong_together_stay_so(groups: list[int], ratio: float, seed: int, stratified: bool):
    """Of rows without any that are alike, the held ones are those of `hold_out_indices`."""
    options = DataOptions(train_file="rows.csv", validation_ratio=ratio, seed=seed)
    classes = [group % 2 for group in groups] if stratified else None
    for texts in ([str(group) for group in groups], [str(row) for row in range(len(groups))]):
        rows = RawSplit(
            "rows", {"text": texts, "row": list(range(len(groups)))}, Places.of("rows", "line", groups)
        )
        try:
            splits = hold_out_rows({"train": PreparedSplit(rows, None, classes)}, options, [], ["text"])
        except DataError:
            assert len({*texts}) == 1 or stratified
            continue
        train, held = (splits[role].rows.columns for role in ("train", "validation"))
        assert sorted([*train["row"], *held["row"]]) == list(range(len(groups)))
        assert not {*train["text"]} & {*held["text"]}
    if stratified and not len(hold_out_indices(classes, len(groups), ratio, seed)[1]):
        return
    assert list(held["row"]) == list(hold_out_indices(classes, len(groups), ratio, seed)[1])


@given(GROUPS, RATIOS, SEEDS)
def test_every_class_is_trained(groups: list[int], ratio: float, seed: int):
    kept, _ = hold_out_indices(groups, len(groups), ratio, seed)
    assert {groups[row] for row in kept} == set(groups)


@given(st.lists(st.integers(0, 5), min_size=2, max_size=200), st.data(), SEEDS)
def test_choice_keeps_proportions_to_within_a_row(groups: list[int], data: st.DataObject, seed: int):
    count = data.draw(st.integers(1, len(groups)))
    chosen = sample_indices(groups, len(groups), count, seed)
    assert len(set(chosen.tolist())) == count
    sizes, shares = Counter(groups), Counter(groups[row] for row in chosen)
    assert all(abs(shares[group] - size * count / len(groups)) < 1 for group, size in sizes.items())


def test_choice_from_a_file_ordered_by_class_has_every_class():
    groups = [0] * 500 + [1] * 300 + [2] * 200
    assert Counter(groups[row] for row in sample_indices(groups, 1000, 100, seed=1)) == {0: 50, 1: 30, 2: 20}


@pytest.mark.parametrize("groups", [None, [0, 1] * 500])
def test_seeds_differ(groups: list[int] | None):
    assert not np.array_equal(
        sample_indices(groups, 1000, 100, seed=1), sample_indices(groups, 1000, 100, seed=2)
    )


@pytest.mark.parametrize("groups", [None, [0] * 10])
def test_all_rows_where_more_are_wanted(groups: list[int] | None):
    assert sample_indices(groups, 10, 99, seed=0).tolist() == list(range(10))


@given(st.integers(1, 10**8))
def test_default_validation_ratio(rows: int):
    held = default_validation_ratio(rows) * rows
    assert 0.1 * rows <= held <= 0.2 * rows or held == pytest.approx(5000)
    assert held <= 5000.001
    assert held >= min(100, 0.2 * rows) - 1e-9


def test_rows_of_any_task_are_held_out_and_limited(tmp_path: Path):
    rows = [{"words": [f"w{number}"], "tags": [number]} for number in range(20)]
    (tmp_path / "ner.jsonl").write_text("\n".join(map(json.dumps, rows)))
    options = DataOptions(train_file=str(tmp_path / "ner.jsonl"), hold_out=True, max_train_samples=5)
    source, roles, options = read_splits(options, labels_from_training=True)
    assert (source.name, list(roles), options.validation_ratio) == ("ner", ["train"], 0.2)
    notes: list[str] = []
    train = roles["train"]
    splits = hold_out_rows({"train": PreparedSplit(train, list(train.columns["tags"]))}, options, notes)
    splits = limit_rows(splits, options, notes)
    assert {role: len(split) for role, split in splits.items()} == {"train": 5, "validation": 4}
    for split in splits.values():
        assert split.targets is not None
        assert [[f"w{tag}"] for (tag,) in split.targets] == split.rows.columns["words"]
    assert notes == [
        "validation: 4 of 20 training rows held out, at random (seed 42)",
        "train: 5 of 16 rows, at random (seed 42)",
    ]


def test_a_training_split_that_nothing_needs_is_left_out(tmp_path: Path):
    (tmp_path / "rows.csv").write_text("text\na\nb\n")
    file = str(tmp_path / "rows.csv")
    options = DataOptions(
        train_file=file, test_file=file, needs_train=False, needs_eval=False, needs_predict=True
    )
    assert list(read_splits(options, labels_from_training=False)[1]) == ["test"]
    assert list(read_splits(options, labels_from_training=True)[1]) == ["train", "test"]


def test_a_single_row_is_not_held_out(tmp_path: Path):
    (tmp_path / "rows.csv").write_text("text\na\n")
    options = DataOptions(train_file=str(tmp_path / "rows.csv"), validation_ratio=0.5)
    _, roles, options = read_splits(options, labels_from_training=True)
    with pytest.raises(DataError, match="none can be held out"):
        hold_out_rows({"train": PreparedSplit(roles["train"], None)}, options, [])
