"""A teacher's classes and vocabulary, its logits computed beforehand, and how a trainer gets either."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import nn

from sparseml.data import Labels
from sparseml.distillation.logits import add_teacher, agreement, teacher_logits
from sparseml.distillation.teacher import TeacherError, class_order
from sparseml.modifiers import MODIFIERS
from sparseml.modifiers.base import Clock
from sparseml.session.trainer import RecipeTrainer
from sparseml.tasks.text_classification import LabelCollate
from support import tiny
from support.trainers import classifier, dataset, trainer

pytestmark = pytest.mark.usefixtures("one_thread")

THREE = Labels("single_label_classification", ("anger", "joy", "sadness"))


def config(*names: str) -> Any:
    return SimpleNamespace(num_labels=len(names), id2label=dict(enumerate(names)))


@pytest.mark.parametrize(
    ("names", "order", "words"),
    [
        (("anger", "joy", "sadness"), [0, 1, 2], ""),
        (("sadness", "anger", "joy"), [1, 2, 0], "put in our order"),
        (("Sad-ness", "ANGER", "joy"), [1, 2, 0], "put in our order"),
        (("LABEL_0", "LABEL_1", "LABEL_2"), [0, 1, 2], "no names"),
        (("0", "1", "2"), [0, 1, 2], "no names"),
    ],
)
def test_teacher_s_classes_by_name(names: tuple[str, ...], order: list[int], words: str) -> None:
    found, notes = class_order(config(*names), THREE, "it")
    assert found == order
    assert words in " ".join(notes)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("anger", "joy"), "tells 2 classes apart"),
        (("anger", "joy", "fear"), "cannot be matched by name"),
        (("anger", "joy", "JOY"), "cannot be matched by name"),
        (("LABEL_2", "LABEL_1", "LABEL_0"), "cannot be matched by name"),
    ],
)
def test_teacher_of_other_classes_is_refused(names: tuple[str, ...], words: str) -> None:
    with pytest.raises(TeacherError, match=words) as caught:
        class_order(config(*names), THREE, "my-teacher")
    assert "my-teacher" in str(caught.value)


def test_regression_has_no_names_to_match() -> None:
    assert class_order(config("LABEL_0"), Labels("regression", ("score",)), "it") == ([0], [])


class Teacher(nn.Module):
    """Says for each row its first token behind [CLS], and twice that; counts the rows that it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        assert not self.training and not torch.is_grad_enabled()
        self.seen += len(input_ids)
        told = input_ids[:, 1].double()
        return {"logits": torch.stack([told, 2 * told], dim=1)}


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_teacher_s_logits_are_in_the_rows_order_and_in_ours(batch_size: int) -> None:
    generator = np.random.default_rng(0)
    ids = [[2, *generator.integers(5, 30, generator.integers(1, 9)).tolist(), 3] for _ in range(13)]
    rows = Dataset.from_dict(
        {"input_ids": ids, "attention_mask": [[1] * len(i) for i in ids], "length": [len(i) for i in ids]}
    )
    teacher = Teacher()
    found = teacher_logits(
        teacher, rows, LabelCollate(tiny.tokenizer()), batch_size, torch.device("cpu"), [1, 0]
    )
    assert teacher.seen == 13
    assert found.dtype == np.float32
    assert found.tolist() == [[2.0 * i[1], 1.0 * i[1]] for i in ids]


def test_agreement() -> None:
    logits = np.array([[2, 1], [0, 3], [5, 1]], dtype=np.float32)
    assert agreement(logits, [0, 1, 1], "single_label_classification") == pytest.approx(2 / 3)
    assert agreement(logits, [0.5, 1, 1], "regression") is None


# What a trainer is given.

RECIPE = "modifiers:\n  - !DistillationModifier\n      hardness: 1.0\n"


def teach(made: RecipeTrainer, called: str | None, **more: Any) -> list[Any]:
    """Add a teacher; returns the tokenizers that the rows were encoded anew with."""
    encoded: list[Any] = []

    def encode(tokenizer: Any) -> Any:
        encoded.append(tokenizer)
        return made.train_dataset

    add_teacher(made, called, made.train_dataset, THREE, tiny.tokenizer(), encode, LabelCollate, **more)
    return encoded


def teacher_folder(folder: Path, **more: Any) -> str:
    return str(tiny.bert(folder, **{"names": THREE.names, "seed": 3, "vocab_size": 40, **more}))


@pytest.mark.parametrize("called", ["self", "another"])
@pytest.mark.parametrize("why", ["asked for", "a modifier's wish"])
def test_a_teacher_on_every_batch_is_the_model_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, called: str, why: str
) -> None:
    if why == "a modifier's wish":
        monkeypatch.setattr(MODIFIERS["DistillationModifier"], "needs_teacher_model", True)
    folder = teacher_folder(tmp_path / "teacher")
    made = trainer(tmp_path / "run", RECIPE)
    encoded = teach(made, "self" if called == "self" else folder, on_every_batch=why == "asked for")
    assert made.session is not None and made.session.run.teacher is not None
    assert not encoded and "teacher_logits" not in made.train_dataset.column_names
    assert made.session.run.teacher is not made.model
    made.train()


@pytest.mark.parametrize(
    "other",
    [{"words": [*reversed(tiny.WORDS)]}, {"names": THREE.names[::-1]}],
    ids=["vocabulary", "order of classes"],
)
def test_a_teacher_on_every_batch_reads_the_student_s_batches(tmp_path: Path, other: dict[str, Any]) -> None:
    """Another vocabulary, or classes in another order, is no matter where its logits are computed beforehand."""
    folder = teacher_folder(tmp_path / "teacher", **other)
    made = trainer(tmp_path / "run", RECIPE)
    with pytest.raises(TeacherError, match="use a teacher with the student's"):
        teach(made, folder, on_every_batch=True)
    assert len(teach(made, folder)) == ("words" in other)
    assert np.asarray(made.train_dataset["teacher_logits"]).shape == (len(dataset()), 3)


HIDDEN_STATES = f"{RECIPE}  - !PerLayerDistillationModifier\n      optional: {{}}\n"


def test_hidden_states_of_another_vocabulary_are_left_out_where_the_recipe_allows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = teacher_folder(tmp_path / "teacher", words=[*reversed(tiny.WORDS)])
    with pytest.raises(TeacherError, match="use a teacher with the student's"):
        teach(trainer(tmp_path / "refused", HIDDEN_STATES.format(False)), folder)
    made = trainer(tmp_path / "run", HIDDEN_STATES.format(True))
    assert len(teach(made, folder)) == 1 and "logits alone" in capsys.readouterr().err
    assert made.session is not None and made.session.run.teacher is None
    assert [modifier.rests for modifier in made.session.modifiers] == [False, True]
    made.train()


def test_hidden_states_and_logits_of_a_teacher_whose_classes_have_another_order(tmp_path: Path) -> None:
    """The teacher runs on every batch for its hidden states; its logits are the stored ones, in our order."""
    made = trainer(tmp_path / "run", HIDDEN_STATES.format(True))
    teach(made, teacher_folder(tmp_path / "teacher", names=THREE.names[::-1]))
    assert made.session is not None and made.session.run.teacher is not None
    rows = made.train_dataset[:1]
    batch = {key: torch.tensor(rows[key]) for key in ("input_ids", "attention_mask")}
    stored = {"logits": torch.tensor(rows["teacher_logits"])}
    made.session.begin(Clock(4, 2), 0, None)
    theirs = made._teacher_outputs(batch, stored)["logits"]
    torch.testing.assert_close(theirs, stored["logits"])
    live = made.session.run.teacher(**batch).logits
    torch.testing.assert_close(live[:, [2, 1, 0]], theirs)
    made.train()


def test_a_teacher_with_fewer_layers_teaches_its_logits_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = trainer(tmp_path / "run", HIDDEN_STATES.format(True), model=classifier(layers=2))
    teach(made, teacher_folder(tmp_path / "teacher", num_hidden_layers=1))
    made.train()
    assert "hidden states are not distilled" in capsys.readouterr().err
    assert made.session is not None and made.session.modifiers[1].shown == ""


def test_the_teacher_s_own_tokenizer_may_be_asked_for(tmp_path: Path) -> None:
    made = trainer(tmp_path / "run", RECIPE)
    folder = teacher_folder(tmp_path / "teacher")
    assert teach(made, folder) == []
    made.train_dataset = dataset()
    assert len(teach(made, folder, own_tokenizer=True)) == 1


@pytest.mark.parametrize(("recipe", "called"), [(RECIPE, "disable"), (RECIPE, None), (None, "self")])
def test_where_nobody_teaches_the_rows_stay(tmp_path: Path, recipe: str | None, called: str | None) -> None:
    made = trainer(tmp_path, recipe)
    assert teach(made, called) == []
    assert made.train_dataset.column_names == dataset().column_names
