"""Learning from a teacher, through the whole command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertForSequenceClassification

from sparseml.distillation.teacher import TeacherError
from sparseml.session.models import load_trained
from sparseml.session.sources import ModelError
from sparseml.session.trainer import RecipeTrainer
from support import tiny
from support.tiny import train

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = """
modifiers:
  - !EpochRangeModifier
      end_epoch: 2
  - !ConstantPruningModifier
      params: __ALL_PRUNABLE__
  - !DistillationModifier
      hardness: 1.0
      temperature: 2.0
"""
NAMES = ["negative", "positive"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The rows that the trainer is given, with what the teacher said of them."""
    given: list[Any] = []
    whole = RecipeTrainer.train

    def watched(self: RecipeTrainer, *arguments: Any, **keywords: Any) -> Any:
        given.append(self.train_dataset)
        return whole(self, *arguments, **keywords)

    monkeypatch.setattr(RecipeTrainer, "train", watched)
    return given


def logits_of(folder: Path, texts: list[str]) -> np.ndarray:
    from transformers import AutoTokenizer

    model, tokenizer = load_trained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return np.array([model(**tokenizer(text, return_tensors="pt")).logits[0].tolist() for text in texts])


TEXTS = [row["text"] for row in tiny.rows(48)]


def test_local_teacher(pruned_model: Path, rows_folder: Path, tmp_path: Path, asked: list[Any]) -> None:
    teacher = tiny.bert(tmp_path / "teacher", names=NAMES, sparsity=0.0, seed=4)
    train(pruned_model, rows_folder, tmp_path / "run", recipe=RECIPE, distill_teacher=teacher)
    np.testing.assert_allclose(asked[0]["teacher_logits"], logits_of(teacher, TEXTS), atol=1e-5)


def test_teacher_is_asked_once_for_all_epochs(
    pruned_model: Path, rows_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = tiny.bert(tmp_path / "teacher", names=NAMES, seed=4)
    rows = dict.fromkeys(("train", "eval"), 0)
    forward = BertForSequenceClassification.forward

    def counted(self: Any, input_ids: torch.Tensor, **keywords: Any) -> Any:
        rows["train" if self.training else "eval"] += len(input_ids)
        return forward(self, input_ids=input_ids, **keywords)

    monkeypatch.setattr(BertForSequenceClassification, "forward", counted)
    recipe = RECIPE.replace("end_epoch: 2", "end_epoch: 5")
    train(pruned_model, rows_folder, tmp_path / "run", recipe=recipe, distill_teacher=teacher)
    assert rows == {"train": 5 * 48, "eval": 48}


def test_quantized_folder_teaches_as_it_was_trained(
    pruned_model: Path, rows_folder: Path, tmp_path: Path, asked: list[Any]
) -> None:
    train(pruned_model, rows_folder, tmp_path / "teacher")
    train(pruned_model, rows_folder, tmp_path / "run", recipe=RECIPE, distill_teacher=tmp_path / "teacher")
    np.testing.assert_allclose(asked[1]["teacher_logits"], logits_of(tmp_path / "teacher", TEXTS), atol=1e-5)


def test_order_of_classes_is_by_name(
    pruned_model: Path,
    rows_folder: Path,
    tmp_path: Path,
    asked: list[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    teacher = tiny.bert(tmp_path / "teacher", names=["Positive", "Negative"], seed=4)
    train(pruned_model, rows_folder, tmp_path / "run", recipe=RECIPE, distill_teacher=teacher)
    np.testing.assert_allclose(asked[0]["teacher_logits"], logits_of(teacher, TEXTS)[:, ::-1], atol=1e-5)
    assert "put in our order, by name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["good", "bad"], "cannot be matched by name"),
        (["negative", "neutral", "positive"], "tells 3 classes apart"),
    ],
)
def test_teacher_of_other_classes(
    pruned_model: Path, rows_folder: Path, tmp_path: Path, names: list[str], words: str
) -> None:
    teacher = tiny.bert(tmp_path / "teacher", names=names)
    with pytest.raises(TeacherError, match=words):
        train(pruned_model, rows_folder, tmp_path / "run", recipe=RECIPE, distill_teacher=teacher)
    assert not (tmp_path / "run").exists()


def test_encoder_without_a_head_is_no_teacher(pruned_model: Path, rows_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="no trained classifier"):
        train(pruned_model, rows_folder, tmp_path / "run", recipe=RECIPE, distill_teacher=pruned_model)


def test_teacher_that_is_not_there(pruned_model: Path, rows_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        train(pruned_model, rows_folder, tmp_path / "run", recipe=RECIPE, distill_teacher=tmp_path / "nobody")


@pytest.mark.parametrize("told", [None, True], ids=["by itself", "--use_teacher_tokenizer"])
def test_teacher_with_another_vocabulary_reads_with_its_own(
    pruned_model: Path,
    rows_folder: Path,
    tmp_path: Path,
    asked: list[Any],
    capsys: pytest.CaptureFixture[str],
    told: bool | None,
) -> None:
    teacher = tiny.bert(tmp_path / "teacher", names=NAMES, words=sorted(tiny.WORDS), seed=4)
    train(
        pruned_model,
        rows_folder,
        tmp_path / "run",
        recipe=RECIPE,
        distill_teacher=teacher,
        use_teacher_tokenizer=told,
    )
    np.testing.assert_allclose(asked[0]["teacher_logits"], logits_of(teacher, TEXTS), atol=1e-5)
    assert ("another vocabulary" in capsys.readouterr().err) == (told is None)


def test_own_tokenizer_of_the_same_vocabulary_on_demand(
    pruned_model: Path, rows_folder: Path, tmp_path: Path, asked: list[Any]
) -> None:
    """Same words, but a lower limit of length: asked for, it is the teacher's that counts."""
    teacher = tiny.bert(tmp_path / "teacher", names=NAMES, seed=4)
    tokenizer = tiny.tokenizer()
    tokenizer.model_max_length = 5
    tokenizer.save_pretrained(teacher)
    for told in (False, True):
        train(
            pruned_model,
            rows_folder,
            tmp_path / str(told),
            recipe=RECIPE,
            distill_teacher=teacher,
            use_teacher_tokenizer=told,
        )
    assert not np.allclose(asked[0]["teacher_logits"], asked[1]["teacher_logits"])


def test_self_is_the_student_at_its_start(rows_folder: Path, tmp_path: Path, asked: list[Any]) -> None:
    start = tiny.bert(tmp_path / "start", names=NAMES, seed=2)
    train(start, rows_folder, tmp_path / "run", recipe=RECIPE, distill_teacher="self")
    np.testing.assert_allclose(asked[0]["teacher_logits"], logits_of(start, TEXTS), atol=1e-5)


@pytest.mark.parametrize("hardness", [0.5, 1.0])
def test_self_with_a_new_classifier_teaches_nothing(
    pruned_model: Path, rows_folder: Path, tmp_path: Path, hardness: float
) -> None:
    recipe = RECIPE.replace("hardness: 1.0", f"hardness: {hardness}")
    with pytest.raises(TeacherError, match="would teach noise: classifier is new"):
        train(pruned_model, rows_folder, tmp_path / "run", recipe=recipe, distill_teacher="self")
    assert not (tmp_path / "run").exists()


def test_without_a_teacher_the_labels_alone_teach(
    pruned_model: Path, rows_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """None given is warned of, `disable` is not; both are as without the modifier."""
    plain = RECIPE.partition("  - !Distillation")[0]
    train(pruned_model, rows_folder, tmp_path / "plain", recipe=plain)
    capsys.readouterr()
    train(pruned_model, rows_folder, tmp_path / "none", recipe=RECIPE)
    assert "no --distill_teacher is given" in capsys.readouterr().err
    train(pruned_model, rows_folder, tmp_path / "disable", recipe=RECIPE, distill_teacher="disable")
    said = capsys.readouterr().err
    assert "warning" not in said and "distillation" not in said
    tensors = [load_file(tmp_path / name / "model.safetensors") for name in ("plain", "none", "disable")]
    for name, value in tensors[0].items():
        assert torch.equal(value, tensors[1][name]) and torch.equal(value, tensors[2][name])


def test_teacher_without_a_modifier_is_said_to_be_unused(
    pruned_model: Path, rows_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(pruned_model, rows_folder, tmp_path / "run", distill_teacher="self")
    assert "--distill_teacher is not used" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["several labels", "a score"])
def test_other_kinds_are_distilled_too(pruned_model: Path, tmp_path: Path, kind: str) -> None:
    """With the labels left out (hardness 1), the student comes closer to its teacher."""
    rows = tiny.rows(48)
    for index, row in enumerate(rows):
        row["label"] = (
            index / 10 if kind == "a score" else [name for bit, name in enumerate("abc") if index >> bit & 1]
        )
    tiny.write(tmp_path / "train.jsonl", rows)
    files = {"train_file": tmp_path / "train.jsonl", "validation_file": None}
    names = ["label"] if kind == "a score" else ["a", "b", "c"]
    problem = "regression" if kind == "a score" else "multi_label_classification"
    teacher = tiny.bert(tmp_path / "teacher", names=names, seed=4, problem_type=problem)
    distances = []
    for epochs in (1, 12):
        recipe = RECIPE.replace("end_epoch: 2", f"end_epoch: {epochs}")
        folder = tmp_path / str(epochs)
        train(
            pruned_model,
            tmp_path,
            folder,
            recipe=recipe,
            **files,
            distill_teacher=teacher,
            learning_rate=3e-3,
        )
        distances.append(float(np.square(logits_of(folder, TEXTS) - logits_of(teacher, TEXTS)).mean()))
    assert distances[1] < 0.7 * distances[0]


def test_teacher_cut_short(pruned_model: Path, rows_folder: Path, tmp_path: Path) -> None:
    teacher = tiny.bert(tmp_path / "teacher", names=NAMES)
    tensors = load_file(teacher / "model.safetensors")
    del tensors["bert.encoder.layer.0.output.dense.weight"]
    save_file(tensors, teacher / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="lacks 1 weights"):
        train(pruned_model, rows_folder, tmp_path / "run", recipe=RECIPE, distill_teacher=teacher)
