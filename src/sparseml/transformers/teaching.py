"""Finding the teacher that a run names, and giving its logits to every training row."""

from __future__ import annotations

from typing import Any

import numpy as np

from resparse.console import say, warn
from sparseml.data import tokenize
from sparseml.modifiers.distillation import DistillationModifier
from sparseml.session.collate import Collate
from sparseml.session.models import (
    load_classifier,
    load_config,
    load_tokenizer,
    resolve,
    restore_quantization,
)
from sparseml.session.teacher import (
    DISABLED,
    SELF,
    TeacherError,
    agreement,
    class_order,
    copy_of,
    teacher_logits,
)
from sparseml.session.trainer import TEACHER_LOGITS, RecipeTrainer
from sparseml.training.arguments import Arguments
from sparseml.training.prepare import Prepared


def add_teacher(
    arguments: Arguments, trainer: RecipeTrainer, prepared: Prepared, rows: dict[str, Any]
) -> None:
    """Ask the teacher once for every training row, and put its logits into the trainer's rows.

    Raises:
        ModelError, TeacherError: there is no such teacher, or it tells other classes apart.
    """
    called = arguments.training.distill_teacher
    if trainer.session is None or not trainer.session.schedule.of(DistillationModifier) or called == DISABLED:
        return
    if called is None:
        warn(
            "The recipe distils, but no --distill_teacher is given: training on the labels alone. "
            "Name a teacher (a folder, a zoo: stub, a Hub id, self), or say `--distill_teacher disable`."
        )
        return
    if called == SELF:
        teacher, order, own_rows, tokenizer = copy_of(trainer.model), _identity(prepared), rows["train"], None
    else:
        teacher, order, own_rows, tokenizer = _other(arguments, called, prepared, rows)
    collate = Collate(tokenizer or prepared.tokenizer)
    logits = teacher_logits(
        teacher,
        own_rows.remove_columns("labels") if "labels" in own_rows.column_names else own_rows,
        collate,
        arguments.training.per_device_eval_batch_size,
        arguments.training.device,
        order,
    )
    share = agreement(logits, rows["train"]["labels"], prepared.labels.kind)
    if share is not None:
        say(f"The teacher {called} agrees with {share:.1%} of the training labels.")
    trainer.train_dataset = with_logits(rows["train"], logits)


def with_logits(rows: Any, logits: np.ndarray[Any, Any]) -> Any:
    """A tokenized dataset with the teacher's logits, [rows, labels], as a column."""
    import pyarrow
    from datasets import Dataset

    flat = pyarrow.array(logits.reshape(-1))
    column = pyarrow.FixedSizeListArray.from_arrays(flat, logits.shape[1])
    return Dataset(rows.data.table.append_column(TEACHER_LOGITS, column))


def _identity(prepared: Prepared) -> list[int]:
    return list(range(prepared.labels.num_labels))


def _other(arguments: Arguments, called: str, prepared: Prepared, rows: dict[str, Any]) -> tuple[Any, ...]:
    source = resolve(called, token=arguments.model.token, cache_dir=arguments.model.cache_dir)
    order, notes = class_order(load_config(source), prepared.labels, called)
    loaded = load_classifier(source)
    if loaded.new:
        raise TeacherError(
            f"The teacher {called} is no trained classifier: it has no weights for {', '.join(loaded.new[:2])}."
        )
    restore_quantization(loaded.model, source.folder)
    tokenizer = load_tokenizer(source)
    if not arguments.model.use_teacher_tokenizer and same_tokens(tokenizer, prepared.tokenizer):
        own_rows, tokenizer = rows["train"], prepared.tokenizer
    else:
        if not arguments.model.use_teacher_tokenizer:
            notes.append("the teacher has another vocabulary: its own tokenizer is used for it.")
        data = prepared.data
        assert data.train is not None
        own_rows = tokenize(data.train, data.columns, tokenizer, arguments.data.max_seq_length)
    for note in notes:
        say(note)
    return loaded.model, order, own_rows, tokenizer


def same_tokens(first: Any, second: Any) -> bool:
    """Whether two tokenizers give the same ids to the same pieces."""
    return first.get_vocab() == second.get_vocab() and type(first) is type(second)
