"""Transformers' Trainer with a recipe: its modifiers' losses and hooks, its learning rate, and whole checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Sampler, SequentialSampler
from transformers import EvalPrediction

from resparse.console import say
from resparse.files import give_usual_mode, temporary_folder
from sparseml.data.long_texts import by_document, has_windows
from sparseml.data.rows import numbers
from sparseml.modifiers import Clock
from sparseml.modifiers.base import Batch, Distance
from sparseml.processes import sum_over_processes
from sparseml.quantization.structure import is_quantized
from sparseml.recipe import Plan, load_plan
from sparseml.session import checkpoint
from sparseml.session.callback import RecipeCallback, RecipeRate
from sparseml.session.distributed import one_device, rebuild, refuse_sharding
from sparseml.session.pushing import PushingTrainer
from sparseml.session.sampling import EpochCallback, EpochSampler, LengthGroupedSampler, ShareSampler
from sparseml.session.session import Session

TEACHER = "teacher_"
"""The prefix of batch keys that hold the teacher's outputs, computed beforehand, such as `teacher_logits`."""


class RecipeTrainer(PushingTrainer):
    """Trains a Transformers model under a recipe.

    Args:
        recipe: a plan, or anything that `load_plan` reads; None trains as the Trainer does.
        recipe_args: overrides of the recipe's variables.
        teacher: a model for the recipe's distillation; it runs on every batch. Not needed where the batches
            carry its outputs (`teacher_logits`), computed once and reused in every epoch (`distillation/logits.py`).
        distance: of the model's outputs to the teacher's, as the task defines it; distillation needs it.
        base: recipe and state of the model that the training starts from (`models.starting_point`); saved first.
        allow_dense_start: accept a transfer recipe on weights that are not sparse.
        task_loss: of the model's outputs and the batch's labels, in the place of the model's own loss; what the
            recipe's modifiers add is mixed with it likewise.
        has_no_loss: the model returns no loss; only what the recipe's modifiers add is learned.
        evaluation: the task's own, on encoded rows; where it gives None, the Trainer's.
        pooling: of the logits of a text's windows, where evaluated rows are windows ("mean" or "max"): metrics and
            predictions are of texts, in their order. The loss is of windows.
        *args, **kwargs: the Trainer's own.

    Where the recipe says the number of epochs or the learning rate, the arguments' are not used; `max_steps` still
    ends the training early.

    Raises:
        RecipeError, ModifierError: the recipe cannot be carried out on this model.
    """

    compute_metrics: Any

    def __init__(
        self,
        *args: Any,
        recipe: Plan | str | Path | None = None,
        recipe_args: str | Mapping[str, Any] | None = None,
        teacher: nn.Module | None = None,
        distance: Distance | None = None,
        base: checkpoint.Saved | None = None,
        allow_dense_start: bool = False,
        task_loss: Callable[[Mapping[str, Any], Tensor], Tensor] | None = None,
        has_no_loss: bool = False,
        evaluation: Callable[[RecipeTrainer, Any], dict[str, float] | None] | None = None,
        pooling: str = "mean",
        **kwargs: Any,
    ) -> None:
        asked = kwargs.get("args", args[1] if len(args) > 1 else None)
        folder = Path(asked.output_dir).absolute() if asked is not None else Path.cwd()
        for note in one_device(asked) if asked is not None else ():
            say(note)
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        super().__init__(*args, **kwargs)
        if self.args.should_save:
            for path in missing:
                path.rmdir()  # the Trainer creates them at once; here they are created with the first file
        self.session: Session | None = None
        self.base = base
        self._pooling = pooling
        self._task_loss, self._has_no_loss, self._evaluation = task_loss, has_no_loss, evaluation
        # Models average their loss over the batch: accumulated gradients are divided by the number of batches.
        self.model_accepts_loss_kwargs = False
        self.add_callback(EpochCallback())
        if recipe is None:
            return
        refuse_sharding(self.args.fsdp)
        plan = recipe if isinstance(recipe, Plan) else load_plan(recipe, recipe_args)
        self.session = Session(plan, self.model, allow_dense_start)
        run = self.session.run
        run.seed, run.rank, run.world_size = self.args.seed, self.args.process_index, self.args.world_size
        run.batches = self._training_batches
        run.distance = distance
        self.session.resized = lambda: rebuild(self.model_wrapped)
        if teacher is not None:
            self.set_teacher(teacher)
        schedule = self.session.schedule
        if schedule.epochs is not None:
            self.args.num_train_epochs = schedule.epochs
        elif schedule.steps is not None:
            self.args.max_steps = schedule.steps
        if is_quantized(self.model) and (self.args.bf16_full_eval or self.args.fp16_full_eval):
            self.args.bf16_full_eval = self.args.fp16_full_eval = False
            run.notes.append("Evaluation stays in float32: the grid of int8 is finer than half precision.")
        self._bridge = RecipeCallback(self.session, getattr(self.args, "best_model_after_epoch", None))
        self.add_callback(self._bridge)

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> Any:
        """As the Trainer's; on resume the modifiers' state is loaded first."""
        if resume_from_checkpoint is True:
            resume_from_checkpoint = str(checkpoint.newest(Path(self.args.output_dir)))
        if resume_from_checkpoint:
            checkpoint.refuse_unfinished(Path(resume_from_checkpoint))
            checkpoint.load_state(self.session, self.base, Path(resume_from_checkpoint))
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def not_yet_final(self, step: int) -> bool:
        """Whether the model after this many steps is not yet what the recipe makes; see `RecipeCallback`."""
        return self.session is not None and self._bridge.not_yet_final(step)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """As the Trainer's, but not where a callback ended the training before it: the Trainer asks after a step."""
        if not self.control.should_training_stop:
            super()._run_epoch(*args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As the Trainer's, but the random state stays: weights must not depend on how often a run is evaluated."""
        with torch.random.fork_rng(devices=[]):
            rows = args[0] if args else kwargs.get("eval_dataset")
            own = self._evaluation(self, rows or self.eval_dataset) if self._evaluation is not None else None
            if own is None:
                scores: dict[str, float] = super().evaluate(*args, **kwargs)
                return scores
        self.log(dict(own))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, own)
        return own

    def evaluation_loop(self, dataloader: DataLoader, *args: Any, **kwargs: Any) -> Any:
        """As the Trainer's; where the rows are windows of texts, its outputs are of the texts."""
        rows, score = dataloader.dataset, self.compute_metrics
        if not has_windows(rows):
            return super().evaluation_loop(dataloader, *args, **kwargs)

        def pooled(found: Any) -> Any:
            """A tuple of arrays or an array, by text."""
            if isinstance(found, tuple):
                return tuple(map(pooled, found))
            return by_document(found, rows, self._pooling)

        def of_texts(evaluated: Any) -> dict[str, float]:
            assert score is not None
            truth = by_document(evaluated.label_ids, rows, "first")
            found: dict[str, float] = score(EvalPrediction(pooled(evaluated.predictions), truth))
            return found

        self.compute_metrics = of_texts if score is not None else None
        try:
            output = super().evaluation_loop(dataloader, *args, **kwargs)
        finally:
            self.compute_metrics = score
        truth = None if output.label_ids is None else by_document(output.label_ids, rows, "first")
        found = None if output.predictions is None else pooled(output.predictions)
        return output._replace(predictions=found, label_ids=truth)

    def set_teacher(self, teacher: nn.Module) -> None:
        """Distil from a model that runs on every training batch."""
        assert self.session is not None
        self.session.run.teacher = teacher.to(self.args.device).eval().requires_grad_(False)
        if self.args.torch_compile:
            teacher.compile(backend=self.args.torch_compile_backend, mode=self.args.torch_compile_mode)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The task's loss; in training, with what the recipe's modifiers add to it."""
        keys = [key for key in inputs if key.startswith(TEACHER)]
        stored = {key.removeprefix(TEACHER): inputs.pop(key) for key in keys}
        if self._has_no_loss:
            outputs = model(**inputs)
            loss = 0.0 * next(iter(outputs.values())).reshape(-1)[0].float()
        else:
            loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
            if self._task_loss is not None:
                loss = self._task_loss(outputs, inputs["labels"])
        if self.session is not None and model.training:
            self.session.run.batch = inputs
            loss = self.session.mix_loss(loss, outputs, self._teacher_outputs(inputs, stored))
        if model.training and self._shares_rows:
            loss = loss * self._weight(inputs)
        return (loss, outputs) if return_outputs else loss

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """As the Trainer's; calls the modifiers after the last backward pass of an optimizer step."""
        loss: Tensor = super().training_step(*args, **kwargs)
        if self.session is not None and self.accelerator.sync_gradients:
            scaler = self.accelerator.scaler
            self.session.run.gradient_scale = scaler.get_scale() if scaler is not None else 1.0
            self.session.after_backward()
        return loss

    def clock(self) -> Clock:
        """How long an epoch and the run are, in optimizer steps."""
        values = super().set_initial_training_values(self.args, self.get_train_dataloader())
        return Clock(steps_per_epoch=values[1], total_steps=values[6])

    def set_initial_training_values(self, args: Any, dataloader: DataLoader) -> Any:
        """As the Trainer's; tells the callback the lengths of run and epoch."""
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
            # A sharded model is gathered from all processes.
            super().save_model(str(folder), _internal_call=True)
            return
        with checkpoint.clear_write_errors(folder), temporary_folder(folder / "model") as temporary:
            super().save_model(str(temporary), _internal_call=True)
            checkpoint.save_state(self.session, self.base, temporary)
            for name in checkpoint.OWN_FILES:
                if not (temporary / name).exists():
                    (folder / name).unlink(missing_ok=True)  # of an older model's recipe
            for path in sorted(temporary.iterdir()):
                give_usual_mode(path)
                path.replace(folder / path.name)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save")

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """As the Trainer's, unless the folder has a card: a training command writes one of its own."""
        if not (Path(self.args.output_dir) / "README.md").exists():
            super().create_model_card(*args, **kwargs)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"
        with checkpoint.clear_write_errors(folder), checkpoint.replacing(folder, self.args.should_save):
            super()._save_checkpoint(model, trial)
        anew = getattr(self.args, "overwrite_output_dir", False) and self._initial_global_step == 0
        if anew and self.args.should_save:
            checkpoint.remove_later(folder)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        if self.session is not None and self.state.best_model_checkpoint is not None:
            checkpoint.load_state(self.session, self.base, Path(self.state.best_model_checkpoint))

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        dataset = train_dataset if train_dataset is not None else self.train_dataset
        if getattr(dataset, "whole_batches", False):
            return EpochSampler(len(dataset))
        grouped = self.args.train_sampling_strategy == "group_by_length"
        column = self.args.length_column_name
        if not grouped or column not in getattr(dataset, "column_names", ()):
            return super()._get_train_sampler(train_dataset)
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        seed = self.args.data_seed if self.args.data_seed is not None else self.args.seed
        return LengthGroupedSampler(numbers(dataset, column), batch, seed)

    def _get_dataloader(
        self, dataset: Any, description: str, batch_size: int, *args: Any, **kwargs: Any
    ) -> DataLoader:
        """As the Trainer's; of a dataset whose items are whole batches an item at a time."""
        batch_size = 1 if getattr(dataset, "whole_batches", False) else batch_size
        loader: DataLoader = super()._get_dataloader(dataset, description, batch_size, *args, **kwargs)
        if kwargs.get("is_training") and self.args.world_size > 1:
            self._share_rows(loader)
        return loader

    @property
    def _shares_rows(self) -> bool:
        """Whether the rows of a step are shared out among processes; whole batches count alike."""
        return self.args.world_size > 1 and not getattr(self.train_dataset, "whole_batches", False)

    def _share_rows(self, loader: DataLoader) -> None:
        """Give each process its share of an epoch's last rows, in place; see `ShareSampler`."""
        wrapper: Any = loader.batch_sampler
        inner = getattr(wrapper, "batch_sampler", None)
        if type(inner) is not BatchSampler:  # Transformers' own that knows of processes
            return
        wrapper.batch_sampler = ShareSampler(
            inner.sampler, inner.batch_size, self.args.process_index, self.args.world_size, inner.drop_last
        )
        # What is left of Accelerate's wrapper passes batches on, as Transformers has it do for its own sampler.
        wrapper.num_processes, wrapper.process_index, wrapper.even_batches = 1, 0, False

    def _weight(self, inputs: Mapping[str, Any]) -> Tensor:
        """The weight of this process's mean loss in the mean of all: where shares of a step's rows differ in size."""
        rows = torch.tensor(float(len(next(iter(inputs.values())))), device=self.args.device)
        return rows * self.args.world_size / sum_over_processes(rows.clone())

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler[int] | None:
        """In the rows' own order; the Trainer's groups evaluation rows by length, too, and predictions with them."""
        return SequentialSampler(eval_dataset) if self.args.world_size <= 1 else None

    @torch.no_grad()
    def _teacher_outputs(self, inputs: Mapping[str, Any], stored: dict[str, Tensor]) -> Mapping[str, Tensor]:
        """The teacher's outputs by name: from the batch, and from a forward pass where one is needed."""
        assert self.session is not None
        at_work = self.session.at_work
        teacher = self.session.run.teacher
        live = not stored or any(modifier.needs_teacher_model and not modifier.rests for modifier in at_work)
        if teacher is None or not live or not any(modifier.needs_teacher for modifier in at_work):
            return stored
        with self.accelerator.autocast():
            answers: Mapping[str, Tensor] = teacher(**{key: inputs[key] for key in inputs if key != "labels"})
        # What was stored is in the order of the student's classes.
        return {**answers, **stored}

    def _training_batches(self) -> Iterator[Batch]:
        """An epoch of training batches; see `Run.batches`.

        Sampling and collating (masked tokens) draw from a random state of their own, seeded by the run's seed.
        """
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.args.seed)
            loader = self.get_train_dataloader()
            # Not Accelerate's wrapper, which would register as the active loader and stay so when left early.
            batches = iter(getattr(loader, "base_dataloader", loader))
            state = torch.get_rng_state()
        while True:
            with torch.random.fork_rng(devices=[]):
                torch.set_rng_state(state)
                batch = next(batches, None)
                state = torch.get_rng_state()
            if batch is None:
                return
            yield self._prepare_inputs({key: batch[key] for key in batch if not key.startswith(TEACHER)})
