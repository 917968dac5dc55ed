"""The teacher of a distillation: where it comes from, and whether its classes and vocabulary are the student's."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from transformers import AutoModelForSequenceClassification

from resparse.errors import UserError
from sparseml.data.class_names import are_default_names, listed, order_by_name
from sparseml.data.label_encoding import Labels
from sparseml.session.models import load_config, load_model, load_tokenizer, resolve, restore

DISABLED = "disable"
SELF = "self"


class TeacherError(UserError):
    """A teacher that cannot teach this student."""


@dataclass(frozen=True)
class Teacher:
    """A teacher that suits the student."""

    model: Any
    tokenizer: Any
    order: list[int]  # its output for each of the student's classes
    notes: list[str]  # lines for the user


def load_teacher(
    called: str,
    labels: Labels | None,
    model_class: Any = AutoModelForSequenceClassification,
    token: str | bool | None = None,
    cache_dir: str | None = None,
) -> Teacher:
    """Load the teacher that the user named: a folder, a stub or a Hub id.

    `labels` are the student's; None where the task has no classes to match.

    Raises:
        ZooError, ModelError, TeacherError: there is no such teacher, it was never trained, or its classes differ.
    """
    source = resolve(called, token=token, cache_dir=cache_dir)
    order, notes = class_order(load_config(source), labels, called) if labels is not None else ([], [])
    loaded = load_model(source, model_class)
    if loaded.new:
        raise TeacherError(
            f"The teacher {called} is no trained classifier: it has no weights for {', '.join(loaded.new[:2])}."
        )
    restore(loaded.model, source.folder)
    return Teacher(loaded.model, load_tokenizer(source), order, notes)


def copy_of(student: Any) -> Any:
    """The teacher `self`: the student as it starts, frozen."""
    return copy.deepcopy(student).eval().requires_grad_(False)


def same_tokens(first: Any, second: Any) -> bool:
    """Whether two tokenizers give the same ids to the same pieces."""
    return first.get_vocab() == second.get_vocab() and type(first) is type(second)


def class_order(teacher_config: Any, labels: Labels, called: str) -> tuple[list[int], list[str]]:
    """The teacher's output for each of the student's classes, and lines for the user.

    Raises:
        TeacherError: another number of classes, or names that cannot be matched.
    """
    theirs = [str(teacher_config.id2label[index]) for index in range(teacher_config.num_labels)]
    ours = list(labels.names)
    if len(theirs) != len(ours):
        raise TeacherError(
            f"The teacher {called} tells {len(theirs)} classes apart ({listed(theirs)}), the data have "
            f"{len(ours)} ({listed(ours)}). Use a teacher of the same task, or --distill_teacher disable."
        )
    identity = list(range(len(ours)))
    if labels.kind == "regression":
        return identity, []
    order = order_by_name(theirs, ours)
    if order is not None:
        note = f"classes of the teacher put in our order, by name: {listed(theirs)}"
        return order, [note] if order != identity else []
    if are_default_names(theirs):
        return identity, [f"the teacher's classes have no names; taken in our order: {listed(ours)}"]
    raise TeacherError(
        f"The classes of the teacher {called} ({listed(theirs)}) cannot be matched by name with those of the data "
        f"({listed(ours)}), and a wrong order would teach nonsense. Give the data the same class names (a column "
        "label_name beside the label, or names as labels), or set id2label in the teacher's config.json."
    )
