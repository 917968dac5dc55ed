"""The Python names that SparseML's users know: what they take, and that they do the same as ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import sparseml.transformers
from resparse.errors import UserError
from sparseml.data import DataOptions, load_text_data, tokenize
from sparseml.quantization.structure import is_quantized
from sparseml.session.models import load_trained
from sparseml.session.trainer import RecipeTrainer
from sparseml.transformers import (
    SparseAutoConfig,
    SparseAutoModel,
    SparseAutoTokenizer,
    Trainer,
    TrainingArguments,
    export,
)
from sparseml.transformers import sparsification as old_place
from sparseml.transformers import utils as older_place
from support import tiny

pytestmark = pytest.mark.usefixtures("one_thread")

ARGUMENTS: dict[str, Any] = {"per_device_train_batch_size": 8, "save_strategy": "no", "disable_tqdm": True}


def made(folder: Path, rows_folder: Path, output: Path, **more: Any) -> Trainer:
    """A trainer of the tiny model on its rows."""
    tokenizer = SparseAutoTokenizer.from_pretrained(folder)
    data = load_text_data(DataOptions(train_file=str(rows_folder / "train.csv"), needs_eval=False))
    assert data.labels is not None and data.train is not None
    model = SparseAutoModel.text_classification_from_pretrained(
        folder, model_type="student", id2label=data.labels.id2label
    )
    settings: dict[str, Any] = {
        "model": model,
        "model_state_path": str(folder),
        "recipe": tiny.RECIPE,
        "recipe_args": {"num_epochs": 2, "qat_start_epoch": 1, "observer_epoch": 1.5},
        "metadata_args": ["per_device_train_batch_size"],
        "args": TrainingArguments(str(output), **ARGUMENTS),
        "train_dataset": tokenize(data.train, data.columns, tokenizer, 32),
        "tokenizer": tokenizer,
        **more,
    }
    return Trainer(**settings)


def test_names_are_where_they_were() -> None:
    assert old_place.Trainer is Trainer and older_place.SparseAutoModel is SparseAutoModel
    assert issubclass(Trainer, RecipeTrainer)
    assert set(sparseml.transformers.__all__) <= set(dir(sparseml.transformers))
    with pytest.raises(AttributeError, match="no attribute 'SparseAutoModelForCausalLM'"):
        sparseml.transformers.SparseAutoModelForCausalLM  # noqa: B018


def test_the_package_alone_loads_nothing_heavy() -> None:
    code = "import sys, sparseml.transformers; print({'torch', 'transformers'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_trainer_carries_out_the_recipe_and_its_folder_loads_again(
    pruned_model: Path, rows_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = made(pruned_model, rows_folder, tmp_path / "out")
    trainer.train()
    trainer.save_model()
    trainer.save_state()
    trainer.save_optimizer_and_scheduler(tmp_path / "out")
    trainer.log_model_sparsification()
    assert "are zero" in capsys.readouterr().err
    assert (tmp_path / "out" / "optimizer.pt").is_file() and (tmp_path / "out" / "recipe.yaml").is_file()
    loaded = SparseAutoModel.text_classification_from_pretrained(tmp_path / "out", model_type="teacher")
    assert is_quantized(loaded) and not loaded.training
    batch = {"input_ids": torch.tensor([[2, 5, 9, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    with torch.no_grad():
        expected = trainer.model.eval()(**batch).logits
        assert torch.equal(loaded(**batch).logits, expected)
        assert torch.equal(load_trained(str(tmp_path / "out"))(**batch).logits, expected)
    assert not is_quantized(SparseAutoModel.text_classification_from_pretrained(tmp_path / "out", "student"))


@pytest.mark.parametrize("teacher", ["model", "self", "disable"])
def test_teachers(teacher: str, pruned_model: Path, rows_folder: Path, tmp_path: Path) -> None:
    named = tiny.bert(tmp_path / "teacher", names=["negative", "positive"], seed=1)
    _, given = SparseAutoModel.text_classification_from_pretrained_distil(
        named, named if teacher == "model" else teacher
    )

    def trained(teacher: Any) -> torch.Tensor:
        torch.manual_seed(0)
        trainer = made(
            pruned_model,
            rows_folder,
            tmp_path / "out",
            teacher=teacher,
            recipe=tiny.RECIPE + tiny.DISTILLATION,
        )
        trainer.train()
        weight: torch.Tensor = trainer.model.classifier.weight.detach()
        return weight

    assert torch.equal(trained(given), trained(None)) == (teacher == "disable")


def test_training_arguments_of_former_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = TrainingArguments(
        str(tmp_path), evaluation_strategy="epoch", no_cuda=True, fp16=True, **ARGUMENTS
    )
    assert arguments.eval_strategy == "epoch"
    assert arguments.bf16 and not arguments.fp16
    assert "--fp16 became --bf16" in capsys.readouterr().err
    with pytest.raises(UserError, match="learning_rate"):
        TrainingArguments(str(tmp_path), learning_rat=1)


def test_export_takes_keywords(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--opset 99"):
        export.main(model_path=str(tmp_path), opset=99)
    with pytest.raises(UserError, match="no such argument"):
        export.main(model_path=str(tiny.bert(tmp_path / "m", names=["a", "b"])), data_args={"nonsense": 1})


def test_configurations_and_tokenizers(pruned_model: Path) -> None:
    assert SparseAutoConfig.from_pretrained(pruned_model, num_labels=7).num_labels == 7
    assert (
        SparseAutoTokenizer.from_pretrained(pruned_model, use_fast=True)("lovely film")["input_ids"][0] == 2
    )
