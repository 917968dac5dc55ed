"""Transformers' Trainer with a recipe: the distillation loss, the recipe's rate, and whole checkpoints."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, SequentialSampler
from transformers import Trainer

from resparse.files import give_usual_mode
from sparseml.modifiers import Clock
from sparseml.modifiers.distillation import DistillationModifier
from sparseml.quantization.structure import is_quantized
from sparseml.recipe import Plan, load_plan
from sparseml.session import checkpoint
from sparseml.session.callback import RecipeCallback
from sparseml.session.rates import RecipeRate
from sparseml.session.sampling import LengthGroupedSampler
from sparseml.session.session import Session

TEACHER_LOGITS = "teacher_logits"
"""The batch's key for logits that the teacher gave beforehand, [batch, labels]."""


class RecipeTrainer(Trainer):
    """Trains a Transformers classifier under a recipe.

    Args:
        recipe: a plan, or anything that `load_plan` reads; None trains as the Trainer does.
        recipe_args: overrides of the recipe's variables.
        teacher: a model in evaluation mode for the recipe's DistillationModifier. Not needed where the batches
            carry `teacher_logits`, which are computed once and reused in every epoch (`teacher.py`).
        base: what made the model that the training starts from (`models.starting_point`); saved in front.
        allow_dense_start: accept a transfer recipe on weights that are not sparse.
        *args, **kwargs: the Trainer's own.

    Where the recipe says the number of epochs or the learning rate, the arguments' are not used; `max_steps` still
    ends the training early.

    Raises:
        RecipeError, ModifierError: the recipe cannot be carried out on this model.
    """

    def __init__(
        self,
        *args: Any,
        recipe: Plan | str | Path | None = None,
        recipe_args: str | Mapping[str, Any] | None = None,
        teacher: nn.Module | None = None,
        base: checkpoint.Saved | None = None,
        allow_dense_start: bool = False,
        **kwargs: Any,
    ) -> None:
        asked = kwargs.get("args", args[1] if len(args) > 1 else None)
        folder = Path(asked.output_dir).absolute() if asked is not None else Path.cwd()
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        super().__init__(*args, **kwargs)
        for path in missing:
            path.rmdir()  # made too early by the Trainer: folders come with the first thing that is written
        self.session: Session | None = None
        self.base = base
        self.teacher = (
            teacher.to(self.args.device).eval().requires_grad_(False) if teacher is not None else None
        )
        # Classification models average over the batch: accumulated gradients are to be divided by their number.
        self.model_accepts_loss_kwargs = False
        if recipe is None:
            return
        plan = recipe if isinstance(recipe, Plan) else load_plan(recipe, recipe_args)
        self.session = Session(plan, self.model, allow_dense_start)
        schedule = self.session.schedule
        if schedule.epochs is not None:
            self.args.num_train_epochs = schedule.epochs
        elif schedule.steps is not None:
            self.args.max_steps = schedule.steps
        if is_quantized(self.model) and (self.args.bf16_full_eval or self.args.fp16_full_eval):
            self.args.bf16_full_eval = self.args.fp16_full_eval = False
            self.session.run.notes.append(
                "Evaluation stays in float32: the grid of int8 is finer than half precision."
            )
        self._bridge = RecipeCallback(self.session, getattr(self.args, "best_model_after_epoch", None))
        self.add_callback(self._bridge)

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> Any:
        """As the Trainer's; on resume the recipe goes on where it was."""
        if resume_from_checkpoint is True:
            resume_from_checkpoint = str(checkpoint.newest(Path(self.args.output_dir)))
        if resume_from_checkpoint:
            checkpoint.refuse_unfinished(Path(resume_from_checkpoint))
            checkpoint.load_state(self.session, self.base, Path(resume_from_checkpoint))
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As the Trainer's, without a trace in the random state: a run that looks more often ends the same."""
        with torch.random.fork_rng(devices=[]):
            scores: dict[str, float] = super().evaluate(*args, **kwargs)
        return scores

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The task's loss, mixed with the distance to the teacher while a DistillationModifier is at work."""
        teacher_logits = inputs.pop(TEACHER_LOGITS, None)
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        modifier = (
            self.session.active(DistillationModifier) if self.session is not None and model.training else None
        )
        if modifier is not None and (teacher_logits is not None or self.teacher is not None):
            if teacher_logits is None:
                teacher_logits = self._ask_teacher(inputs)
            problem = self.model.config.problem_type or "single_label_classification"
            loss = modifier.mix(loss, outputs["logits"], teacher_logits.to(loss.device), problem)
        return (loss, outputs) if return_outputs else loss

    def clock(self) -> Clock:
        """How long an epoch and the run are, in optimizer steps."""
        values = super().set_initial_training_values(self.args, self.get_train_dataloader())
        return Clock(steps_per_epoch=values[1], total_steps=values[6])

    def set_initial_training_values(self, args: Any, dataloader: DataLoader) -> Any:
        """As the Trainer's; here the lengths of run and epoch become known."""
        values = super().set_initial_training_values(args, dataloader)
        if self.session is not None:
            self._bridge.clock = Clock(steps_per_epoch=values[1], total_steps=values[6])
            decayed = set(self.get_decay_parameter_names(self.model))
            self._bridge.decayed = frozenset(
                id(p) for name, p in self.model.named_parameters() if name in decayed
            )
        return values

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> Any:
        """The recipe's rate where it says one, else the Trainer's scheduler."""
        if self.session is None or not self.session.schedule.owns_rate:
            return super().create_scheduler(num_training_steps, optimizer)
        if getattr(self, "lr_scheduler", None) is None:
            chosen = optimizer or self.optimizer
            self.lr_scheduler = RecipeRate(
                getattr(chosen, "optimizer", chosen), self.session.schedule, self._bridge.clock
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Weights, configuration, tokenizer, recipe and modifiers' state, each file whole or not at all."""
        folder = Path(output_dir or self.args.output_dir)
        if not self.args.should_save:
            super().save_model(str(folder), _internal_call)
            return
        with checkpoint.clear_write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            beside = Path(tempfile.mkdtemp(prefix=".saving-", dir=folder))
            try:
                super().save_model(str(beside), _internal_call)
                checkpoint.save_state(self.session, self.base, beside)
                for name in checkpoint.OWN_FILES:
                    if not (beside / name).exists():
                        (folder / name).unlink(missing_ok=True)  # of an older model's recipe
                for path in sorted(beside.iterdir()):
                    give_usual_mode(path)
                    path.replace(folder / path.name)
            finally:
                shutil.rmtree(beside, ignore_errors=True)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"
        with checkpoint.clear_write_errors(folder), checkpoint.replacing(folder):
            super()._save_checkpoint(model, trial)
        if getattr(self.args, "overwrite_output_dir", False) and self._initial_global_step == 0:
            checkpoint.remove_later(folder)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        if self.session is not None and self.state.best_model_checkpoint is not None:
            checkpoint.load_state(self.session, self.base, Path(self.state.best_model_checkpoint))

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        dataset = train_dataset if train_dataset is not None else self.train_dataset
        grouped = self.args.train_sampling_strategy == "group_by_length"
        column = self.args.length_column_name
        if not grouped or column not in getattr(dataset, "column_names", ()):
            return super()._get_train_sampler(train_dataset)
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps
        seed = self.args.data_seed if self.args.data_seed is not None else self.args.seed
        return LengthGroupedSampler(dataset[column], batch, seed)

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler[int] | None:
        """In the rows' own order: the Trainer's shuffles them where training groups by length, and predictions with."""
        return SequentialSampler(eval_dataset) if self.args.world_size <= 1 else None

    @torch.no_grad()
    def _ask_teacher(self, inputs: Mapping[str, Any]) -> Tensor:
        assert self.teacher is not None
        fed = {key: value for key, value in inputs.items() if key != "labels"}
        logits: Tensor = self.teacher(**fed)["logits"]
        return logits
