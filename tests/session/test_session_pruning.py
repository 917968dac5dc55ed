"""Gradual pruning in the Trainer: exact zeros in what is saved, the same bits after a resume, the best model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sparseml.session.models import load_trained
from support.trainers import classifier, dataset, trainer

pytestmark = pytest.mark.usefixtures("one_thread")

# 32 rows in batches of 8 are 4 steps an epoch; masks change at steps 2, 4, 6 and 8 of 12.
RAMP = """
    init_sparsity: 0.3
    final_sparsity: 0.8
    start_epoch: 0.5
    end_epoch: 2.0
    update_frequency: 0.5
    params: __ALL_PRUNABLE__
"""
RATE = """
  - !EpochRangeModifier
    end_epoch: 3
  - !LearningRateFunctionModifier
    lr_func: cyclic_linear
    cycle_epochs: 0.5
    init_lr: 1e-2
    final_lr: 1e-3
    end_epoch: 3
"""
QUANTIZATION = """
  - !QuantizationModifier
    start_epoch: 2
"""
RECIPES = {
    "one threshold, then int8": f"modifiers:\n  - !GlobalMagnitudePruningModifier{RAMP}{RATE}{QUANTIZATION}",
    "blocks of each matrix": f"modifiers:\n  - !MagnitudePruningModifier{RAMP}    mask_type: block4\n{RATE}",
    "movement": f"modifiers:\n  - !MovementPruningModifier{RAMP}{RATE}",
}
every_recipe = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)


def matrices(folder: Path) -> dict[str, Tensor]:
    """The weights of all Linear layers."""
    return {
        name: weight
        for name, weight in load_file(folder / "model.safetensors").items()
        if weight.dim() == 2 and "embeddings" not in name
    }


def share_of_zeros(weights: dict[str, Tensor]) -> float:
    return sum(int((w == 0).sum()) for w in weights.values()) / sum(w.numel() for w in weights.values())


def trained(folder: Path, recipe: str, resume: Path | None = None, **settings: Any) -> Any:
    made = trainer(folder, recipe, model=classifier(sparsity=0.0), **settings)
    made.train(resume_from_checkpoint=str(resume) if resume else None)
    made.save_model()
    return made


@every_recipe
@pytest.mark.parametrize("accumulated", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_resumed_pruning_ends_with_the_same_bits(tmp_path: Path, recipe: str, accumulated: int) -> None:
    batches = {"per_device_train_batch_size": 8 // accumulated, "gradient_accumulation_steps": accumulated}
    whole = tmp_path / "whole"
    trained(whole, recipe, save_strategy="steps", save_steps=1, **batches)
    expected = {
        (name, key): value.numpy().tobytes()
        for name in ("model.safetensors", "modifiers.safetensors")
        for key, value in load_file(whole / name).items()
    }
    for step in (1, 2, 5, 8):
        resumed = tmp_path / f"from-{step}"
        trained(resumed, recipe, whole / f"checkpoint-{step}", **batches)
        for (name, key), value in expected.items():
            assert load_file(resumed / name)[key].numpy().tobytes() == value, (step, name, key)


@every_recipe
def test_checkpoints_have_the_sparsity_of_their_step_and_load_with_it(tmp_path: Path, recipe: str) -> None:
    trained(tmp_path, recipe, save_strategy="steps", save_steps=1)
    shares = [round(share_of_zeros(matrices(tmp_path / f"checkpoint-{step}")), 2) for step in range(1, 13)]
    cubic = [0.8 - 0.5 * (1 - part) ** 3 for part in (0, 1 / 3, 2 / 3, 1)]
    expected = [0.0, 0.0, cubic[0], cubic[1], cubic[1], cubic[2], cubic[2], *[cubic[3]] * 5]
    assert shares == pytest.approx(expected, abs=0.006)
    zeros = {name: weight == 0 for name, weight in matrices(tmp_path / "checkpoint-8").items()}
    model = load_trained(tmp_path)
    for name, zero in zeros.items():
        assert torch.equal(matrices(tmp_path)[name] == 0, zero)
        assert torch.equal(model.get_parameter(name) == 0, zero)


def falling_scores() -> Iterator[float]:
    yield from (0.9, 0.8, 0.7, 0.6, 0.5, 0.4)


def test_the_best_model_has_its_final_sparsity(tmp_path: Path) -> None:
    scores = falling_scores()
    made = trained(
        tmp_path,
        RECIPES["movement"],
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
    assert share_of_zeros(matrices(tmp_path)) == pytest.approx(0.8, abs=0.002)


def test_an_end_with_the_training_is_reached(tmp_path: Path) -> None:
    made = trained(
        tmp_path, RECIPES["movement"].replace("end_epoch: 2.0", "end_epoch: 3"), save_strategy="epoch"
    )
    assert share_of_zeros(matrices(tmp_path / "checkpoint-12")) == pytest.approx(0.8, abs=0.002)
    assert made.session.final_from() == 11


def test_a_pruned_model_is_trained_on_under_masks(tmp_path: Path) -> None:
    trained(tmp_path / "first", RECIPES["movement"])
    transfer = "modifiers:\n  - !ConstantPruningModifier\n    params: __ALL_PRUNABLE__\n"
    made = trainer(tmp_path / "second", transfer, model=load_trained(tmp_path / "first"))
    made.train()
    made.save_model()
    first, second = matrices(tmp_path / "first"), matrices(tmp_path / "second")
    assert all(torch.equal(first[name] == 0, second[name] == 0) for name in first)
