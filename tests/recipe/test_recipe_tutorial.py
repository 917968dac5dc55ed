"""The three recipes that the tutorial prints, with the indentations that it uses."""

from __future__ import annotations

from typing import Any

import pytest

from sparseml.recipe import Plan, load_plan

MNLI = """\
version: 1.1.0

num_epochs: 13
init_lr: 8e-5
final_lr: 0

qat_start_epoch: 8.0
observer_epoch: 12.0
quantize_embeddings: 1

distill_hardness: &distill_hardness 1.0
distill_temperature: &distill_temperature 3.0

weight_decay: 0.0

# Modifiers:
training_modifiers:
  - !EpochRangeModifier
      end_epoch: eval(num_epochs)
      start_epoch: 0.0

  - !LearningRateFunctionModifier
      start_epoch: 0
      end_epoch: eval(num_epochs)
      lr_func: linear
      init_lr: eval(init_lr)
      final_lr: eval(final_lr)

quantization_modifiers:
  - !QuantizationModifier
      start_epoch: eval(qat_start_epoch)
      disable_quantization_observer_epoch: eval(observer_epoch)
      freeze_bn_stats_epoch: eval(observer_epoch)
      quantize_embeddings: eval(quantize_embeddings)
      quantize_linear_activations: 0
      exclude_module_types: ['LayerNorm', 'Tanh']
      submodules:
        - bert.embeddings
        - bert.encoder
        - bert.pooler
        - classifier

distillation_modifiers:
  - !DistillationModifier
     hardness: eval(distill_hardness)
     temperature: eval(distill_temperature)
     distill_output_keys: [logits]

constant_modifiers:
  - !ConstantPruningModifier
      start_epoch: 0.0
      params: __ALL_PRUNABLE__

regularization_modifiers:
  - !SetWeightDecayModifier
      start_epoch: 0.0
      weight_decay: eval(weight_decay)
"""

# QQP's differs in its anchors, its rate and its temperature; it decays no weights.
QQP = (
    MNLI.replace("num_epochs: 13", "num_epochs: &num_epochs 13")
    .replace("init_lr: 8e-5", "init_lr: 1.5e-4 ")
    .replace("&distill_temperature 3.0", "&distill_temperature 2.0")
    .replace("qat_start_epoch: 8.0", "qat_start_epoch: &qat_start_epoch 8.0")
    .replace("weight_decay: 0.0\n", "", 1)
    .partition("regularization_modifiers")[0]
)

DENSE = """\
version: 1.1.0

# General Variables
num_epochs: 8
init_lr: 1.5e-4\x20
final_lr: 0

# Modifiers:
training_modifiers:
  - !EpochRangeModifier
      end_epoch: eval(num_epochs)
      start_epoch: 0.0
\x20\x20\x20\x20
  - !LearningRateFunctionModifier
    start_epoch: 0
    end_epoch: eval(num_epochs)
    lr_func: linear
    init_lr: eval(init_lr)
    final_lr: eval(final_lr)
"""


def fields(plan: Plan, tag: str) -> dict[str, Any]:
    (spec,) = (spec for spec in plan.modifiers if spec.tag == tag)
    return spec.fields


def test_mnli() -> None:
    plan = load_plan(MNLI)
    assert [(spec.group, spec.tag, spec.line) for spec in plan.modifiers] == [
        ("training_modifiers", "EpochRangeModifier", 18),
        ("training_modifiers", "LearningRateFunctionModifier", 22),
        ("quantization_modifiers", "QuantizationModifier", 30),
        ("distillation_modifiers", "DistillationModifier", 44),
        ("constant_modifiers", "ConstantPruningModifier", 50),
        ("regularization_modifiers", "SetWeightDecayModifier", 55),
    ]
    assert fields(plan, "LearningRateFunctionModifier") == {
        "start_epoch": 0,
        "end_epoch": 13,
        "lr_func": "linear",
        "init_lr": 8e-5,
        "final_lr": 0,
    }
    assert fields(plan, "QuantizationModifier") == {
        "start_epoch": 8.0,
        "disable_quantization_observer_epoch": 12.0,
        "freeze_bn_stats_epoch": 12.0,
        "quantize_embeddings": 1,
        "quantize_linear_activations": 0,
        "exclude_module_types": ["LayerNorm", "Tanh"],
        "submodules": ["bert.embeddings", "bert.encoder", "bert.pooler", "classifier"],
    }
    assert fields(plan, "DistillationModifier") == {
        "hardness": 1.0,
        "temperature": 3.0,
        "distill_output_keys": ["logits"],
    }
    assert plan.variables["init_lr"] == 8e-5
    assert "version" not in plan.variables
    assert plan.modifiers[3].field_lines == {"hardness": 45, "temperature": 46, "distill_output_keys": 47}


def test_qqp() -> None:
    plan = load_plan(QQP)
    assert fields(plan, "LearningRateFunctionModifier")["init_lr"] == 1.5e-4
    assert fields(plan, "DistillationModifier")["temperature"] == 2.0
    assert len(plan.modifiers) == 5


def test_dense_with_properties_at_the_column_of_the_tag() -> None:
    plan = load_plan(DENSE, '{"init_lr":0.00003}')
    assert fields(plan, "EpochRangeModifier") == {"end_epoch": 8, "start_epoch": 0.0}
    assert fields(plan, "LearningRateFunctionModifier")["init_lr"] == 3e-5
    assert plan.modifiers[1].line == 14


def test_the_recipe_args_that_the_tutorial_gives() -> None:
    plan = load_plan(MNLI, '{"num_epochs":12,"qat_start_epoch":7.0, "observer_epoch": 11.0}')
    assert fields(plan, "EpochRangeModifier")["end_epoch"] == 12
    assert fields(plan, "QuantizationModifier")["start_epoch"] == 7.0
    assert fields(plan, "QuantizationModifier")["freeze_bn_stats_epoch"] == 11.0


@pytest.mark.parametrize("text", [MNLI, QQP, DENSE])
def test_round_trip(text: str) -> None:
    plan = load_plan(text)
    again = load_plan(plan.to_yaml())
    assert [(s.tag, s.fields, s.group) for s in again.modifiers] == [
        (s.tag, s.fields, s.group) for s in plan.modifiers
    ]
    assert again.variables == plan.variables
