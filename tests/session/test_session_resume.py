"""A run that is stopped and goes on ends with the same bits as the run that was never stopped."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from transformers import TrainerCallback

from sparseml.session.trainer import RecipeTrainer
from sparseml.transformers import text_classification
from support import tiny

pytestmark = pytest.mark.usefixtures("one_thread")

# 48 rows in batches of 8 are 6 steps an epoch, 18 in all; QAT begins at step 9, ranges are held from 14.
BEFORE_QAT, EPOCH_END, FIRST_OF_QAT, IN_QAT, HELD, LAST = 4, 6, 9, 11, 15, 18

FREEZING = """
freezing_modifiers:
  - !TrainableParamsModifier
      params: re:bert.embeddings.*
      trainable: False
      start_epoch: 0.5
      end_epoch: 2.0
  - !SetParamModifier
      params: classifier.bias
      val: 0.25
      start_epoch: 0.5
  - !SetWeightDecayModifier
      weight_decay: 0.1
      start_epoch: 1.0
"""
STEPS = """
modifiers:
  - !LearningRateFunctionModifier
      lr_func: cosine
      init_lr: 2e-3
      final_lr: 1e-4
      start_step: 0
      end_step: 18
  - !ConstantPruningModifier
      params: __ALL_PRUNABLE__
  - !QuantizationModifier
      start_step: 9
      disable_quantization_observer_step: 14
      scheme:
        weights: {symmetric: True, strategy: channel}
"""


@dataclass
class Case:
    """A recipe with the arguments that it runs under."""

    recipe: str = tiny.RECIPE
    arguments: dict[str, Any] = field(default_factory=dict)


CASES = {
    "length grouping": Case(),
    "random order": Case(arguments={"train_sampling_strategy": "random"}),
    "accumulation": Case(arguments={"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}),
    "distillation": Case(tiny.RECIPE + tiny.DISTILLATION, {"distill_teacher": "self"}),
    "freezing and setting": Case(tiny.RECIPE + FREEZING, {"train_sampling_strategy": "random"}),
    "in steps, by channel": Case(STEPS),
    "scores while training": Case(arguments={"eval_strategy": "epoch"}),
    "bfloat16": Case(arguments={"bf16": True}),
}


def run(model: Path, rows: Path, output: Path, case: Case, **more: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "model_name_or_path": model,
        "train_file": rows / "train.csv",
        "validation_file": rows / "validation.csv",
        "recipe": case.recipe,
        "output_dir": output,
        "max_seq_length": 32,
        "do_train": True,
        "per_device_train_batch_size": 8,
        "save_strategy": "steps",
        "save_steps": 1,
        **case.arguments,
        **more,
    }
    return text_classification.main(
        **{name: str(value) if isinstance(value, Path) else value for name, value in arguments.items()}
    )


def bits(folder: Path) -> dict[str, bytes]:
    """Every tensor of a finished run: weights, masks, ranges and scales."""
    return {
        f"{name}/{key}": value.numpy().tobytes()
        for name in ("model.safetensors", "modifiers.safetensors")
        for key, value in load_file(folder / name).items()
    }


def assert_same(left: Path, right: Path) -> None:
    ours, theirs = bits(left), bits(right)
    assert ours.keys() == theirs.keys()
    assert [key for key in ours if ours[key] != theirs[key]] == []


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if i else []) for i, n in enumerate(CASES)]
)
def test_resumed_run_ends_with_the_same_bits(
    pruned_model: Path, rows_folder: Path, tmp_path: Path, name: str
) -> None:
    case, whole = CASES[name], tmp_path / "whole"
    run(pruned_model, rows_folder, whole, case)
    for step in (BEFORE_QAT, EPOCH_END, FIRST_OF_QAT, IN_QAT, HELD, LAST):
        resumed = tmp_path / f"from-{step}"
        run(
            pruned_model,
            rows_folder,
            resumed,
            case,
            resume_from_checkpoint=whole / f"checkpoint-{step}",
            save_strategy="no",
        )
        assert_same(resumed, whole)
