"""The command `sparseml.transformers.text_classification`: arguments in, calls out."""

from __future__ import annotations

from typing import Any

from transformers import PrinterCallback, set_seed
from transformers import ProgressCallback as TqdmCallback

from resparse.console import run as run_command
from resparse.console import say, warn
from sparseml.data import tokenize
from sparseml.distillation.logits import add_teacher
from sparseml.metrics import metrics_for
from sparseml.recipe import load_plan
from sparseml.session.collate import Collate
from sparseml.session.models import starting_point
from sparseml.session.progress import ProgressCallback
from sparseml.session.sampling import by_length
from sparseml.session.trainer import RecipeTrainer
from sparseml.transformers import outputs
from sparseml.transformers.arguments import Arguments, parse
from sparseml.transformers.guided.choices import finished, fit, resumable
from sparseml.transformers.guided.conclusion import conclude
from sparseml.transformers.preparation import Prepared, prepare, tokenized
from sparseml.transformers.resume import checkpoint_to_resume, finished_by_another, set_aside


def cli() -> int:
    """The console command; exit code 2 after a mistake of the user's."""

    def work() -> None:
        main()

    return run_command(work)


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


def run(arguments: Arguments) -> dict[str, Any]:
    """Carry out parsed arguments; returns the report."""
    guided = arguments.guided
    if guided is not None and (done := finished(guided)) is not None:
        return done
    for note in arguments.notes:
        say(note)
    with resumable(guided):
        return _run(arguments)


def _run(arguments: Arguments) -> dict[str, Any]:
    training, guided = arguments.training, arguments.guided
    same = guided is not None and guided.folder.state != "new"
    in_the_way = None if same else finished_by_another(arguments)
    resume = checkpoint_to_resume(training) if in_the_way is None else None
    set_seed(training.seed)
    prepared = prepare(arguments)
    if guided is not None:
        fit(guided, training, arguments.data, prepared)
    rows = tokenized(arguments, prepared)
    trainer = _trainer(arguments, prepared, rows)
    metrics: dict[str, Any] = {}
    if training.do_train:
        _add_teacher(arguments, trainer, prepared, rows)
        if in_the_way is not None:
            set_aside(in_the_way)
        if guided is not None:
            guided.folder.begin()
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
    report = outputs.report(arguments, trainer, prepared, metrics, show=guided is None)
    return report if guided is None else conclude(arguments, prepared, report)


def _trainer(arguments: Arguments, prepared: Prepared, rows: dict[str, Any]) -> RecipeTrainer:
    training, labels = arguments.training, prepared.labels
    plan = load_plan(training.recipe, training.recipe_args) if arguments.learns and training.recipe else None
    base = starting_point(prepared.loaded.model, prepared.source.folder, plan)
    training.remove_unused_columns = False  # the collator takes what the model needs
    half = training.bf16 or training.fp16
    trainer = RecipeTrainer(
        model=prepared.loaded.model,
        args=training,
        recipe=plan,
        base=base,
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
            trainer.session.rest_without_teacher()
        outputs.print_schedule(trainer)
        if training.distill_teacher not in (None, "disable") and not trainer.session.needs_teacher:
            warn("--distill_teacher is not used: the recipe has no DistillationModifier.")
    return trainer


def _add_teacher(
    arguments: Arguments, trainer: RecipeTrainer, prepared: Prepared, rows: dict[str, Any]
) -> None:
    data = prepared.data
    add_teacher(
        trainer,
        arguments.training.distill_teacher,
        rows["train"],
        prepared.labels,
        prepared.tokenizer,
        encode=lambda tokenizer: tokenize(data.train, data.columns, tokenizer, arguments.data.max_seq_length),
        collate=Collate,
        token=arguments.model.token,
        cache_dir=arguments.model.cache_dir,
        own_tokenizer=arguments.model.use_teacher_tokenizer,
    )


if __name__ == "__main__":
    raise SystemExit(cli())
