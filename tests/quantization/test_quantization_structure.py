"""Quantized modules in place, on every architecture that the project names."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from sparseml.modifiers.select import select_modules
from sparseml.quantization.fake_quantize import FakeQuantize
from sparseml.quantization.modules import ATTRIBUTE, QUANTIZED_ATTENTION, QuantizedEmbedding, QuantizedLinear
from sparseml.quantization.scheme import LayerScheme, ModelScheme, TensorScheme
from sparseml.quantization.structure import (
    Structure,
    calibrating,
    enable,
    is_quantized,
    load_quantization_state,
    quantization_state,
    quantize_structure,
    quantizers_of,
    set_observing,
)
from support.encoders import ARCHITECTURES, OFF_INTERFACE, ON_INTERFACE, dense, labelled

TUTORIAL = ["bert.embeddings", "bert.encoder", "bert.pooler", "classifier"]
# The tutorial leaves the outputs of Linear layers alone.
SCHEME = ModelScheme()

every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)
on_the_interface = pytest.mark.parametrize("architecture", ON_INTERFACE)


def inputs(rows: int = 4, tokens: int = 7, seed: int = 0) -> dict[str, Tensor]:
    return {key: value for key, value in labelled(rows, tokens, seed).items() if key != "labels"}


def quantized(architecture: str, scheme: ModelScheme = SCHEME) -> tuple[Any, Structure]:
    """With the tutorial's submodules, not yet enabled."""
    model = dense(architecture)
    roots, _ = select_modules(model, TUTORIAL, "the test")
    return model, quantize_structure(model, roots, scheme)


def calibrated(architecture: str, scheme: ModelScheme = SCHEME, seed: int = 0) -> Any:
    """Enabled, with ranges of one batch, in evaluation mode."""
    model, _ = quantized(architecture, scheme)
    enable(model)
    with calibrating(model), torch.no_grad():
        model(**inputs(rows=8, seed=seed))
    return model


@every_architecture
def test_all_linears_and_embeddings_are_quantized(architecture: str) -> None:
    model, structure = quantized(architecture)
    layers = dict(dense(architecture).named_modules())
    assert structure.linears == [path for path, layer in layers.items() if type(layer) is nn.Linear]
    assert structure.embeddings == [path for path, layer in layers.items() if type(layer) is nn.Embedding]
    for path in structure.linears:
        layer = model.get_submodule(path)
        assert isinstance(layer, QuantizedLinear) and layer.output_quantizer is None
        assert layer.weight_quantizer.scheme.symmetric and not layer.input_quantizer.scheme.symmetric
    assert all(isinstance(model.get_submodule(path), QuantizedEmbedding) for path in structure.embeddings)


@on_the_interface
def test_attention_is_found_once_a_layer(architecture: str) -> None:
    model, structure = quantized(architecture)
    assert len(structure.attentions) == (1 if architecture == "albert" else 2)  # ALBERT's layers are one
    assert not structure.other_attention
    for path in structure.attentions:
        assert set(dict(model.get_submodule(path).named_children())) >= {ATTRIBUTE}
    enable(model)
    assert model.config._attn_implementation == QUANTIZED_ATTENTION


@pytest.mark.parametrize("architecture", OFF_INTERFACE)
def test_attention_off_the_interface_is_left_and_told(architecture: str) -> None:
    model, structure = quantized(architecture)
    assert structure.other_attention and structure.attentions == []
    before = model.config._attn_implementation
    enable(model)
    assert model.config._attn_implementation == before


@every_architecture
def test_query_key_and_value_share_their_input(architecture: str) -> None:
    model, _ = quantized(architecture)
    sharing = [(path, quantizer.sharers) for path, quantizer in quantizers_of(model) if quantizer.sharers > 1]
    if architecture == "modernbert":
        assert sharing == []  # one matrix makes all three
    else:
        fewest = 2 if architecture == "deberta-v2" else 3  # DeBERTa's two projections of positions share too
        assert all(count >= fewest for _, count in sharing)
        assert len(sharing) >= (1 if architecture == "albert" else 2)


@every_architecture
def test_until_enabled_the_model_computes_what_it_did(architecture: str) -> None:
    free = dense(architecture)
    model, _ = quantized(architecture)
    assert torch.equal(model(**inputs()).logits, free(**inputs()).logits)
    assert list(model.state_dict()) == list(free.state_dict())
    assert model.config.to_dict() == free.config.to_dict()
    assert model.config._attn_implementation == free.config._attn_implementation
    assert not model.training and all(not hook for hook in (m._forward_pre_hooks for m in model.modules()))


@every_architecture
def test_looking_at_the_wiring_leaves_mode_and_random_stream(architecture: str) -> None:
    model = dense(architecture).train()
    before = torch.get_rng_state()
    quantize_structure(model, {"": model}, SCHEME)
    assert model.training and all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), before)


@every_architecture
def test_enabled_it_computes_nearly_what_it_did(architecture: str) -> None:
    free, model = dense(architecture), calibrated(architecture)
    states = [
        each(**inputs(rows=8), output_hidden_states=True).hidden_states[-1].detach() for each in (free, model)
    ]
    distance = (states[0] - states[1]).norm() / states[0].norm()
    assert 1e-4 < distance < 0.1


@on_the_interface
def test_it_is_the_attention_alone_that_is_quantized_where_all_else_is_ignored(architecture: str) -> None:
    free = dense(architecture)
    without = ModelScheme(linear=LayerScheme(None, None), embedding=None)
    model = calibrated(architecture, without)
    far, near = free(**inputs(rows=8)).logits, model(**inputs(rows=8)).logits
    assert not torch.equal(far, near)
    torch.testing.assert_close(near, far, rtol=0, atol=0.02 * far.abs().max().item())


@every_architecture
def test_gradients_reach_every_parameter_that_they_reached_before(architecture: str) -> None:
    free, (model, _) = dense(architecture).train(), quantized(architecture)
    enable(model)
    model.train()
    reached = []
    for each in (free, model):
        each(**labelled()).loss.backward()
        reached.append({name for name, p in each.named_parameters() if p.grad is not None and p.grad.any()})
        assert all(p.grad is None or p.grad.isfinite().all() for p in each.parameters())
    assert reached[1] == reached[0]
    ranges = [quantizer.minimum for _, quantizer in quantizers_of(model)]
    assert ranges and not any(each.isnan().any() for each in ranges)


@every_architecture
def test_padding_changes_nothing(architecture: str) -> None:
    model = calibrated(architecture)
    short = inputs(rows=2, tokens=5, seed=3)
    padding = model.config.pad_token_id or 0
    padded = {
        "input_ids": nn.functional.pad(short["input_ids"], (0, 6), value=padding),
        "attention_mask": nn.functional.pad(short["attention_mask"], (0, 6), value=0),
    }
    torch.testing.assert_close(model(**padded).logits, model(**short).logits, rtol=1e-4, atol=1e-5)
    other = {**padded, "input_ids": padded["input_ids"].clone()}
    other["input_ids"][:, 5:] = 7
    if architecture not in ("roberta", "xlm-roberta", "mpnet"):  # these count their positions by padding ids
        torch.testing.assert_close(model(**other).logits, model(**short).logits, rtol=1e-4, atol=1e-5)


@on_the_interface
def test_rows_of_different_lengths_do_not_touch_each_other(architecture: str) -> None:
    model = calibrated(architecture)
    both = inputs(rows=2, tokens=9)
    padding = model.config.pad_token_id or 0
    both["attention_mask"][0, 4:] = 0
    both["input_ids"][0, 4:] = padding
    alone = {key: value[:1, :4] for key, value in both.items()}
    torch.testing.assert_close(model(**both).logits[:1], model(**alone).logits, rtol=1e-4, atol=1e-5)


@every_architecture
def test_a_saved_model_is_a_plain_one(architecture: str, tmp_path: Path) -> None:
    model = calibrated(architecture)
    model.save_pretrained(tmp_path)
    assert QUANTIZED_ATTENTION not in json.dumps(json.loads((tmp_path / "config.json").read_text()))
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert not is_quantized(plain)
    free = dense(architecture)
    assert list(plain.state_dict()) == list(free.state_dict())
    assert torch.equal(plain(**inputs()).logits, free(**inputs()).logits)


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"]
)
@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_a_quantized_model_can_be_copied_and_pickled(architecture: str, again: Any) -> None:
    model = calibrated(architecture)
    other = again(model)
    assert torch.equal(other(**inputs()).logits, model(**inputs()).logits)
    shared = {id(quantizer) for _, quantizer in quantizers_of(model)}
    assert len({id(quantizer) for _, quantizer in quantizers_of(other)}) == len(shared)
    assert shared.isdisjoint(id(quantizer) for _, quantizer in quantizers_of(other))


@every_architecture
def test_ranges_are_told_back_as_they_were(architecture: str) -> None:
    model = calibrated(architecture)
    state = quantization_state(model)
    other, _ = quantized(architecture)
    assert load_quantization_state(other, state) == []
    enable(other)
    assert torch.equal(other.eval()(**inputs(seed=5)).logits, model(**inputs(seed=5)).logits)
    key = next(key for key in state if key.endswith("scale"))
    assert load_quantization_state(other, {k: v for k, v in state.items() if k != key}) == [key]


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "mpnet"])
def test_evaluation_and_held_ranges_do_not_move(architecture: str) -> None:
    model = calibrated(architecture)
    before = quantization_state(model)

    def moved() -> bool:
        return any(not torch.equal(value, before[key]) for key, value in quantization_state(model).items())

    model(**inputs(seed=1))
    assert not moved()
    model.train()(**inputs(seed=1))  # `calibrating` left the ranges held
    assert not moved()
    set_observing(model, True)
    model(**inputs(seed=1))
    assert moved()


def test_calibrating_is_free_of_dropout_and_leaves_the_mode_as_it_was() -> None:
    first, second = (calibrated("bert") for _ in range(2))
    assert all(
        torch.equal(value, quantization_state(second)[key])
        for key, value in quantization_state(first).items()
    )
    model, _ = quantized("bert")
    with calibrating(model.train()):
        assert not model.training
    assert model.training


@pytest.mark.parametrize("architecture", ["bert", "modernbert", "deberta-v2"])
def test_under_autocast_fake_quantization_is_in_float32(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = quantized(architecture)
    enable(model)
    model.train()
    seen, real = [], FakeQuantize.round

    def watch(self: FakeQuantize, x: Tensor) -> Tensor:
        result = real(self, x)
        seen.append((x.dtype, result.dtype, self.scale.dtype))
        return result

    monkeypatch.setattr(FakeQuantize, "round", watch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(**labelled())
    output.loss.backward()
    assert {kinds[1:] for kinds in seen} == {(torch.float32, torch.float32)}
    assert torch.bfloat16 in {kinds[0] for kinds in seen}  # or autocast was not at work
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert output.loss.isfinite()


def test_under_autocast_a_shared_input_moves_its_range_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = quantized("bert")
    enable(model)
    quantizer = model.bert.encoder.layer[0].attention.self.query.input_quantizer
    calls, real = [], FakeQuantize.observe
    monkeypatch.setattr(FakeQuantize, "observe", lambda self, x: calls.append(self) or real(self, x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model.train()(**labelled())
    assert sum(each is quantizer for each in calls) == 1


# Schemes.


def scheme_of(weight_bits: int, activation_bits: int) -> ModelScheme:
    weights = TensorScheme(num_bits=weight_bits, symmetric=True)
    activations = TensorScheme(num_bits=activation_bits)
    return ModelScheme(
        LayerScheme(weights, activations),
        LayerScheme(weights, None),
        attention_left=activations,
        attention_right=activations.model_copy(update={"symmetric": True}),
    )


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_fewer_bits_lie_further_from_the_original(architecture: str) -> None:
    free = dense(architecture)(**inputs(rows=8), output_hidden_states=True).hidden_states[-1]
    errors = [
        (
            calibrated(architecture, scheme_of(bits, bits))(
                **inputs(rows=8), output_hidden_states=True
            ).hidden_states[-1]
            - free
        ).norm()
        for bits in (8, 6, 4)
    ]
    assert errors[0] < errors[1] / 2 < errors[2] / 4


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_a_quantized_weight_has_no_more_values_than_its_bits_allow(bits: int) -> None:
    model = calibrated("bert", scheme_of(bits, 8))
    layer = model.bert.encoder.layer[0].intermediate.dense
    values = layer.weight_quantizer(layer.weight).unique()
    assert 2 < len(values) <= 2**bits - 1
    assert 0.0 in values.tolist()


@pytest.mark.parametrize(
    ("ignored", "left"),
    [
        ("bert.encoder.layer.0", "bert.encoder.layer.0."),
        ("bert.encoder.layer.0.attention.self", "bert.encoder.layer.0.attention.self"),
        ("BertPooler", "bert.pooler."),
        ("BertAttention", ".attention."),
        ("bert.encoder.layer.1.output.dense", "bert.encoder.layer.1.output.dense"),
    ],
)
def test_what_is_ignored_stays_in_floating_point_with_all_that_is_in_it(ignored: str, left: str) -> None:
    _, all_of_it = quantized("bert")
    _, structure = quantized("bert", ModelScheme(ignored=frozenset({ignored})))
    for kind in ("linears", "embeddings", "attentions"):
        before, after = getattr(all_of_it, kind), getattr(structure, kind)
        assert after == [path for path in before if left not in f"{path}."]
    assert structure != all_of_it
    assert not structure.other_attention


def test_ignoring_a_class_of_layers_leaves_attention_products() -> None:
    _, structure = quantized("bert", ModelScheme(ignored=frozenset({"Linear"})))
    assert structure.linears == [] and len(structure.attentions) == 2


@pytest.mark.parametrize("entry", ["bert.encoder.layer.1", "bert.pooler.dense", "BertPooler", "Embedding"])
def test_an_override_reaches_the_layers_at_or_in_it_and_no_others(entry: str) -> None:
    four = LayerScheme(TensorScheme(num_bits=4, symmetric=True), TensorScheme(num_bits=5))
    model, structure = quantized("bert", ModelScheme(overrides=((entry, four),)))
    inside = (
        entry
        if entry.startswith("bert.")
        else {"BertPooler": "bert.pooler", "Embedding": "embeddings"}[entry]
    )
    for path in (*structure.linears, *structure.embeddings):
        layer = model.get_submodule(path)
        expected = (4, 5) if inside in path else (8, 8)
        assert layer.weight_quantizer.scheme.num_bits == expected[0]
        if isinstance(layer, QuantizedLinear):
            assert layer.input_quantizer.scheme.num_bits == expected[1]


def test_outputs_are_quantized_where_the_scheme_says() -> None:
    activations = TensorScheme(num_bits=2)
    scheme = ModelScheme(LayerScheme(None, None, activations), embedding=None, attention=False)
    model = calibrated("bert", scheme)
    assert len(model(**inputs(rows=8)).logits.unique()) <= 4


def test_layers_that_differ_in_their_input_scheme_share_nothing() -> None:
    four = LayerScheme(TensorScheme(symmetric=True), TensorScheme(num_bits=4))
    path = "bert.encoder.layer.0.attention.self.query"
    model, _ = quantized("bert", ModelScheme(overrides=((path, four),)))
    attention = model.bert.encoder.layer[0].attention.self
    assert attention.query.input_quantizer is not attention.key.input_quantizer
    assert attention.key.input_quantizer is attention.value.input_quantizer
    assert (attention.query.input_quantizer.sharers, attention.key.input_quantizer.sharers) == (1, 2)


def test_one_scale_a_channel() -> None:
    by_row = LayerScheme(TensorScheme(symmetric=True, strategy="channel"), TensorScheme())
    model = calibrated("bert", ModelScheme(by_row, LayerScheme(by_row.weights, None)))
    table = model.bert.embeddings.word_embeddings
    assert table.weight_quantizer.scale.shape == ()  # a table has one scale: its rows are not its channels
    layer = model.bert.encoder.layer[0].intermediate.dense
    assert layer.weight_quantizer.scale.shape == (32, 1)
    error = (layer.weight_quantizer(layer.weight) - layer.weight).abs()
    assert (error <= layer.weight_quantizer.scale * 0.501).all()
