"""Models that become smaller in the Trainer: the same bits after a resume, the best model, loading what was saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from sparseml.modifiers.units import blocks
from sparseml.session.models import load_trained
from support.trainers import classifier, dataset, trainer

pytestmark = pytest.mark.usefixtures("one_thread")

# 32 rows in batches of 8 are 4 steps an epoch.
RECIPE = """
modifiers:
  - !EpochRangeModifier
    end_epoch: 3
  - !SetLearningRateModifier
    learning_rate: 1e-2
  - !SetWeightDecayModifier
    weight_decay: 0.1
    start_epoch: 2.5
  - !LayerPruningModifier
    layers: [0]
    start_epoch: 0.5
  - !StructuredPruningModifier
    mask_type: neuron
    init_sparsity: 0.1
    final_sparsity: 0.5
    end_epoch: 1
    update_frequency: 0.25
  - !StructuredPruningModifier
    mask_type: head
    init_sparsity: 0
    final_sparsity: 0.5
    end_epoch: 1
    update_frequency: 0.5
  - !LayerThinningModifier
    start_epoch: 1
    structure_type: TYPE
  - !QuantizationModifier
    start_epoch: 1.75
"""


def trained(folder: Path, kind: str, resume: Path | None = None, **settings: Any) -> Any:
    model = classifier(sparsity=0.0, layers=3, heads=4)
    made = trainer(folder, RECIPE.replace("TYPE", kind), model=model, **settings)
    made.train(resume_from_checkpoint=str(resume) if resume else None)
    made.save_model()
    return made


@pytest.mark.parametrize("kind", ["filter", "neuron"])
def test_a_resumed_training_ends_with_the_same_bits(tmp_path: Path, kind: str) -> None:
    whole = tmp_path / "whole"
    trained(whole, kind, save_strategy="steps", save_steps=1)
    for step in (1, 3, 4, 5, 8):
        resumed = tmp_path / f"from-{step}"
        trained(resumed, kind, whole / f"checkpoint-{step}")
        for name in ("model.safetensors", "modifiers.safetensors"):
            expected, found = load_file(whole / name), load_file(resumed / name)
            assert expected.keys() == found.keys()
            assert [
                key
                for key, value in expected.items()
                if value.numpy().tobytes() != found[key].numpy().tobytes()
            ] == [], step
        assert (resumed / "config.json").read_text() == (whole / "config.json").read_text()


@pytest.mark.parametrize("kind", ["filter", "neuron"])
def test_what_was_saved_is_loaded_as_it_was(tmp_path: Path, kind: str) -> None:
    made = trained(tmp_path / "model", kind)
    model = load_trained(tmp_path / "model")
    assert [block.units for block in blocks(model, "head", "")] == [2 if kind == "filter" else 4] * 2
    assert model.config.num_hidden_layers == 2 and model.config.intermediate_size == 16
    inputs = {"input_ids": torch.arange(6, 18).reshape(2, 6)}
    assert torch.equal(model(**inputs).logits, made.model.eval()(**inputs).logits)
    if kind == "neuron":
        AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")


def test_the_best_model_is_one_that_is_small_already(tmp_path: Path) -> None:
    scores = iter((0.9, 0.8, 0.7, 0.6, 0.5, 0.4))
    made = trained(
        tmp_path,
        "filter",
        eval_dataset=dataset(rows=8),
        compute_metrics=lambda _: {"accuracy": next(scores)},
        eval_strategy="steps",
        save_strategy="steps",
        eval_steps=2,
        save_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
    )
    assert Path(made.state.best_model_checkpoint).name == "checkpoint-8"
    assert [block.units for block in blocks(made.model, "head", "")] == [2, 2]
