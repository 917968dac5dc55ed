"""SparseML's `Trainer` and `TrainingArguments`, with the arguments of its users' scripts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from resparse.console import say
from sparseml import report
from sparseml.distillation.teacher import DISABLED, SELF, copy_of
from sparseml.options import environment, groups, renamed
from sparseml.options.table import check_names, options_of
from sparseml.recipe import Plan, load_plan
from sparseml.session.models import resolve, starting_point
from sparseml.session.trainer import RecipeTrainer
from sparseml.tasks import load_task
from sparseml.transformers.sparse_auto import SparseAutoModel

__all__ = ["SparseAutoModel", "Trainer", "TrainingArguments"]


class TrainingArguments(groups.TrainingArguments):
    """The training command's arguments, under current and former names, adapted to the machine as by the command."""

    def __init__(self, output_dir: str | Path, **kwargs: Any) -> None:
        options = options_of(groups.TrainingArguments)
        given = {"output_dir": str(output_dir)} | {
            name: kwargs[name] for name in kwargs if kwargs[name] is not None
        }
        check_names(given, {**options, **renamed.old_options(options)})
        values, notes = renamed.translate(given, options)
        typed = {name: options[name].convert(value) for name, value in values.items()}
        for note in [*notes, *environment.fit(typed)]:
            say(note)
        super().__init__(**typed)


class Trainer(RecipeTrainer):
    """A `RecipeTrainer` with the signature of SparseML's.

    Args:
        model_state_path: the checkpoint's folder: its recipe and masks precede this training's.
        recipe: a path, a `zoo:` stub, or the text; None trains as Transformers' Trainer does.
        recipe_args: overrides of the recipe's variables.
        teacher: a model; "self" for a copy of the student as it is now; None or "disable" for none.
        metadata_args, data_args: ignored: the recipe is saved as it was evaluated.
        tokenizer: Transformers' `processing_class`.
        kwargs: Transformers' own: args, train_dataset, eval_dataset, data_collator, compute_metrics, ...
    """

    def __init__(
        self,
        model: nn.Module,
        model_state_path: str | Path | None = None,
        recipe: Plan | str | Path | None = None,
        teacher: nn.Module | str | None = None,
        recipe_args: str | Mapping[str, Any] | None = None,
        metadata_args: Any = None,
        data_args: Any = None,
        tokenizer: Any = None,
        **kwargs: Any,
    ) -> None:
        del metadata_args, data_args
        plan = load_plan(recipe, recipe_args) if isinstance(recipe, str | Path) else recipe
        base = None
        if model_state_path is not None:
            base = starting_point(model, resolve(str(model_state_path)).folder, plan)
        if tokenizer is not None:
            kwargs.setdefault("processing_class", tokenizer)
        kwargs.setdefault("distance", partial(load_task().distance, config=model.config))
        super().__init__(
            model=model,
            recipe=plan,
            teacher=copy_of(model) if teacher == SELF else None if isinstance(teacher, str) else teacher,
            base=base,
            **kwargs,
        )
        if self.session is not None and teacher in (None, DISABLED):
            self.session.rest_without_teacher()

    def save_optimizer_and_scheduler(self, output_dir: str | Path | None = None) -> None:
        """Write the state of the optimizer and the scheduler beside the model."""
        self._save_optimizer_and_scheduler(str(output_dir or self.args.output_dir))

    def log_model_sparsification(self) -> None:
        """Print the shares of zero weights and of int8 layers."""
        totals = report.totals(self.model)
        say(
            f"{totals['parameters']:,} parameters; of {totals['prunable_parameters']:,} prunable ones "
            f"{totals['prunable_sparsity']:.1%} are zero; {totals['quantized_layers']} of "
            f"{totals['quantizable_layers']} layers are int8"
        )
