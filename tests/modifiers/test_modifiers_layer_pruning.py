"""Layer pruning: the layers are gone, and the rest is a model of Transformers with fewer layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_modifiers_settings import plan_of, train
from test_modifiers_structured_pruning import encoder, plan
from transformers import AutoModelForSequenceClassification

from sparseml.modifiers import ModifierError
from sparseml.modifiers.layer_pruning import evenly_spread
from sparseml.modifiers.units import layer_list
from sparseml.recipe import RecipeError
from sparseml.session.session import Session
from support.encoders import batch, dense

ARCHITECTURES = ["bert", "roberta", "distilbert", "electra", "mpnet"]


def six(architecture: str = "bert") -> Any:
    return encoder(architecture, num_hidden_layers=6)


def remove(model: Any, **fields: Any) -> None:
    session = Session(plan_of("LayerPruningModifier", fields), model)
    session.apply_once()
    session.finish()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_is_the_model_that_was_built_with_fewer_layers(architecture: str, tmp_path: Path) -> None:
    model = six(architecture)
    path, layers = layer_list(model, "the test")
    kept = [layers[index] for index in (0, 2, 4)]
    small = encoder(architecture, num_hidden_layers=3)
    weights = {name: value for name, value in model.state_dict().items() if not name.startswith(f"{path}.")}
    for number, layer in enumerate(kept):
        weights |= {f"{path}.{number}.{name}": value for name, value in layer.state_dict().items()}
    small.load_state_dict(weights)
    remove(model, layers=[1, "bert.encoder.layer.3", r"re:.*\.5"])
    assert model.config.num_hidden_layers == 3
    inputs = batch(3, 7)
    expected = small(**inputs, output_hidden_states=True)
    answer = model(**inputs, output_hidden_states=True)
    assert torch.equal(answer.logits, expected.logits)
    assert len(answer.hidden_states) == len(expected.hidden_states) == 4
    assert all(map(torch.equal, answer.hidden_states, expected.hidden_states))
    model.save_pretrained(tmp_path)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(plain(**inputs).logits, expected.logits)


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({"layers": [5]}, [0, 1, 2, 3, 4]),
        ({"layers": -1}, [0, 1, 2, 3, 4]),
        ({"layers": "re:.*[135]"}, [0, 2, 4]),
        ({"layers": ["encoder.layer.0", "distilbert.transformer.layer.1"]}, [2, 3, 4, 5]),
        ({"num_layers": 3}, [0, 2, 5]),
        ({"num_layers": 6}, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_layers_are_named_in_every_way(fields: dict[str, Any], left: list[int]) -> None:
    model = six()
    before = list(model.bert.encoder.layer)
    remove(model, **fields)
    assert list(model.bert.encoder.layer) == [before[index] for index in left]
    assert [layer.attention.self.layer_idx for layer in model.bert.encoder.layer] == list(range(len(left)))


def test_spread_is_that_of_distilbert() -> None:
    assert evenly_spread(6, 12) == [0, 2, 4, 7, 9, 11]
    for count in range(1, 25):
        for stay in range(1, count + 1):
            spread = evenly_spread(stay, count)
            assert len(set(spread)) == stay and spread[0] == 0 and max(spread) < count
            assert stay == 1 or spread[-1] == count - 1


def test_several_remove_layers_gradually_by_the_first_models_numbers() -> None:
    model = six()
    before = list(model.bert.encoder.layer)
    recipe = plan(
        ("LayerPruningModifier", {"layers": [4], "start_epoch": 1}),
        ("LayerPruningModifier", {"layers": [1, 5], "start_epoch": 1 / 3}),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    session = Session(recipe, model)
    train(session, range(2), optimizer)
    assert list(model.bert.encoder.layer) == [before[index] for index in (0, 2, 3, 4)]
    train(session, range(2, 6), optimizer)
    assert list(model.bert.encoder.layer) == [before[index] for index in (0, 2, 3)]
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in model.parameters()} == set(map(id, optimizer.state))


def test_masks_go_along_with_the_numbers() -> None:
    model = six()
    with torch.no_grad():
        for index, layer in enumerate(model.bert.encoder.layer):
            layer.output.dense.weight[:, : 2 + index] = 0
    recipe = plan(
        ("ConstantPruningModifier", {"params": ["re:.*output.dense.weight"]}),
        ("LayerPruningModifier", {"layers": [0, 3], "start_epoch": 1}),
    )
    session = Session(recipe, model, allow_dense_start=True)
    train(session, range(6))
    zeros = [int((layer.output.dense.weight == 0).all(0).sum()) for layer in model.bert.encoder.layer]
    assert zeros == [3, 4, 6, 7]
    assert {
        key.split(".pruned")[0].rpartition(":")[2] for key in session.state() if key.endswith(".pruned")
    } <= set(model.state_dict())


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"layers": [6]}, r"layers entry 6 is no layer.*bert.encoder.layer.5"),
        ({"layers": ["bert.encoder.layer.9"]}, r"layers entry 'bert.encoder.layer.9'"),
        ({"layers": ["re:nothing"]}, r"layers entry 're:nothing'"),
        ({"layers": ["re:("]}, r"no regular expression"),
        ({"layers": "re:.*"}, r"layers names all 6"),
        ({"num_layers": 7}, r"num_layers is 7.*only 6"),
        ({}, r"either layers .* or num_layers"),
        ({"layers": [1], "num_layers": 3}, r"either layers .* or num_layers"),
        ({"layers": [1], "end_epoch": 2}, r"does not come back"),
    ],
)
def test_what_cannot_be_is_refused_by_the_fields_name(fields: dict[str, Any], text: str) -> None:
    with pytest.raises((ModifierError, RecipeError), match=text):
        remove(six(), **fields)


@pytest.mark.parametrize("architecture", ["albert", "modernbert"])
def test_architectures_whose_layers_do_not_stand_alone_are_refused(architecture: str) -> None:
    with pytest.raises(ModifierError, match="no list of layers"):
        remove(dense(architecture), layers=[0])


def test_names_with_numbers_of_layers_conflict() -> None:
    layers = ("LayerPruningModifier", {"layers": [0], "start_epoch": 1})
    named = {"params": ["bert.encoder.layer.1.output.dense.weight"]}
    with pytest.raises(RecipeError, match=r"numbers the layers anew.*layer.1.output"):
        Session(plan(layers, ("ConstantPruningModifier", named)), six())
    Session(plan(layers, ("ConstantPruningModifier", {**named, "end_epoch": 1})), six())
