"""The command `sparseml.transformers.text_classification`: arguments in, calls out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import PrinterCallback, set_seed
from transformers import ProgressCallback as TqdmCallback

from resparse.console import run as run_command
from resparse.console import say, warn
from sparseml.data import DataOptions, Labels, TextData, load_text_data, tokenize
from sparseml.metrics import metrics_for
from sparseml.modifiers.distillation import DistillationModifier
from sparseml.session.collate import Collate
from sparseml.session.models import (
    Loaded,
    Source,
    load_classifier,
    load_config,
    load_tokenizer,
    resolve,
    restore_quantization,
)
from sparseml.session.progress import ProgressCallback
from sparseml.session.sampling import by_length
from sparseml.session.trainer import RecipeTrainer
from sparseml.transformers import outputs, teaching
from sparseml.transformers.arguments import Arguments, parse
from sparseml.transformers.resume import checkpoint_to_resume


def cli() -> int:
    """The console command; exit code 2 after a mistake of the user's."""
    return run_command(lambda: _ignore(main()))


def main(argv: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
    """Train, evaluate and predict as the arguments say.

    Args:
        argv: flags; by default those of the process, unless keywords are given.
        kwargs: arguments by name.

    Returns:
        The report, as in `report.json`.

    Raises:
        UserError: something that the user can mend.
    """
    return run(parse(argv, **kwargs))


@dataclass
class Prepared:
    """All that a run works on."""

    data: TextData
    labels: Labels
    source: Source
    loaded: Loaded
    tokenizer: Any


def run(arguments: Arguments) -> dict[str, Any]:
    """Carry out parsed arguments; returns the report."""
    training = arguments.training
    for note in arguments.notes:
        say(note)
    resume = checkpoint_to_resume(training)
    set_seed(training.seed)
    prepared = prepare(arguments)
    rows = _tokenized(arguments, prepared)
    trainer = _trainer(arguments, prepared, rows)
    metrics: dict[str, Any] = {}
    if training.do_train:
        teaching.add_teacher(arguments, trainer, prepared, rows)
        metrics |= outputs.train(trainer, resume)
    elif arguments.data.one_shot:
        outputs.calibrate(trainer)
    if training.do_eval:
        metrics |= outputs.evaluate(trainer, rows)
    if training.do_predict:
        metrics |= outputs.predict(trainer, rows, prepared.data, prepared.labels)
    if arguments.data.num_export_samples:
        samples = next(rows[name] for name in ("validation", "test", "train") if name in rows)
        outputs.export_samples(trainer, samples, arguments.data.num_export_samples)
    return outputs.report(arguments, trainer, prepared, metrics)


def prepare(arguments: Arguments) -> Prepared:
    """Load data, model and tokenizer, and say what was chosen."""
    asked, training = arguments.model, arguments.training
    source = resolve(asked.model_name_or_path, asked.model_revision, asked.token, asked.cache_dir)
    config_source = resolve(asked.config_name) if asked.config_name else source
    config = load_config(config_source)
    learns = training.do_train or arguments.data.one_shot
    known = None if learns else outputs.labels_of(config)
    data = load_text_data(_data_options(arguments, known))
    for note in data.notes:
        say(note)
    labels = data.labels or known
    assert labels is not None
    if learns:
        config = load_config(
            config_source,
            num_labels=labels.num_labels,
            id2label=labels.id2label,
            label2id=labels.label2id,
            problem_type=labels.kind,
            finetuning_task=arguments.data.task_name,
        )
    tokenizer_source = resolve(asked.tokenizer_name) if asked.tokenizer_name else source
    tokenizer = load_tokenizer(tokenizer_source, asked.use_fast_tokenizer)
    loaded = load_classifier(source, config)
    for note in loaded.notes:
        say(note)
    return Prepared(data, labels, source, loaded, tokenizer)


def _data_options(arguments: Arguments, known: Labels | None) -> DataOptions:
    asked, training = arguments.data, arguments.training
    return DataOptions(
        task_name=asked.task_name,
        dataset_name=asked.dataset_name,
        dataset_config_name=asked.dataset_config_name,
        train_file=asked.train_file,
        validation_file=asked.validation_file,
        test_file=asked.test_file,
        validation_ratio=asked.validation_ratio,
        eval_on_test=asked.eval_on_test,
        input_column_names=asked.input_column_names,
        label_column_name=asked.label_column_name,
        do_regression=asked.do_regression,
        max_train_samples=asked.max_train_samples,
        max_eval_samples=asked.max_eval_samples,
        max_predict_samples=asked.max_predict_samples,
        cache_dir=arguments.model.cache_dir,
        token=arguments.model.token,
        seed=training.seed,
        needs_train=training.do_train or asked.one_shot,
        needs_eval=training.do_eval or training.eval_strategy != "no",
        needs_predict=training.do_predict,
        known_labels=known,
    )


def _tokenized(arguments: Arguments, prepared: Prepared) -> dict[str, Any]:
    """The splits that the run needs, tokenized for the student, by name."""
    asked = arguments.data
    limit = prepared.tokenizer.model_max_length
    if asked.max_seq_length > limit:
        warn(f"--max_seq_length {asked.max_seq_length} is more than the model takes: {limit} used instead.")
    data = prepared.data
    splits = {
        "train": data.train,
        "validation": data.validation,
        "validation_mismatched": data.validation_mismatched,
        "test": data.test,
        "test_mismatched": data.test_mismatched,
    }
    return {
        name: tokenize(
            split,
            data.columns,
            prepared.tokenizer,
            asked.max_seq_length,
            pad_to_max_length=asked.pad_to_max_length,
        )
        for name, split in splits.items()
        if split is not None
    }


def _trainer(arguments: Arguments, prepared: Prepared, rows: dict[str, Any]) -> RecipeTrainer:
    training, labels = arguments.training, prepared.labels
    learns = training.do_train or arguments.data.one_shot
    recipe = training.recipe if learns else None
    base_plan = restore_quantization(prepared.loaded.model, prepared.source.folder)
    training.remove_unused_columns = False  # the collator takes what the model needs
    half = training.bf16 or training.fp16
    trainer = RecipeTrainer(
        model=prepared.loaded.model,
        args=training,
        recipe=recipe,
        recipe_args=training.recipe_args,
        base_plan=base_plan if learns else None,
        allow_dense_start=training.allow_dense_start,
        train_dataset=rows.get("train"),
        eval_dataset=by_length(rows["validation"])[0] if "validation" in rows else None,
        processing_class=prepared.tokenizer,
        data_collator=Collate(
            prepared.tokenizer, labels.kind != "single_label_classification", multiple_of=8 if half else None
        ),
        compute_metrics=metrics_for(arguments.data.task_name, labels),
    )
    for callback in (PrinterCallback, TqdmCallback):
        trainer.remove_callback(callback)
    if not training.disable_tqdm:
        trainer.add_callback(ProgressCallback(trainer.session))
    if trainer.session is not None:
        for note in trainer.session.run.notes:
            say(note)
        if training.distill_teacher in (None, "disable"):
            for modifier in trainer.session.schedule.of(DistillationModifier):
                modifier.rest()
        outputs.print_schedule(trainer)
        if training.distill_teacher not in (None, "disable") and not trainer.session.schedule.of(
            DistillationModifier
        ):
            warn("--distill_teacher is not used: the recipe has no DistillationModifier.")
    return trainer


def _ignore(_: object) -> None:
    return None


if __name__ == "__main__":
    raise SystemExit(cli())
