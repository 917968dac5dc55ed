"""Checks of the arguments that say what a classifier learns by, and what it decides by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resparse import thresholds
from resparse.confidence import is_min_score
from resparse.threshold_search import VALIDATION
from sparseml.options.table import ArgumentError


def check(values: Mapping[str, Any], holds_out: bool = False) -> None:
    """Raise an ArgumentError for the first that makes no sense.

    Args:
        holds_out: validation rows will be held out.
    """
    threshold = values.get(thresholds.KEY)
    by_validation = isinstance(threshold, str) and threshold.lower() == VALIDATION
    if threshold is not None and not by_validation and not thresholds.is_threshold(threshold):
        raise ArgumentError(
            f"--{thresholds.KEY} {threshold}: it is a probability, between 0 and 1, or `{VALIDATION}`."
        )
    gamma, least = values.get("focal_gamma"), values.get("min_score")
    if gamma is not None and not 0 <= gamma <= 10:
        raise ArgumentError(f"--focal_gamma {gamma:g}: it is from 0 (none) to 10; 2 is usual.")
    if least is not None and not is_min_score(least):
        raise ArgumentError(f"--min_score {least:g}: it is a probability, from 0 to below 1.")
    _check_loss(values)
    if by_validation or values.get("calibration") == "temperature":
        flag = f"--{thresholds.KEY} {VALIDATION}" if by_validation else "--calibration temperature"
        _check_rows(values, flag, holds_out)


def _check_loss(values: Mapping[str, Any]) -> None:
    weighted = values.get("class_weights") not in (None, "none") or values.get("focal_gamma")
    if weighted and values.get("label_smoothing_factor"):
        raise ArgumentError(
            "--label_smoothing_factor is another loss than --class_weights or --focal_gamma: leave one of them out."
        )


def _check_rows(values: Mapping[str, Any], flag: str, holds_out: bool) -> None:
    """Fitting takes a training before it, and rows that are neither trained nor tested on."""
    if not values.get("do_train") and not values.get("one_shot"):
        raise ArgumentError(
            f"{flag} fits what the model decides by after a training: it goes with --do_train or --one_shot. For a "
            "model that is trained: sparseml calibrate."
        )
    if values.get("eval_on_test"):
        raise ArgumentError(
            f"{flag} is fitted to validation rows, which with --eval_on_test are those of the test: leave one out."
        )
    if not (holds_out or values.get("do_eval") or values.get("eval_strategy", "no") != "no"):
        raise ArgumentError(f"{flag} needs validation rows: add --do_eval.")
