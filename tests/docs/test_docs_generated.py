"""The generated parts of the pages are what `docs/generate.py` makes of the code."""

from __future__ import annotations

import sys

import pytest

from sparseml.modifiers import MODIFIERS
from support.pages import ROOT

sys.path.insert(0, str(ROOT / "docs"))

import former
import generate

RAMP = "init_sparsity final_sparsity update_frequency params leave_enabled inter_func mask_type"

# Fields that the modifiers of SparseML 1.8 had, of those that are here.
FIELDS = {
    "EpochRangeModifier": "start_epoch end_epoch",
    "LearningRateFunctionModifier": "lr_func init_lr final_lr cycle_epochs param_groups update_frequency",
    "SetLearningRateModifier": "learning_rate param_groups constant_logging",
    "LearningRateModifier": "lr_class lr_kwargs init_lr constant_logging",
    "SetWeightDecayModifier": "weight_decay param_groups constant_logging",
    "TrainableParamsModifier": "params trainable params_strict",
    "SetParamModifier": "params val params_strict",
    "ConstantPruningModifier": "params update_frequency",
    "GMPruningModifier": f"{RAMP} global_sparsity phased score_type",
    "MagnitudePruningModifier": RAMP,
    "GlobalMagnitudePruningModifier": RAMP,
    "MovementPruningModifier": RAMP,
    "DistillationModifier": "hardness temperature distill_output_keys teacher_input_keys update_frequency",
    "QuantizationModifier": "submodules model_fuse_fn_name model_fuse_fn_kwargs disable_quantization_observer_epoch "
    "freeze_bn_stats_epoch quantize_embeddings reduce_range quantize_linear_activations quantize_conv_activations "
    "quantize_embedding_activations activation_bits weight_bits num_calibration_steps exclude_batchnorm "
    "exclude_module_types custom_quantizable_module_types activation_qconfig_kwargs weight_qconfig_kwargs tensorrt "
    "scheme scheme_overrides ignore strict",
}


@pytest.mark.parametrize("name", generate.PAGES)
def test_a_page_is_what_the_program_makes(name: str) -> None:
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert generate.rendered(page) == page, "run: python docs/generate.py"
    assert page.count("<!-- generated: ") == page.count("<!-- end -->")


def test_every_part_stands_in_a_page() -> None:
    pages = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in generate.PAGES)
    assert [name for name in generate.PARTS if f"<!-- generated: {name} -->" not in pages] == []


def test_what_is_gone_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(former.facts(), "commands", {"sparseml.nothing": None})
    with pytest.raises(former.MissingAdviceError, match=r"sparseml\.nothing"):
        former.TABLES["commands"]()


@pytest.mark.parametrize("tag", FIELDS)
def test_the_fields_of_old_modifiers_are_understood(tag: str) -> None:
    known = {"start_epoch", "end_epoch", *FIELDS[tag].split()}
    assert known <= set(MODIFIERS[tag].model_fields)


def test_every_field_says_what_it_is_for() -> None:
    silent = [
        f"{tag}.{name}"
        for tag, modifier in MODIFIERS.items()
        for name, field in modifier.model_fields.items()
        if not field.description
    ]
    assert silent == []
