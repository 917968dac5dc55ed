"""The guided run: no work named, so all of it is done, and whatever is not given is chosen and said.

`arguments.parse` calls `choose` for what the arguments alone decide; the command calls `fit` once the data are known.
What is given always wins.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from resparse.console import say
from sparseml.data.label_encoding import REGRESSION, Labels
from sparseml.guided import folder as folders
from sparseml.guided import sizing
from sparseml.guided.folder import RunFolder
from sparseml.options import environment as machine
from sparseml.recipe.variables import parse_overrides

WORK: Final = ("do_train", "do_eval", "do_predict", "one_shot")
SOURCES: Final = ("train_file", "dataset_name", "task_name")

LENGTH: Final = 128
"""Tokens that texts are cut to: what the runtime and its server cut at, too."""

_SAMPLE: Final = 500
_FEW: Final = 0.05
_FEWEST_STEPS_TO_SAVE: Final = 50


@dataclass(frozen=True)
class Guided:
    """What a guided run has decided.

    Attributes:
        folder: where it writes.
        given: names of the arguments that the user gave.
        hold_out: whether validation rows are to be held out where there are none.
    """

    folder: RunFolder
    given: frozenset[str]
    hold_out: bool

    def keeps_checkpoints(self) -> bool:
        """Whether checkpoints are there for the user, and not only for a run that is stopped."""
        return not self.given.isdisjoint({"save_strategy", "save_steps", "save_total_limit"})


def is_asked_for(values: Mapping[str, Any]) -> bool:
    """Whether no work is named, but rows to train on are."""
    named = any(name in values for name in WORK)
    return not named and any(values.get(name) is not None for name in SOURCES)


def choose(values: dict[str, Any]) -> tuple[Guided, list[str]]:
    """Choose, in place, what the arguments alone decide.

    Returns:
        The decisions, and lines to say about them.

    Raises:
        RunFolderError: the folder that was named holds another run.
    """
    folder = folders.choose(values)
    given = frozenset(values)
    # Of a task or dataset that has validation rows, those are taken; `Guided.hold_out` is for where there are none.
    hold_out = all(
        values.get(name) is None for name in ("validation_file", "validation_ratio", "eval_on_test")
    )
    notes = ["No --do_train, --do_eval or --do_predict: all is done, and what is not given is chosen."]
    values |= {"output_dir": str(folder.path), "do_train": True, "do_eval": True}
    if values.get("test_file") is not None:
        values["do_predict"] = True
    notes += _precision(values)
    for name, value in (
        ("recipe", sizing.RECIPE),
        ("distill_teacher", "disable"),
        ("max_seq_length", LENGTH),
        ("eval_strategy", "epoch"),
        ("logging_steps", 10),
        ("per_device_eval_batch_size", 32),
        ("save_strategy", "steps"),
        ("save_total_limit", 1),
    ):
        values.setdefault(name, value)
    return Guided(folder, given, hold_out), notes + _place(folder, given)


def _precision(values: dict[str, Any]) -> list[str]:
    if "bf16" in values or "fp16" in values:
        return []
    fast = None if values.get("use_cpu") else machine.fast_bfloat16()
    if fast is None:
        return []
    values["bf16"] = True
    return [f"precision: bfloat16, which {fast} computes fast (--no_bf16 for float32)"]


def _place(folder: RunFolder, given: frozenset[str]) -> list[str]:
    if folder.state != "new" or "output_dir" in given:
        return []
    taken = folder.path.name.rpartition("-")[2].isdigit()
    why = "; the one before holds something else" if taken else " (--output_dir names another)"
    return [f"folder: {folder.path}{why}"]


def fit(guided: Guided, training: Any, data: Any, prepared: Any) -> None:
    """Choose, in place, what the data decide: the recipe's variables, the batch, how often to save, the first answers.

    Args:
        guided: what was decided before.
        training, data: the arguments.
        prepared: data, labels, model and tokenizer.
    """
    rows = len(prepared.data.train)
    chosen = "recipe" not in guided.given
    given = parse_overrides(training.recipe_args) if chosen else {}
    sized = sizing.fit(
        rows,
        prepared.labels.num_labels,
        width=getattr(prepared.loaded.model.config, "hidden_size", None) or 384,
        batch=_batch(guided, training),
        epochs=_number(given, "num_epochs", guided, training, "num_train_epochs"),
        rate=_number(given, "init_lr", guided, training, "learning_rate"),
    )
    if "per_device_train_batch_size" not in guided.given:
        training.per_device_train_batch_size = max(1, sized.batch // training.gradient_accumulation_steps)
    if chosen:
        variables = {**sized.variables, **given}
        training.recipe_args = variables
        _say_variables(variables, sized, rows, prepared.labels)
    if "save_steps" not in guided.given:
        an_epoch = -(-rows // sized.batch)
        training.save_steps = max(an_epoch, _FEWEST_STEPS_TO_SAVE)
    prepared.task.initialize_head(prepared.loaded.model, prepared.loaded.new, prepared.data, prepared.labels)
    if "max_seq_length" not in guided.given:
        data.max_seq_length = min(data.max_seq_length, prepared.tokenizer.model_max_length)
        _say_cut(data, prepared)


def _number(
    given: Mapping[str, Any], variable: str, guided: Guided, training: Any, argument: str
) -> float | None:
    """What the user said, by the recipe's variable or by the Trainer's argument; None for neither, or an expression."""
    value = given.get(variable, getattr(training, argument) if argument in guided.given else None)
    return value if isinstance(value, float | int) else None


def _batch(guided: Guided, training: Any) -> int | None:
    if "per_device_train_batch_size" not in guided.given:
        return None
    return int(training.train_batch_size) * int(training.gradient_accumulation_steps)


def _say_variables(variables: Mapping[str, Any], sized: sizing.Sizing, rows: int, labels: Labels) -> None:
    what = "a score" if labels.kind == REGRESSION else f"{labels.num_labels} classes"
    shown = ", ".join(
        f"{name}={value:g}" if isinstance(value, float | int) else f"{name}={value}"
        for name, value in variables.items()
    )
    say(f"recipe for {rows:,} rows and {what}: {shown}; about {sized.steps:,} steps of {sized.batch} rows")


def _say_cut(data: Any, prepared: Any) -> None:
    """Say it where many texts are longer than what is read of them."""
    columns = prepared.data.columns.texts
    rows = prepared.data.train
    sample = rows.select(range(0, len(rows), max(1, len(rows) // _SAMPLE)))
    encoded = prepared.tokenizer(
        *(list(sample[column]) for column in columns), truncation=False, verbose=False
    )
    cut = sum(len(ids) > data.max_seq_length for ids in encoded["input_ids"]) / max(len(sample), 1)
    if cut > _FEW:
        say(
            f"{cut:.0%} of the texts are longer than {data.max_seq_length} tokens, and are cut there "
            f"(--max_seq_length {2 * data.max_seq_length} reads more of them, and takes longer)"
        )


@contextmanager
def resumable(guided: Guided | None) -> Iterator[None]:
    """Say, where the user stops a guided run, how it goes on."""
    try:
        yield
    except KeyboardInterrupt:
        if guided is not None:
            say(
                f"Stopped. The same command again goes on from the newest checkpoint in {guided.folder.path}."
            )
        raise


def finished(guided: Guided) -> dict[str, Any] | None:
    """The report of the same run, where it was finished before; says its summary again."""
    if guided.folder.state != "done":
        return None
    folder = guided.folder.path
    report: dict[str, Any] = json.loads((folder / folders.REPORT).read_text(encoding="utf-8"))
    say(f"{folder} holds this very run, finished (--overwrite_output_dir trains anew).")
    print(Path(folder / folders.SUMMARY).read_text(encoding="utf-8"), end="")
    return report
