"""The teacher of a distillation: which one, whether it speaks of the same classes, and its logits, once.

The data of a run are fixed, so a teacher that is asked once for every row has said all it can say:
thirteen epochs need one pass, not thirteen.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resparse.errors import UserError
from resparse.progress import track
from sparseml.data.label_encoding import Labels
from sparseml.session.collate import Collate
from sparseml.session.sampling import by_length

DISABLED = "disable"
SELF = "self"


class TeacherError(UserError):
    """A teacher that cannot teach this student."""


def class_order(teacher_config: Any, labels: Labels, called: str) -> tuple[list[int], list[str]]:
    """Where each of the student's classes stands among the teacher's outputs.

    Args:
        teacher_config: the teacher's configuration.
        labels: the student's.
        called: what the user called the teacher.

    Returns:
        The teacher's output for each of the student's classes, and lines for the user.

    Raises:
        TeacherError: another number of classes, or names that cannot be matched.
    """
    theirs = [str(teacher_config.id2label[index]) for index in range(teacher_config.num_labels)]
    ours = list(labels.names)
    if len(theirs) != len(ours):
        raise TeacherError(
            f"The teacher {called} tells {len(theirs)} classes apart ({_listed(theirs)}), the data have "
            f"{len(ours)} ({_listed(ours)}). Use a teacher of the same task, or --distill_teacher disable."
        )
    identity = list(range(len(ours)))
    if labels.kind == "regression":
        return identity, []
    by_name = {_plain(name): index for index, name in enumerate(theirs)}
    wanted = [_plain(name) for name in ours]
    if len(by_name) == len(theirs) and set(wanted) == set(by_name):
        order = [by_name[name] for name in wanted]
        moved = (
            []
            if order == identity
            else [f"classes of the teacher put in our order, by name: {_listed(theirs)}"]
        )
        return order, moved
    if _nameless(theirs):
        return identity, [f"the teacher's classes have no names; taken in our order: {_listed(ours)}"]
    raise TeacherError(
        f"The classes of the teacher {called} ({_listed(theirs)}) cannot be matched by name with those of the data "
        f"({_listed(ours)}), and a wrong order would teach nonsense. Give the data the same class names (a column "
        "label_name beside the label, or names as labels), or set id2label in the teacher's config.json."
    )


@torch.no_grad()
def teacher_logits(
    teacher: Any,
    rows: Any,
    collate: Collate,
    batch_size: int,
    device: torch.device,
    order: Sequence[int],
) -> NDArray[np.float32]:
    """The teacher's logits for every row, in the rows' order and the student's order of classes.

    Args:
        teacher: a classifier.
        rows: tokenized by the teacher's tokenizer, with a `length` column.
        collate: makes its batches.
        batch_size: rows at a time; rows of like length go together, so that little is padded.
        device: where to compute.
        order: from `class_order`.

    Returns:
        [rows, labels], float32.
    """
    teacher = teacher.to(device).eval()
    sorted_rows, index = by_length(rows)
    logits = np.empty((len(rows), len(order)), dtype=np.float32)
    for start in track(range(0, len(rows), batch_size), "asking the teacher"):
        chosen = range(start, min(start + batch_size, len(rows)))
        batch = collate([sorted_rows[row] for row in chosen])
        fed = {key: value.to(device) for key, value in batch.items() if key != "labels"}
        answer = teacher(**fed)["logits"].float().cpu().numpy()
        logits[index[chosen.start : chosen.stop]] = answer[:, list(order)]
    return logits


def copy_of(student: Any) -> Any:
    """The teacher `self`: the student as it starts, frozen."""
    return copy.deepcopy(student).eval().requires_grad_(False)


def agreement(logits: NDArray[np.float32], labels: Sequence[Any], kind: str) -> float | None:
    """Share of rows on which the teacher says the label; None where that is not a single class."""
    if kind != "single_label_classification":
        return None
    return float((logits.argmax(axis=1) == np.asarray(labels)).mean())


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _nameless(names: Sequence[str]) -> bool:
    return all(_plain(name) in (f"label{index}", str(index)) for index, name in enumerate(names))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown}, ... ({len(names)})"
