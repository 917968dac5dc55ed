"""Which parameters and modules a recipe's words mean, on every architecture that the project names."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from torch import nn

from sparseml.modifiers import ModifierError
from sparseml.modifiers.select import may_share, select_modules, select_parameters
from support.encoders import ARCHITECTURES, dense

WHO = "ConstantPruningModifier"
TUTORIAL = ["bert.embeddings", "bert.encoder", "bert.pooler", "classifier"]


@functools.cache
def model_of(architecture: str) -> Any:
    return dense(architecture)


def chosen(model: nn.Module, *params: str) -> set[str]:
    return set(select_parameters(model, list(params), WHO))


every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)


@every_architecture
def test_all_is_every_parameter(architecture: str) -> None:
    model = model_of(architecture)
    assert chosen(model, "__ALL__") == {name for name, _ in model.named_parameters()}
    assert chosen(model, "__all__") == chosen(model, "__ALL__")


@every_architecture
def test_all_prunable_is_the_weights_of_linear_layers(architecture: str) -> None:
    model = model_of(architecture)
    parameters = select_parameters(model, ["__ALL_PRUNABLE__"], WHO)
    assert set(parameters) == {
        f"{path}.weight" for path, module in model.named_modules() if type(module) is nn.Linear
    }
    table = model.get_input_embeddings().weight
    assert parameters and all(parameter is not table for parameter in parameters.values())


@every_architecture
def test_the_tutorials_submodules_cover_every_linear_and_every_embedding(architecture: str) -> None:
    model = model_of(architecture)
    found, _ = select_modules(model, TUTORIAL, WHO)
    inside = {id(module) for root in found.values() for module in root.modules()}
    left = [
        path
        for path, module in model.named_modules()
        if isinstance(module, (nn.Linear, nn.Embedding)) and id(module) not in inside
    ]
    assert left == []


@every_architecture
def test_what_an_architecture_lacks_is_told_and_nothing_else(architecture: str) -> None:
    model = model_of(architecture)
    _, absent = select_modules(model, TUTORIAL, WHO)
    has_pooler = architecture in ("bert", "albert", "distilbert", "modernbert", "deberta-v2")
    assert absent == ([] if has_pooler else ["bert.pooler"])


@pytest.mark.parametrize(
    "architecture", [name for name in ARCHITECTURES if name not in ("distilbert", "modernbert", "albert")]
)
def test_a_name_written_for_bert_maps_to_the_models_prefix(architecture: str) -> None:
    model = model_of(architecture)
    own = f"{model.base_model_prefix}.encoder.layer.1.output.dense"
    assert chosen(model, "bert.encoder.layer.1.output.dense.weight") == {f"{own}.weight"}
    assert chosen(model, "bert.encoder.layer.1.output.dense") == {f"{own}.weight"}
    assert chosen(model, "bert.encoder.layer.1.output.dense.bias") == {f"{own}.bias"}
    assert chosen(model, r"re:bert\.encoder\.layer\.1\.output\.dense\..*") == {f"{own}.weight", f"{own}.bias"}
    assert list(select_modules(model, ["bert.encoder.layer.1"], WHO)[0]) == [
        f"{model.base_model_prefix}.encoder.layer.1"
    ]


def test_a_name_is_exact_and_not_a_beginning() -> None:
    assert chosen(model_of("bert"), "classifier") == {"classifier.weight"}
    assert chosen(model_of("bert"), "classifier.bias") == {"classifier.bias"}


def test_a_pattern_is_matched_from_the_start_of_the_name() -> None:
    model = model_of("bert")
    assert chosen(model, r"re:classifier\..*") == {"classifier.weight", "classifier.bias"}
    assert chosen(model, r"re:.*\.query\.weight") == {
        f"bert.encoder.layer.{index}.attention.self.query.weight" for index in range(2)
    }
    with pytest.raises(ModifierError, match="matches no parameter"):
        chosen(model, r"re:query\.weight")


def test_entries_add_up_in_the_models_order() -> None:
    model = model_of("bert")
    names = ["classifier", "bert.pooler.dense", r"re:.*layer\.0.*query\.weight", "classifier.weight"]
    found = list(select_parameters(model, names, WHO))
    order = [name for name, _ in model.named_parameters()]
    assert len(found) == 3 and found == sorted(found, key=order.index)


@pytest.mark.parametrize(
    ("entry", "near"),
    [
        ("bert.encoder.layer.0.attention.self.qerry", "bert.encoder.layer.0.attention.self.query"),
        ("clasifier", "classifier.weight"),
        ("re:bert.encoder.layer.1.output.dence.weight", "bert.encoder.layer.1.output.dense.weight"),
    ],
)
def test_a_miss_lists_near_names(entry: str, near: str) -> None:
    with pytest.raises(ModifierError) as caught:
        chosen(model_of("bert"), "classifier", entry)
    assert repr(entry) in str(caught.value) and near in str(caught.value) and WHO in str(caught.value)


def test_a_miss_may_be_allowed() -> None:
    assert select_parameters(model_of("bert"), ["no.such", "classifier"], WHO, strict=False).keys() == {
        "classifier.weight"
    }


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(ModifierError, match="no regular expression"):
        chosen(model_of("bert"), "re:(")


def test_a_submodule_that_is_none_lists_near_names() -> None:
    with pytest.raises(ModifierError, match=r"bert\.encodr.*bert\.encoder"):
        select_modules(model_of("bert"), ["bert.encodr"], WHO)


def test_submodules_that_are_all_absent_are_an_error() -> None:
    with pytest.raises(ModifierError, match=r"none of bert\.pooler is a module.*roberta"):
        select_modules(model_of("roberta"), ["bert.pooler"], WHO)


def test_a_name_that_is_exact_here_means_no_more_than_itself() -> None:
    assert list(select_modules(model_of("electra"), ["electra.embeddings"], WHO)[0]) == ["electra.embeddings"]


@pytest.mark.parametrize("names", [["bert.encoder"], ["encoder"], ["roberta.encoder"]])
def test_a_prefix_of_another_architecture_or_none_is_mapped(names: list[str]) -> None:
    assert list(select_modules(model_of("bert"), names, WHO)[0]) == ["bert.encoder"]


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        (["__ALL__"], ["a"], True),
        (["re:b.*"], ["__all_prunable__"], True),
        (["a.dense"], ["b", "a.dense.weight"], True),
        (["re:a\\..*weight"], ["a.dense"], True),
        (["re:a"], ["re:a"], True),
        (["re:a"], ["re:b"], False),
        (["re:a"], ["b.a"], False),
        (["a"], ["b"], False),
        (["re:("], ["a"], False),
    ],
)
def test_whether_two_selectors_may_share_a_parameter(
    first: list[str], second: list[str], shared: bool
) -> None:
    assert may_share(first, second) == may_share(second, first) == shared
