"""The QuantizationModifier's two forms, its errors, and its ranges over a training."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sparseml.modifiers import Clock, ModifierError, Run, build
from sparseml.modifiers.quantization import QuantizationModifier
from sparseml.quantization.modules import QuantizedLinear
from sparseml.quantization.scheme import INT8_ACTIVATIONS, INT8_WEIGHTS, UINT8_ACTIVATIONS, TensorScheme
from sparseml.quantization.structure import is_quantized, quantization_state, quantizers_of
from sparseml.recipe import ModifierSpec, Plan, RecipeError
from support.encoders import OFF_INTERFACE, dense, labelled

CLOCK = Clock(steps_per_epoch=2, total_steps=8)
TUTORIAL = ["bert.embeddings", "bert.encoder", "bert.pooler", "classifier"]


def modifier_of(**fields: Any) -> QuantizationModifier:
    (modifier,) = build(Plan("the recipe", (ModifierSpec("QuantizationModifier", fields, 7),)))
    assert isinstance(modifier, QuantizationModifier)
    return modifier


def structured(architecture: str = "bert", **fields: Any) -> tuple[Any, list[str]]:
    model = dense(architecture)
    run = Run(model, CLOCK)
    modifier_of(**fields).structure(run)
    return model, run.notes


# The older form.


def test_the_older_form_by_default() -> None:
    scheme = modifier_of(submodules=["bert.encoder"]).model_scheme()
    assert scheme.linear.weights == INT8_WEIGHTS
    assert scheme.linear.inputs == scheme.linear.outputs == scheme.attention_left == UINT8_ACTIVATIONS
    assert scheme.attention_right == INT8_ACTIVATIONS and scheme.attention
    assert scheme.embedding is not None and scheme.embedding.weights == INT8_WEIGHTS


def test_bits_and_symmetry_of_the_older_form() -> None:
    scheme = modifier_of(weight_bits=4, activation_bits=6, quantize_linear_activations=0).model_scheme()
    assert scheme.linear.weights == TensorScheme(num_bits=4, symmetric=True)
    assert scheme.linear.inputs == TensorScheme(num_bits=6) and scheme.linear.outputs is None
    assert scheme.attention_right == TensorScheme(num_bits=6, symmetric=True)
    assert modifier_of(reduce_range=True).model_scheme().linear.inputs == TensorScheme(num_bits=7)
    assert modifier_of(tensorrt=True).model_scheme().linear.inputs == INT8_ACTIVATIONS
    assert modifier_of(quantize_embeddings=0).model_scheme().embedding is None
    averaging = modifier_of(activation_qconfig_kwargs={"averaging_constant": 0.5}).model_scheme()
    assert averaging.linear.inputs == TensorScheme(averaging=0.5)


@pytest.mark.parametrize("outputs", [0, 1])
def test_outputs_of_linear_layers_as_the_recipe_says(outputs: int) -> None:
    model, _ = structured(submodules=TUTORIAL, quantize_linear_activations=outputs)
    layers = [layer for layer in model.modules() if isinstance(layer, QuantizedLinear)]
    assert layers and all((layer.output_quantizer is not None) == bool(outputs) for layer in layers)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, True),
        ({"submodules": TUTORIAL}, True),
        ({"quantize_linear_activations": True}, False),
        ({"quantize_linear_activations": 0}, False),
        ({"scheme": "default"}, False),
    ],
)
def test_a_second_rounding_that_the_recipe_does_not_ask_for_is_told(
    fields: dict[str, Any], told: bool
) -> None:
    _, notes = structured(**fields)
    assert any("quantize_linear_activations: False" in note for note in notes) == told


def test_only_what_submodules_name_is_quantized() -> None:
    model, _ = structured(submodules=["bert.encoder.layer.1"])
    assert {path.split(".layer.1")[0] for path, _ in quantizers_of(model)} == {"bert.encoder"}
    everything, _ = structured()
    assert type(everything.classifier) is QuantizedLinear


def test_excluded_classes_that_the_model_has_not_are_no_error() -> None:
    structured(submodules=TUTORIAL, exclude_module_types=["LayerNorm", "Tanh", "NoSuchThing"])


@pytest.mark.parametrize("field", ["exclude_module_types", "ignore"])
def test_the_products_of_attention_are_excluded_by_sparsemls_name(field: str) -> None:
    model, _ = structured(**{field: ["QATMatMul"]})
    paths = [path for path, _ in quantizers_of(model)]
    assert paths and not any("matmul" in path for path in paths)
    assert not modifier_of(**{field: ["QATMatMul"]}).model_scheme().attention


# The newer form.


@pytest.mark.parametrize("scheme", ["default", "deepsparse"])
def test_the_newer_form_by_name(scheme: str) -> None:
    resolved = modifier_of(scheme=scheme).model_scheme()
    assert (resolved.linear.weights, resolved.linear.inputs) == (INT8_WEIGHTS, UINT8_ACTIVATIONS)
    assert resolved.linear.outputs is None and resolved.attention


def test_tensorrt_is_symmetric_throughout() -> None:
    resolved = modifier_of(scheme="tensorrt").model_scheme()
    assert resolved.linear.inputs == resolved.attention_left == resolved.attention_right == INT8_ACTIVATIONS


def test_the_newer_form_in_full() -> None:
    resolved = modifier_of(
        scheme={
            "weights": {"num_bits": 4, "symmetric": True, "strategy": "channel"},
            "input_activations": {"num_bits": 6, "kwargs": {"averaging_constant": 0.1}},
        },
        scheme_overrides={"classifier": "default", "BertPooler": {"weights": {"num_bits": 5}}},
        ignore=["bert.encoder.layer.0"],
    ).model_scheme()
    assert resolved.linear.weights == TensorScheme(num_bits=4, symmetric=True, strategy="channel")
    assert resolved.linear.inputs == TensorScheme(num_bits=6, averaging=0.1)
    assert [name for name, _ in resolved.overrides] == ["classifier", "BertPooler"]
    assert resolved.overrides[1][1].weights == TensorScheme(num_bits=5)
    assert resolved.ignored == {"bert.encoder.layer.0"}


def test_weights_alone_leave_activations_and_attention() -> None:
    model, _ = structured(scheme={"input_activations": None})
    assert all(quantizer.of_weight for _, quantizer in quantizers_of(model))


def test_ignore_and_overrides_reach_the_model() -> None:
    model, _ = structured(
        scheme="default",
        ignore=["bert.encoder.layer.0"],
        scheme_overrides={"classifier": {"weights": {"num_bits": 3, "symmetric": True}}},
    )
    paths = {path for path, _ in quantizers_of(model)}
    assert not any(path.startswith("bert.encoder.layer.0") for path in paths)
    assert model.classifier.weight_quantizer.scheme.num_bits == 3


@pytest.mark.parametrize("field", ["ignore", "scheme_overrides"])
def test_an_entry_that_matches_nothing_lists_near_ones(field: str) -> None:
    value: Any = ["bert.encodr"] if field == "ignore" else {"bert.encodr": "default"}
    with pytest.raises(ModifierError, match=r"'bert\.encodr'.*'bert\.encoder'"):
        structured(**{field: value})
    structured(**{field: value, "strict": False})


# Errors.


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"scheme": "default", "weight_bits": 8}, "newer form.*older"),
        ({"ignore": ["classifier"], "submodules": ["bert.encoder"]}, "newer form.*older"),
        ({"end_epoch": 3}, "cannot end"),
        ({"end_step": 3}, "cannot end"),
        ({"start_epoch": 3, "disable_quantization_observer_epoch": 2}, "before any was seen"),
        ({"start_step": 3, "disable_quantization_observer_step": 2}, "before any was seen"),
        (
            {"disable_quantization_observer_epoch": 3, "disable_quantization_observer_step": 2},
            "give one of them",
        ),
        ({"activation_qconfig_kwargs": {"observer": "MinMax"}}, "averaging_constant"),
        ({"activation_qconfig_kwargs": {"averaging_constant": 3}}, "averaging_constant"),
        ({"activation_bits": 2, "reduce_range": True}, "activation_bits"),
        ({"scheme": "deepsparce"}, "scheme.*'deepsparse'"),
        ({"scheme": {"weights": {"bits": 4}}}, "scheme.*bits"),
        ({"scheme": {"weights": {"num_bits": 99}}}, "scheme.*num_bits"),
        ({"scheme": {"wieghts": {}}}, "scheme.*wieghts"),
        ({"scheme": {"input_activations": {"strategy": "channel"}}}, "channel"),
        ({"scheme_overrides": {"classifier": "fast"}}, "scheme_overrides.*fast"),
    ],
)
def test_what_will_not_do_is_refused_on_one_readable_line(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said) as caught:
        modifier_of(**fields)
    assert "\n" not in caught.value.message and caught.value.line == 7
    for chatter in ("pydantic", "literal[", "SchemeArguments", "input_type"):
        assert chatter not in caught.value.message


def test_a_model_is_quantized_only_once() -> None:
    run = Run(dense(), CLOCK)
    modifier_of().structure(run)
    with pytest.raises(ModifierError, match="quantized already"):
        modifier_of().structure(run)


def test_ranges_of_another_model_are_refused() -> None:
    modifier = modifier_of()
    run = Run(dense(), CLOCK)
    modifier.structure(run)
    state = modifier.state(run)
    for wrong in ({}, {key: value for key, value in state.items() if "pooler" not in key}):
        with pytest.raises(ModifierError, match="lacks"):
            modifier.load_state(wrong, run)


# What is said.


@pytest.mark.parametrize("architecture", OFF_INTERFACE)
def test_attention_out_of_reach_is_said_once(architecture: str) -> None:
    model, notes = structured(architecture, submodules=TUTORIAL)
    assert is_quantized(model)
    (note,) = [note for note in notes if "attention" in note]
    assert type(model).__name__ in note and "stay in floating point" in note


def test_nothing_is_said_where_all_is_as_meant() -> None:
    assert structured(submodules=TUTORIAL, quantize_linear_activations=0)[1] == []
    assert structured("roberta", submodules=TUTORIAL, quantize_linear_activations=0)[1] == [
        "RobertaForSequenceClassification has no bert.pooler: nothing to quantize there."
    ]
    assert structured("mpnet", scheme={"input_activations": None})[1] == []


# Ranges over a training.


@pytest.mark.parametrize(
    "held_from",
    [
        {"disable_quantization_observer_epoch": 2.5},
        {"disable_quantization_observer_step": 5},
        {"disable_quantization_observer_epoch": -1},
        {},
    ],
)
def test_ranges_move_from_the_start_until_they_are_held(held_from: dict[str, Any]) -> None:
    modifier = modifier_of(submodules=TUTORIAL, start_epoch=1, **held_from)
    model = dense().train()
    run = Run(model, CLOCK)
    modifier.structure(run)
    moved = []
    state = quantization_state(model)
    for step in range(CLOCK.total_steps):
        run.step = step
        if step == modifier.first_step(CLOCK):
            modifier.on_start(run)
        if modifier.active(step, CLOCK):
            modifier.before_step(run)
        with torch.no_grad():
            model(**labelled(seed=step))
        following = quantization_state(model)
        moved.append(any(not torch.equal(following[key], state[key]) for key in state if "input" in key))
        if step < 2:
            moved[-1] = any(not value.isnan().all() for key, value in following.items() if "minimum" in key)
        state = following
    last = 5 if held_from and -1 not in held_from.values() else CLOCK.total_steps
    assert moved == [2 <= step < last for step in range(CLOCK.total_steps)]
    assert modifier.frozen_from(CLOCK) == (last if last == 5 else float("inf"))
