"""A teacher's logits, computed once for every training row and attached to the rows.

The rows of a run are fixed: one pass of the teacher serves all epochs, and its tokenizer may be another one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification

from resparse.console import say, warn
from resparse.progress import track
from sparseml.data.growing_table import dataset_of
from sparseml.data.label_encoding import Labels
from sparseml.data.long_texts import DOCUMENT, by_document, has_windows
from sparseml.distillation.teacher import (
    DISABLED,
    SELF,
    Teacher,
    TeacherError,
    copy_of,
    load_teacher,
    same_tokens,
)
from sparseml.processes import sum_over_processes
from sparseml.session.sampling import by_length

if TYPE_CHECKING:
    from sparseml.session.trainer import RecipeTrainer

COLUMN = "teacher_logits"


def add_teacher(
    trainer: RecipeTrainer,
    called: str | None,
    rows: Any,
    labels: Labels | None,
    tokenizer: Any,
    encode: Callable[[Any], Any],
    collate: Callable[[Any], Callable[[Any], dict[str, Any]]],
    model_class: Any = AutoModelForSequenceClassification,
    token: str | bool | None = None,
    cache_dir: str | None = None,
    own_tokenizer: bool = False,
    on_every_batch: bool = False,
    new: Sequence[str] = (),
    pooling: str = "mean",
) -> None:
    """Give a trainer whose recipe distils its teacher: as a column of its training rows, or as a model.

    Args:
        trainer: without a recipe that distils, nothing is done.
        called: what the user named: a folder, a stub, a Hub id, `self`, `disable`; None warns.
        rows: the training rows, tokenized by the student's `tokenizer`, with `length` and `labels`.
        labels: the student's; None where the task has no classes to match.
        encode: from a tokenizer to the training rows tokenized with it.
        collate: from a tokenizer to what makes batches of such rows.
        own_tokenizer: the teacher's own tokenizer, also where both have the same vocabulary.
        on_every_batch: the teacher must run on every batch, such as for outputs of every token; so it does where
            a modifier needs the model itself.
        pooling: of the logits of a text's windows, where rows are windows. A teacher of the same vocabulary answers
            each window; another's windows are others, and each of the student's gets the answer to its text.
        new: the student's parameters that were not trained yet: as `self`, it has no outputs to teach.

    Raises:
        ZooError, ModelError, TeacherError: there is no such teacher, or it does not suit the student.
    """
    if trainer.session is None or not trainer.session.needs_teacher or called == DISABLED:
        return
    if called is None:
        warn(
            "The recipe distils, but no --distill_teacher is given: training on the labels alone. "
            "Name a teacher (a folder, a zoo: stub, a Hub id, self), or say `--distill_teacher disable`."
        )
        return
    if called == SELF:
        if new and trainer.session.compares_outputs:
            raise TeacherError(
                f"--distill_teacher self would teach noise: {new[0].rpartition('.')[0]} is new, and says nothing yet. "
                "Train a model on these rows first, with a dense recipe or none, and name its folder as the teacher; "
                "or say `--distill_teacher disable`."
            )
        order = list(range(labels.num_labels)) if labels is not None else []
        teacher = Teacher(copy_of(trainer.model), tokenizer, order, [])
    else:
        teacher = load_teacher(called, labels, model_class, token, cache_dir)
    notes = list(teacher.notes)
    same = called == SELF or (not own_tokenizer and same_tokens(teacher.tokenizer, tokenizer))
    if not same and not own_tokenizer:
        notes.append("the teacher has another vocabulary: its own tokenizer is used for it.")
    in_order = teacher.order == sorted(teacher.order)
    live = trainer.session.needs_teacher_model
    if live and not same and not on_every_batch and trainer.session.rest_without_teacher_model():
        notes.append("its hidden states, of other tokens, are left out: its logits alone are distilled.")
        live = False
    if (on_every_batch and not (same and in_order)) or (live and not same):
        raise TeacherError(
            f"The teacher {called} would have to read the student's own batches, but its vocabulary or the order "
            "of its classes is another one: use a teacher with the student's."
        )
    for note in notes:
        say(note)
    if on_every_batch or live:
        trainer.set_teacher(teacher.model)
        if on_every_batch or in_order:
            return
    assert labels is not None, "outputs of a row that can be stored are those of its labels"
    own_rows = rows if same else encode(teacher.tokenizer)
    logits = teacher_logits(
        teacher.model,
        own_rows.remove_columns("labels") if "labels" in own_rows.column_names else own_rows,
        collate(tokenizer if same else teacher.tokenizer),
        trainer.args.per_device_eval_batch_size,
        trainer.args.device,
        teacher.order,
        trainer.args.process_index,
        trainer.args.world_size,
    )
    logits = _by_text(logits, own_rows, rows, pooling)
    share = _agreement(logits, rows, labels.kind, pooling)
    if share is not None:
        say(f"The teacher {called} agrees with {share:.1%} of the training labels.")
    trainer.train_dataset = with_logits(rows, logits)


@torch.no_grad()
def teacher_logits(
    teacher: Any,
    rows: Any,
    collate: Callable[[Any], dict[str, Any]],
    batch_size: int,
    device: torch.device,
    order: Sequence[int],
    process: int = 0,
    processes: int = 1,
) -> NDArray[np.float32]:
    """The teacher's logits, [rows, labels], float32, in the rows' order and the student's order of classes.

    Of several processes each asks it about some of the batches, and all get all answers.

    Args:
        teacher: a classifier.
        rows: tokenized by the teacher's tokenizer, with a `length` column: those of like length share a batch.
        collate: makes its batches.
        order: the teacher's output for each of the student's classes (`class_order`).
        process, processes: which this one is, and how many there are.
    """
    teacher = teacher.to(device).eval()
    sorted_rows, index = by_length(rows)
    logits = np.zeros((len(rows), len(order)), dtype=np.float32)
    starts = range(0, len(rows), batch_size)[process::processes]
    for start in track(starts, "asking the teacher"):
        chosen = range(start, min(start + batch_size, len(rows)))
        batch = collate([sorted_rows[row] for row in chosen])
        fed = {key: value.to(device) for key, value in batch.items() if key != "labels"}
        answer = teacher(**fed)["logits"].float().cpu().numpy()
        logits[index[chosen.start : chosen.stop]] = answer[:, list(order)]
    answers: NDArray[np.float32] = sum_over_processes(torch.from_numpy(logits).to(device)).cpu().numpy()
    return answers


def with_logits(rows: Any, logits: NDArray[np.float32]) -> Any:
    """A tokenized dataset with the teacher's logits, [rows, labels], as a column."""
    import pyarrow

    flat = pyarrow.array(logits.reshape(-1))
    column = pyarrow.FixedSizeListArray.from_arrays(flat, logits.shape[1])
    return dataset_of(rows.data.table.append_column(COLUMN, column))


def _by_text(logits: NDArray[np.float32], own_rows: Any, rows: Any, pooling: str) -> NDArray[np.float32]:
    """For each of the student's `rows` the teacher's answer to its text, where its windows are others."""
    if own_rows is rows or not has_windows(rows):
        return logits
    answers: NDArray[np.float32] = by_document(logits, own_rows, pooling)[np.asarray(rows[DOCUMENT])]
    return answers


def _agreement(logits: NDArray[np.float32], rows: Any, kind: str, pooling: str) -> float | None:
    """`agreement` on the texts that the rows are, or are windows of."""
    truth: Any = np.asarray(rows["labels"])
    if has_windows(rows):
        logits, truth = by_document(logits, rows, pooling), by_document(truth, rows, "first")
    return agreement(logits, truth, kind)


def agreement(logits: NDArray[np.float32], labels: Sequence[Any], kind: str) -> float | None:
    """Share of rows on which the teacher says the label; None where that is not a single class."""
    if kind != "single_label_classification":
        return None
    return float((logits.argmax(axis=1) == np.asarray(labels)).mean())
