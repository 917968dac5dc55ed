from __future__ import annotations

import re

import pytest
import yaml

from sparsezoo import parse_stub, recipe_path
from sparsezoo.embedded import packed_files
from sparsezoo.index import EmbeddedWeights, HubWeights, PypiWeights, entries

_MLM = "nlp/masked_language_modeling"
_TEXT = "nlp/text_classification/obert-base/pytorch/huggingface"

# Every stub of the tutorial, and what it is asked for there.
MODELS = {
    f"{_MLM}/obert-base/pytorch/huggingface/wikipedia_bookcorpus/pruned90-none": (
        "neuralmagic/oBERT-12-upstream-pruned-unstructured-90-v2"
    ),
    f"{_MLM}/bert-base/pytorch/huggingface/wikipedia_bookcorpus/base-none": "google-bert/bert-base-uncased",
    f"{_TEXT}/mnli/base-none": "neuralmagic/oBERT-teacher-mnli",
    f"{_TEXT}/qqp/base-none": "neuralmagic/oBERT-teacher-qqp",
}
TRANSFER_RECIPES = [
    f"{_TEXT}/mnli/pruned90_quant-none",
    f"{_TEXT}/qqp/pruned90_quant-none",
    "nlp/sentiment_analysis/obert-base/pytorch/huggingface/sst2/pruned90_quant-none",
]
DENSE_RECIPE = "nlp/sentiment_analysis/bert-base/pytorch/huggingface/sst2/base-none"
EMBEDDED_RECIPE = "nlp/text_classification/minilm-l6/pytorch/huggingface/default/pruned80_quant-none"


class _Tagged(yaml.SafeLoader):
    """A loader that reads `!Modifier` as a pair of its name and its fields."""


_Tagged.add_multi_constructor("!", lambda loader, tag, node: (tag, loader.construct_mapping(node, deep=True)))


def read_recipe(name: str) -> dict[str, object]:
    loaded = yaml.load(recipe_path(f"zoo:{name}").read_text(encoding="utf-8"), _Tagged)
    assert isinstance(loaded, dict)
    return loaded


def modifiers(recipe: dict[str, object]) -> dict[str, dict[str, object]]:
    groups = (value for key, value in recipe.items() if key.endswith("_modifiers"))
    return {tag: fields for group in groups for tag, fields in group}  # type: ignore[attr-defined]


@pytest.mark.parametrize(("name", "repo"), MODELS.items())
def test_every_model_of_the_tutorial_has_a_home(name: str, repo: str) -> None:
    weights = entries()[name].weights
    assert isinstance(weights, HubWeights)
    assert weights.repo == repo


@pytest.mark.parametrize("name", [*TRANSFER_RECIPES, EMBEDDED_RECIPE])
def test_transfer_recipes_hold_what_the_tutorial_overrides(name: str) -> None:
    recipe = read_recipe(name)
    wanted = {"num_epochs", "init_lr", "final_lr", "qat_start_epoch", "observer_epoch", "quantize_embeddings"}
    assert wanted | {"distill_hardness", "distill_temperature"} <= recipe.keys()
    assert ("weight_decay" in recipe) == ("qqp" not in name)
    assert {
        "EpochRangeModifier",
        "LearningRateFunctionModifier",
        "QuantizationModifier",
        "DistillationModifier",
        "ConstantPruningModifier",
    } <= modifiers(recipe).keys()


@pytest.mark.parametrize("name", [*TRANSFER_RECIPES, EMBEDDED_RECIPE, DENSE_RECIPE])
def test_every_variable_of_a_recipe_is_a_number_or_follows_from_one_and_is_used(name: str) -> None:
    recipe = read_recipe(name)
    variables = {key for key in recipe if not key.endswith("_modifiers") and key != "version"}
    assert all(re.fullmatch(r"[\d.e-]+|eval\([\d.]+ \* num_epochs\)", str(recipe[key])) for key in variables)
    used = {
        found
        for fields in modifiers(recipe).values()
        for value in fields.values()
        for found in re.findall(r"eval\((\w+)\)", str(value))
    }
    assert used == variables


@pytest.mark.parametrize("size", ["small", "large"])
def test_recipes_for_few_and_many_rows_differ_in_their_epochs_alone(size: str) -> None:
    usual, other = read_recipe(EMBEDDED_RECIPE), read_recipe(f"{EMBEDDED_RECIPE}?recipe_type={size}")
    assert (usual.pop("num_epochs") < other.pop("num_epochs")) == (size == "small")
    assert usual == other
    for kind in ("sentence", "pair"):
        named = read_recipe(EMBEDDED_RECIPE.replace("default", f"{kind}_{size}"))
        assert named == read_recipe(f"{EMBEDDED_RECIPE}?recipe_type={size}")


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        (f"{_TEXT}/mnli/pruned90_quant-none", (13, 8e-5, 0, 8.0, 12.0, 1, 1.0, 3.0)),
        (f"{_TEXT}/qqp/pruned90_quant-none", (13, 1.5e-4, 0, 8.0, 12.0, 1, 1.0, 2.0)),
    ],
)
def test_the_tutorials_hyperparameters(name: str, numbers: tuple[float, ...]) -> None:
    recipe = read_recipe(name)
    keys = ("num_epochs", "init_lr", "final_lr", "qat_start_epoch", "observer_epoch", "quantize_embeddings")
    assert tuple(recipe[key] for key in (*keys, "distill_hardness", "distill_temperature")) == numbers
    assert list(modifiers(recipe))[:5] == [
        "EpochRangeModifier",
        "LearningRateFunctionModifier",
        "QuantizationModifier",
        "DistillationModifier",
        "ConstantPruningModifier",
    ]
    assert modifiers(recipe)["QuantizationModifier"] == {
        "start_epoch": "eval(qat_start_epoch)",
        "disable_quantization_observer_epoch": "eval(observer_epoch)",
        "freeze_bn_stats_epoch": "eval(observer_epoch)",
        "quantize_embeddings": "eval(quantize_embeddings)",
        "quantize_linear_activations": 0,
        "exclude_module_types": ["LayerNorm", "Tanh"],
        "submodules": ["bert.embeddings", "bert.encoder", "bert.pooler", "classifier"],
    }


def test_the_dense_recipe_is_the_tutorials() -> None:
    recipe = read_recipe(DENSE_RECIPE)
    assert (recipe["num_epochs"], recipe["init_lr"], recipe["final_lr"]) == (8, 1.5e-4, 0)
    assert list(modifiers(recipe)) == ["EpochRangeModifier", "LearningRateFunctionModifier"]


@pytest.mark.parametrize("name", entries())
def test_every_entry_is_whole(name: str) -> None:
    entry = entries()[name]
    assert parse_stub(f"zoo:{name}").name == name
    assert entry.about
    assert all(path.is_file() for path in entry.recipes.values())
    # A stub without weights says what lives in their place, and what it names is in the index too.
    assert (entry.weights is None) == (entry.instead is not None)
    assert (entry.weights is None) == (entry.licence is None)
    for other in re.findall(r"zoo:([\w/.-]*\w)", entry.instead or ""):
        assert other in entries()


def test_the_dense_model_is_pinned() -> None:
    stem = "nlp/sentence_embedding/minilm-l6/pytorch/huggingface/sentence_transformers"
    dense = entries()[f"{stem}/base-none"].weights
    assert isinstance(dense, PypiWeights)
    assert re.fullmatch(r"[0-9a-f]{64}", dense.sha256)


def test_every_embedded_model_is_in_the_package_and_below_20_mb() -> None:
    found = [entry.weights for entry in entries().values() if isinstance(entry.weights, EmbeddedWeights)]
    assert {weights.model for weights in found} == {"pruned80", "pruned90"}
    for weights in found:
        assert all(path.is_file() for path in packed_files(weights))
    folder = found[0].folder
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 20e6
