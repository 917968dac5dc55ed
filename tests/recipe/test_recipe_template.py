"""`sparseml.recipe_template`, under SparseML's names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sparseml.new_recipe.plan import NewRecipeError
from sparseml.recipe import load_plan
from sparseml.recipe_template import main, recipe_template


def fields(text: str) -> dict[str, dict[str, Any]]:
    return {spec.tag: spec.fields for spec in load_plan(text).modifiers}


@pytest.mark.parametrize(
    ("wanted", "tag"),
    [
        ({"pruning": "true"}, "GlobalMagnitudePruningModifier"),
        ({"pruning": True, "global_sparsity": False}, "MagnitudePruningModifier"),
        ({"pruning": "Movement"}, "MovementPruningModifier"),
        ({"pruning": "constant"}, "ConstantPruningModifier"),
        ({}, None),
    ],
)
def test_the_method_is_the_one_that_was_named(wanted: dict[str, Any], tag: str | None) -> None:
    found = fields(recipe_template(**wanted))
    assert [name for name in found if "Pruning" in name] == ([tag] if tag else [])
    assert "QuantizationModifier" not in found


@pytest.mark.parametrize(
    ("wanted", "shape"),
    [
        ({"quantization": True}, "unstructured"),
        ({"quantization": "vnni"}, "block4"),
        ({"quantization": "true", "target": "tensorrt"}, "2:4"),
        ({"quantization": True, "target": "vnni", "mask_type": "unstructured"}, "unstructured"),
    ],
)
def test_a_target_has_a_shape_of_masks(wanted: dict[str, Any], shape: str) -> None:
    found = fields(recipe_template(pruning=True, **wanted))
    assert found["GlobalMagnitudePruningModifier"]["mask_type"] == shape
    assert "QuantizationModifier" in found


def test_names_of_a_model(pruned_model: Path) -> None:
    found = fields(recipe_template(quantization=True, pruning="constant", model=str(pruned_model)))
    assert found["QuantizationModifier"]["submodules"][0] == "bert.embeddings"


@pytest.mark.parametrize(
    "wanted", [{"pruning": "mfac"}, {"pruning": "?"}, {"lr": "stepped"}, {"target": "x"}]
)
def test_what_is_not_here_is_said(wanted: dict[str, Any]) -> None:
    with pytest.raises(NewRecipeError):
        recipe_template(**wanted)


def test_the_command_writes_a_recipe_in_markdown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "recipe.md"
    assert main(["--pruning", "true", "--quantization", "true", "--file_name", str(path)]) == 0
    assert fields(capsys.readouterr().out) == {spec.tag: spec.fields for spec in load_plan(path).modifiers}
    assert main(["--pruning", "acdc", "--file_name", str(path)]) == 2
