"""The splits of a run: roles assigned, rows held out for evaluation, and the number of rows limited.

Every task takes these steps: `read_splits`; its own check and encoding of each split's rows, as a `PreparedSplit`;
`hold_out_rows`; `limit_rows`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sparseml.data.rows import DataError, RawSplit
from sparseml.data.shared_rows import first_alike
from sparseml.data.sources import DataOptions, Source, read_source

Roles = dict[str, RawSplit]

_ALIASES = {
    "train": ("train", "training"),
    "validation": ("validation", "validation_matched", "dev", "valid", "val", "eval"),
    "validation_mismatched": ("validation_mismatched",),
    "test": ("test", "test_matched"),
    "test_mismatched": ("test_mismatched",),
}


@dataclass(frozen=True)
class PreparedSplit:
    """Checked and encoded rows, their targets (None where unlabelled), and their classes, to stratify samples by."""

    rows: RawSplit
    targets: list[Any] | None
    classes: list[int] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Sequence[int] | np.ndarray) -> PreparedSplit:
        """The rows of these indices, in their order."""
        return PreparedSplit(
            self.rows.take(rows),
            None if self.targets is None else [self.targets[row] for row in rows],
            None if self.classes is None else [self.classes[row] for row in rows],
        )

    @property
    def sampled(self) -> str:
        """How rows are sampled, for notes."""
        return "at random" if self.classes is None else "each class in proportion"


def read_splits(options: DataOptions, *, labels_from_training: bool) -> tuple[Source, Roles, DataOptions]:
    """Read what the options name, and assign the splits that the run needs their roles.

    Roles are "train", "validation", "validation_mismatched", "test" and "test_mismatched". The training split is kept
    for its labels even when nothing is trained. The returned options have a `validation_ratio` where rows are to be
    held out.

    Raises:
        DataError: options contradict each other, or data or a split that the run needs cannot be found or read.
    """
    _check_options(options)
    source = read_source(options)
    source.notes.extend(note for split in source.splits.values() for note in split.notes)
    options = _with_validation_ratio(source.splits, options)
    return source, _assign_roles(source, options, labels_from_training), options


def hold_out_rows(
    splits: dict[str, PreparedSplit], options: DataOptions, notes: list[str], together: Sequence[str] = ()
) -> dict[str, PreparedSplit]:
    """Split validation rows off the training rows, where `validation_ratio` says so; appends to the notes.

    Args:
        together: columns; rows with the same values in all of them stay together, or a model would be evaluated on
            what it has learned.
    """
    splits = dict(splits)
    if options.validation_ratio is not None:
        splits["train"], splits["validation"] = _hold_out(splits["train"], options, notes, together)
    if not options.needs_train:
        splits.pop("train", None)
    return splits


def limit_rows(
    splits: dict[str, PreparedSplit], options: DataOptions, notes: list[str]
) -> dict[str, PreparedSplit]:
    """Limit rows to the `max_*_samples`: the first ones of test splits (to match the file), a sample of others."""
    return {role: _limit(role, split, options, notes) for role, split in splits.items()}


def _hold_out(
    train: PreparedSplit, options: DataOptions, notes: list[str], together: Sequence[str]
) -> tuple[PreparedSplit, PreparedSplit]:
    rows, ratio, seed = len(train), options.validation_ratio, options.seed
    assert ratio is not None
    first = first_alike([train.rows.columns[name] for name in together]) if together else np.arange(rows)
    chosen_from = np.unique(first)  # a row for each that is to stay together
    if len(chosen_from) < 2:
        what = "row" if rows == 1 else f"rows, which all have the same {_and(together)},"
        raise DataError(f"{train.rows.name}: of {rows} {what} none can be held out (--validation_ratio).")
    classes = None if train.classes is None else [train.classes[row] for row in chosen_from]
    _, chosen = hold_out_indices(classes, len(chosen_from), ratio, seed)
    held = np.isin(first, chosen_from[chosen])
    if not held.any():
        raise DataError(
            f"{train.rows.name}: no row can be held out, since every class occurs once. Name a "
            "--validation_file."
        )
    alike = rows - len(chosen_from)
    notes.append(
        f"validation: {held.sum():,} of {rows:,} training rows held out, {train.sampled} (seed {seed})"
        f"{f', those of one {_and(together)} together' if alike else ''}"
    )
    return train.take(np.flatnonzero(~held)), train.take(np.flatnonzero(held))


def _limit(role: str, split: PreparedSplit, options: DataOptions, notes: list[str]) -> PreparedSplit:
    test = role.startswith("test")
    limit = options.max_train_samples if role == "train" else options.max_eval_samples
    limit = options.max_predict_samples if test else limit
    rows = len(split)
    if limit is None or limit >= rows:
        return split
    if test:
        notes.append(f"{role}: the first {limit:,} of {rows:,} rows")
        return split.take(range(limit))
    notes.append(f"{role}: {limit:,} of {rows:,} rows, {split.sampled} (seed {options.seed})")
    return split.take(sample_indices(split.classes, rows, limit, options.seed))


def _and(names: Sequence[str]) -> str:
    return " and ".join(names)


def _check_options(options: DataOptions) -> None:
    """Refuse invalid numbers and options that exclude each other, before anything is read."""
    ratio = options.validation_ratio
    if ratio is not None and not 0 < ratio < 1:
        raise DataError(f"--validation_ratio {ratio}: a share between 0 and 1 is wanted, such as 0.1.")
    if ratio is not None and options.eval_on_test:
        raise DataError(
            "--validation_ratio and --eval_on_test are both given: evaluate either on rows held out from "
            "training or on the test split."
        )
    if ratio is not None and options.validation_file:
        raise DataError(
            f"--validation_ratio {ratio} and --validation_file are both given: drop one. With the file, no "
            "rows need to be held out from training."
        )
    for name in ("max_train_samples", "max_eval_samples", "max_predict_samples"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise DataError(f"--{name} {value}: 1 or more is wanted.")


def _with_validation_ratio(splits: dict[str, RawSplit], options: DataOptions) -> DataOptions:
    """The options with the default share of training rows to hold out, where `hold_out` is set."""
    train = _find_split(splits, "train")
    decided = options.validation_ratio is not None or options.eval_on_test or not options.hold_out
    if decided or train is None or _find_split(splits, "validation") is not None:
        return options
    return replace(options, validation_ratio=default_validation_ratio(len(train)))


def _assign_roles(source: Source, options: DataOptions, labels_from_training: bool) -> Roles:
    """The splits that the run needs; with `eval_on_test` the test split takes the validation split's role."""
    splits, name = source.splits, source.name
    by_role = {role: split for role in _ALIASES if (split := _find_split(splits, role)) is not None}
    roles: Roles = {}
    needs_train = options.needs_train or options.validation_ratio is not None
    if "train" in by_role and (needs_train or labels_from_training):
        roles["train"] = by_role["train"]
    elif needs_train:
        raise DataError(
            f"{name}: there is no training split ({_available(splits)}). Name one with --train_file."
        )
    if options.validation_ratio is not None and "validation" in by_role:
        raise DataError(
            f"{name} has a validation split of {len(by_role['validation']):,} rows, so no rows need to be "
            "held out: drop --validation_ratio."
        )
    if options.needs_eval and options.validation_ratio is None:
        roles |= _evaluation_splits(by_role, name, splits, options)
    if options.needs_predict:
        if "test" not in by_role:
            raise DataError(
                f"{name}: there is no test split to predict ({_available(splits)}). Name one: --test_file."
            )
        roles |= {role: by_role[role] for role in ("test", "test_mismatched") if role in by_role}
    return roles


def _evaluation_splits(by_role: Roles, name: str, splits: dict[str, RawSplit], options: DataOptions) -> Roles:
    kind = "test" if options.eval_on_test else "validation"
    if kind not in by_role:
        raise DataError(
            f"{name}: there is no {kind} split to evaluate on ({_available(splits)}). {_advice(by_role, kind)}"
        )
    roles = {"validation": kind, "validation_mismatched": f"{kind}_mismatched"}
    return {role: by_role[split] for role, split in roles.items() if split in by_role}


def _advice(by_role: Roles, kind: str) -> str:
    if kind == "test":
        return "Drop --eval_on_test, or name a file with --test_file."
    test = ", or evaluate on the test split with --eval_on_test" if "test" in by_role else ""
    return f"Hold out a part of the training rows with --validation_ratio 0.1{test}."


def _find_split(splits: dict[str, RawSplit], role: str) -> RawSplit | None:
    return next((splits[name] for name in _ALIASES[role] if name in splits), None)


def _available(splits: dict[str, RawSplit]) -> str:
    return f"there are: {', '.join(splits)}"


def default_validation_ratio(rows: int) -> float:
    """A tenth; up to a fifth of small data, whose metrics vary widely, and at most 5,000 rows of large data."""
    return min(max(0.1, min(0.2, 100 / max(rows, 1))), 5000 / max(rows, 1))


def hold_out_indices(
    classes: Sequence[int] | None, rows: int, ratio: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split rows into ascending indices to train on and held out; stratified, every class keeps a row to train on."""
    count = min(max(round(rows * ratio), 1), rows - 1)
    held = sample_indices(classes, rows, count, seed, keep_one=True)
    mask = np.zeros(rows, dtype=bool)
    mask[held] = True
    return np.flatnonzero(~mask), held


def sample_indices(
    classes: Sequence[int] | None, rows: int, count: int, seed: int, keep_one: bool = False
) -> np.ndarray:
    """Sample `count` of `rows` indices, ascending and each class (rows,) in its proportion to within one row.

    With `keep_one`, one row of each class is left unchosen (so that fewer than `count` may be chosen).
    """
    generator = np.random.default_rng(seed)
    if classes is None:
        return np.sort(generator.permutation(rows)[: min(count, rows)])
    _, inverse, sizes = np.unique(np.asarray(classes), return_inverse=True, return_counts=True)
    shares = _shares(sizes, count, sizes - 1 if keep_one else sizes)
    chosen = [
        generator.permutation(np.flatnonzero(inverse == position))[:share]
        for position, share in enumerate(shares)
    ]
    return np.sort(np.concatenate(chosen))


def _shares(sizes: np.ndarray, count: int, limits: np.ndarray) -> np.ndarray:
    """Integers in proportion to `sizes` that add up to `count`, none above its limit (largest remainders)."""
    exact = sizes * min(count / sizes.sum(), 1.0)
    shares = np.minimum(np.floor(exact).astype(np.int64), limits)
    wanted = min(count, int(limits.sum()))
    while (missing := wanted - int(shares.sum())) > 0:
        remainders = np.where(shares < limits, exact - shares, -np.inf)
        # A stable sort: among equal remainders the first class gets the row, on every machine.
        winners = np.argsort(-remainders, kind="stable")[:missing]
        shares[winners[shares[winners] < limits[winners]]] += 1
    return shares
