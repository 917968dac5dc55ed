"""Which split of the source plays which role in this run; and options that contradict each other."""

from __future__ import annotations

from dataclasses import replace

from sparseml.data.errors import DataError
from sparseml.data.options import DataOptions
from sparseml.data.rows import RawSplit
from sparseml.data.splits import share_to_hold_out

Roles = dict[str, RawSplit]

_ALIASES = {
    "train": ("train", "training"),
    "validation": ("validation", "validation_matched", "dev", "valid", "val", "eval"),
    "validation_mismatched": ("validation_mismatched",),
    "test": ("test", "test_matched"),
    "test_mismatched": ("test_mismatched",),
}


def check_options(options: DataOptions) -> None:
    """Refuse numbers that mean nothing and options that exclude each other, before anything is read.

    Raises:
        DataError: with the option to change.
    """
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


def held_out(splits: dict[str, RawSplit], options: DataOptions) -> DataOptions:
    """The options with a share of the training rows to hold out, where that is wanted and needed."""
    train = _find(splits, "train")
    settled = options.validation_ratio is not None or options.eval_on_test or not options.hold_out
    if settled or train is None or _find(splits, "validation") is not None:
        return options
    return replace(options, validation_ratio=share_to_hold_out(len(train)))


def assign_roles(splits: dict[str, RawSplit], source: str, options: DataOptions) -> Roles:
    """Name the splits that the run needs by what they are needed for.

    The training split is kept even when nothing is trained, if only it defines the classes. With
    `eval_on_test` the test split plays the role of the validation split.

    Returns:
        Splits under "train", "validation", "validation_mismatched", "test", "test_mismatched".

    Raises:
        DataError: a split that the run needs does not exist.
    """
    found = {role: split for role in _ALIASES if (split := _find(splits, role)) is not None}
    roles: Roles = {}
    defines_classes = options.needs_train or options.known_labels is None
    if "train" in found and (defines_classes or options.validation_ratio is not None):
        roles["train"] = found["train"]
    elif options.needs_train or options.validation_ratio is not None:
        raise DataError(
            f"{source}: there is no training split ({_have(splits)}). Name one with --train_file."
        )
    if options.validation_ratio is not None and "validation" in found:
        raise DataError(
            f"{source} has a validation split of {len(found['validation']):,} rows, so no rows need to be "
            "held out: drop --validation_ratio."
        )
    if options.needs_eval and options.validation_ratio is None:
        roles |= _evaluation(found, source, splits, options)
    if options.needs_predict:
        if "test" not in found:
            raise DataError(
                f"{source}: there is no test split to predict ({_have(splits)}). Name one: --test_file."
            )
        roles |= {role: found[role] for role in ("test", "test_mismatched") if role in found}
    return roles


def _evaluation(found: Roles, source: str, splits: dict[str, RawSplit], options: DataOptions) -> Roles:
    kind = "test" if options.eval_on_test else "validation"
    if kind not in found:
        raise DataError(
            f"{source}: there is no {kind} split to evaluate on ({_have(splits)}). {_advice(found, kind)}"
        )
    second = f"{kind}_mismatched"
    roles = {"validation": found[kind]}
    if second in found:
        roles["validation_mismatched"] = found[second]
    return roles


def _advice(found: Roles, kind: str) -> str:
    if kind == "test":
        return "Drop --eval_on_test, or name a file with --test_file."
    held_out = "Hold out a part of the training rows with --validation_ratio 0.1"
    return (
        f"{held_out}, or evaluate on the test split with --eval_on_test."
        if "test" in found
        else f"{held_out}."
    )


def _find(splits: dict[str, RawSplit], role: str) -> RawSplit | None:
    return next((splits[name] for name in _ALIASES[role] if name in splits), None)


def _have(splits: dict[str, RawSplit]) -> str:
    return f"there are: {', '.join(splits)}"
