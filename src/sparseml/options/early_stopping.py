"""What `--early_stopping_patience` needs of the other arguments: evaluations, and checkpoints of the same steps."""

from __future__ import annotations

from typing import Any

from sparseml.options.table import ArgumentError


def fit(values: dict[str, Any]) -> list[str]:
    """Choose, in place, what is not given; returns lines for the user.

    Raises:
        ArgumentError: a contradiction, or a number that will not do.
    """
    patience, threshold = values.get("early_stopping_patience"), values.get("early_stopping_threshold")
    if patience is None:
        if threshold is not None:
            raise ArgumentError(
                "--early_stopping_threshold is how much an evaluation must gain under --early_stopping_patience, which "
                "is not given."
            )
        return []
    if patience < 1:
        raise ArgumentError(f"--early_stopping_patience {patience}: it must be at least 1 evaluation.")
    if threshold is not None and threshold < 0:
        raise ArgumentError(f"--early_stopping_threshold {threshold:g}: it must be at least 0.")
    strategy = values.setdefault("eval_strategy", "epoch")
    if strategy == "no":
        raise ArgumentError("--early_stopping_patience counts evaluations, but --eval_strategy is no.")
    if "load_best_model_at_end" in values:
        return []
    if values.setdefault("save_strategy", strategy) == strategy and "save_steps" not in values:
        values["load_best_model_at_end"] = True
        if values.get("eval_steps") is not None:
            values["save_steps"] = values["eval_steps"]
        return []
    return [
        "early stopping: the last model is kept, as checkpoints are written at other steps than it is evaluated at "
        "(--load_best_model_at_end keeps the best, and needs the steps of --save_... to be those of --eval_...)"
    ]
