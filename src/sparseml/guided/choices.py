"""The choices of a guided run: a command that names no work does all of it, and what is not given is chosen.

`arguments.parse` calls `choose` for what the arguments alone decide; the command calls `fit` once the data are known.
Given arguments always take precedence.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from resparse.console import output, say
from sparseml.data.label_encoding import REGRESSION, Labels
from sparseml.guided import folder as folders
from sparseml.guided import sizing
from sparseml.guided.folder import RunFolder
from sparseml.options import environment
from sparseml.recipe.variables import parse_overrides

if TYPE_CHECKING:
    from sparseml.tasks.base import Task

WORK: Final = ("do_train", "do_eval", "do_predict", "one_shot")
SOURCES: Final = ("train_file", "dataset_name", "task_name")

_MIN_SAVE_STEPS: Final = 50


@dataclass(frozen=True)
class Guided:
    """The choices of a guided run."""

    folder: RunFolder
    given: frozenset[str]  # names of the arguments that the user gave
    hold_out: bool  # hold out validation rows where the data have none
    concludes: bool = True  # export and summarize at the end

    def keeps_checkpoints(self) -> bool:
        """Whether the user asked for checkpoints, rather than only a stopped run needing them."""
        return not self.given.isdisjoint({"save_strategy", "save_steps", "save_total_limit"})


def is_guided(values: Mapping[str, Any]) -> bool:
    """Whether no work is named, but training rows are."""
    named = any(name in values for name in WORK)
    return not named and any(values.get(name) is not None for name in SOURCES)


def choose(values: dict[str, Any], defaults: Mapping[str, Any], task: Task) -> tuple[Guided, list[str]]:
    """Choose, in place, what the arguments alone decide; returns the choices, and lines to print about them.

    `defaults` are of all arguments.
    """
    folder = folders.choose(values, defaults, task.product)
    given = frozenset(values)
    # A dataset's own validation rows are preferred; `Guided.hold_out` applies only where there are none.
    hold_out = all(
        values.get(name) is None for name in ("validation_file", "validation_ratio", "eval_on_test")
    )
    notes = ["No --do_train, --do_eval or --do_predict: all is done, and what is not given is chosen."]
    values |= {"output_dir": str(folder.path), "do_train": True, "do_eval": True}
    if values.get("test_file") is not None:
        values["do_predict"] = True
    notes += _precision(values)
    defaults = {"recipe": task.guided_recipe, "distill_teacher": "disable"}
    defaults["max_seq_length"] = task.guided_length
    defaults |= {"eval_strategy": "epoch", "logging_steps": 10, "per_device_eval_batch_size": 32}
    for name, value in (defaults | {"save_strategy": "steps", "save_total_limit": 1}).items():
        values.setdefault(name, value)
    return Guided(folder, given, hold_out), notes + _folder_note(folder, given)


def _precision(values: dict[str, Any]) -> list[str]:
    if "bf16" in values or "fp16" in values:
        return []
    fast = None if values.get("use_cpu") else environment.fast_bfloat16()
    if fast is None:
        return []
    values["bf16"] = True
    return [f"precision: bfloat16, which {fast} computes fast (--no_bf16 for float32)"]


def _folder_note(folder: RunFolder, given: frozenset[str]) -> list[str]:
    if folder.state != "new" or "output_dir" in given:
        return []
    taken = folder.path.name.rpartition("-")[2].isdigit()
    why = "; the one before holds something else" if taken else " (--output_dir names another)"
    return [f"folder: {folder.path}{why}"]


def fit(guided: Guided, training: Any, data: Any, prepared: Any, taught: bool = False) -> None:
    """Choose, in place, what the data decide: recipe variables, batch size, save steps, the head's initial weights.

    `taught`: the encoder and its classifier will have learned of the rows before; see `sizing.fit`.
    """
    rows = len(prepared.data.train)
    chosen = "recipe" not in guided.given
    given = parse_overrides(training.recipe_args) if chosen else {}
    shares = int(training.gradient_accumulation_steps) * int(training.world_size)
    sized = sizing.fit(
        rows,
        prepared.labels.num_labels if prepared.labels is not None else 1,
        width=getattr(prepared.loaded.model.config, "hidden_size", None) or 384,
        batch=int(training.train_batch_size) * shares
        if "per_device_train_batch_size" in guided.given
        else None,
        epochs=_given_number(given, "num_epochs", guided, training, "num_train_epochs"),
        rate=_given_number(given, "init_lr", guided, training, "learning_rate"),
        taught=taught,
    )
    if "per_device_train_batch_size" not in guided.given:
        training.per_device_train_batch_size = max(1, sized.batch // shares)
    if chosen:
        variables = {**sized.variables, **given}
        training.recipe_args = variables
        _say_variables(variables, sized, rows, prepared.labels)
    if "save_steps" not in guided.given:
        steps_per_epoch = -(-rows // sized.batch)
        training.save_steps = max(steps_per_epoch, _MIN_SAVE_STEPS)
    for note in prepared.task.choose(prepared.data, prepared.labels, data, guided.given):
        say(note)
    loaded = prepared.loaded
    if prepared.task.initialize_head(loaded.model, loaded.new, prepared.data, prepared.labels):
        prepared.task.balance_head(loaded.model, loaded.new, prepared.data, prepared.labels, data)
    if "max_seq_length" not in guided.given:
        data.max_seq_length = min(data.max_seq_length, prepared.tokenizer.model_max_length)


def _given_number(
    given: Mapping[str, Any], variable: str, guided: Guided, training: Any, argument: str
) -> float | None:
    """The number that the user gave as recipe variable or Trainer argument; None for neither, or an expression."""
    value = given.get(variable, getattr(training, argument) if argument in guided.given else None)
    return value if isinstance(value, float | int) else None


def _say_variables(
    variables: Mapping[str, Any], sized: sizing.Sizing, rows: int, labels: Labels | None
) -> None:
    what = ""
    if labels is not None:
        what = " and a score" if labels.kind == REGRESSION else f" and {labels.num_labels} classes"
    shown = ", ".join(
        f"{name}={value:g}" if isinstance(value, float | int) else f"{name}={value}"
        for name, value in variables.items()
    )
    say(f"recipe for {rows:,} rows{what}: {shown}; about {sized.steps:,} steps of {sized.batch} rows")


@contextmanager
def resumable(guided: Guided | None) -> Iterator[None]:
    """On interruption of a guided run, print how to resume it."""
    try:
        yield
    except KeyboardInterrupt:
        if guided is not None:
            say(
                f"Stopped. The same command again goes on from the newest checkpoint in {guided.folder.path}."
            )
        raise


def finished(guided: Guided) -> dict[str, Any] | None:
    """The report of the same run, if it was finished before; prints its summary again."""
    if guided.folder.state != "done":
        return None
    folder = guided.folder.path
    report: dict[str, Any] = json.loads((folder / folders.REPORT).read_text(encoding="utf-8"))
    say(f"{folder} holds this very run, finished (--overwrite_output_dir trains anew).")
    output.print((folder / folders.SUMMARY).read_text(encoding="utf-8"), end="", markup=False)
    return report
