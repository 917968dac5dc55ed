from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from sparsezoo import Model, ZooError, local_path, recipe_path
from sparsezoo.index import entries

MNLI = "zoo:nlp/text_classification/obert-base/pytorch/huggingface/mnli/pruned90_quant-none"
PRUNED = "zoo:nlp/masked_language_modeling/obert-base/pytorch/huggingface/wikipedia_bookcorpus/pruned90-none"
MINILM = "zoo:nlp/sentence_embedding/minilm-l6/pytorch/huggingface/sentence_transformers/pruned80-none"
TRANSFER = "recipe_transfer-text_classification.yaml"


@pytest.fixture(autouse=True)
def _home(zoo_home: Path) -> None:
    """No test reads the zoo of the person who runs it."""


def checkpoint(folder: Path, *more: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "model.safetensors", *more):
        (folder / name).write_text(f"{name} of {folder.name}")
    return folder


def test_the_tutorials_snippet(tmp_path: Path) -> None:
    zoo_model = Model(MNLI, download_path=str(tmp_path / "transfer_recipe-mnli"))
    recipe = zoo_model.recipes.default.path
    assert isinstance(recipe, str)
    assert Path(recipe) == tmp_path / "transfer_recipe-mnli" / "recipe.yaml"
    assert Path(recipe).read_text() == recipe_path(MNLI).read_text()


def test_a_recipe_that_the_user_edited_stays(tmp_path: Path) -> None:
    recipe = Path(Model(MNLI, download_path=tmp_path).recipes.default.path)
    recipe.write_text("num_epochs: 1\n")
    assert Path(Model(MNLI, download_path=tmp_path).recipes.default.path) == recipe
    assert recipe.read_text() == "num_epochs: 1\n"


def test_nothing_is_written_before_it_is_asked_for(tmp_path: Path) -> None:
    model = Model(PRUNED, download_path=tmp_path / "x")
    assert all(part is not None for part in (model.recipes, model.training, model.deployment))
    assert not (tmp_path / "x").exists()


def test_recipes_by_name_type_and_iteration() -> None:
    model = Model(MINILM)
    assert model.recipes.available == ["recipe", "recipe_transfer-text_classification"]
    assert [file.name for file in model.recipes] == ["recipe.yaml", TRANSFER]
    assert len(model.recipes) == 2
    assert model.recipes.default.path == str(recipe_path(MINILM))
    by_name = model.recipes.get_recipe_by_name("recipe_transfer-text_classification")
    assert by_name.path == model.recipes.get_recipe_by_name(TRANSFER).path
    assert by_name.display_name == "recipe_transfer-text_classification"
    assert Path(by_name.path) == recipe_path(f"{MINILM}?recipe_type=transfer-text_classification")
    with pytest.raises(ZooError, match="Did you mean 'recipe_transfer-text_classification'"):
        model.recipes.get_recipe_by_name("recipe_transfer")


def test_the_query_selects_a_recipe(zoo_home: Path) -> None:
    folder = checkpoint(
        zoo_home.joinpath(*MNLI[4:].split("/")), "recipe_a.md", "recipe_b.yaml", "recipe_b-x.yml"
    )
    assert recipe_path(f"{MNLI}?recipe_type=b") == folder / "recipe_b.yaml"
    assert recipe_path(f"{MNLI}?recipe=a") == folder / "recipe_a.md"
    assert recipe_path(f"{MNLI}?recipe_type=b-x") == folder / "recipe_b-x.yml"
    with pytest.raises(ZooError, match=r"several recipes and no plain one.*recipe_type=a.*recipe_type=b-x"):
        recipe_path(MNLI)
    with pytest.raises(ZooError, match=r"no recipe 'c'.*recipe_type=a"):
        recipe_path(f"{MNLI}?recipe_type=c")
    (folder / "recipe.yml").touch()
    assert recipe_path(MNLI) == recipe_path(f"{MNLI}?recipe_type=original") == folder / "recipe.yml"


def test_a_stub_without_recipe_names_those_that_are_recipes() -> None:
    with pytest.raises(ZooError, match=r"has no recipe. These are recipes: .*mnli/pruned90_quant-none"):
        recipe_path("zoo:nlp/text_classification/obert-base/pytorch/huggingface/mnli/base-none")


def test_weights_that_ended_say_what_lives_in_their_place() -> None:
    with pytest.raises(ZooError, match=r"no weights any more.*wikipedia_bookcorpus/pruned90-none"):
        local_path(MNLI)
    with pytest.raises(ZooError, match="no exported model"):
        _ = Model(MNLI).deployment.path


@pytest.mark.parametrize("call", [local_path, recipe_path, Model])
def test_an_unknown_stub_gives_the_nearest(call: object) -> None:
    assert callable(call)
    with pytest.raises(
        ZooError, match=r"knows no zoo:.* Nearest: zoo:nlp/text_classification/obert-base/.*/mnli/"
    ):
        call("zoo:nlp/text_classification/obert-base/pytorch/huggingface/mnly/pruned90_quant-none")


def test_a_local_folder_is_never_mistaken_for_a_stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("my-model-dir", MNLI[4:]):
        folder = checkpoint(tmp_path / name)
        assert local_path(name) == Path(name)
        assert Model(name).stub is None
        assert Path(Model(name).training.path).resolve() == folder
    assert local_path(tmp_path) == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_path("~/my-model-dir") == tmp_path / "my-model-dir"


def test_a_stub_of_the_index_may_lack_its_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Model(MNLI[4:]).recipes.default.path == str(recipe_path(MNLI))
    with pytest.raises(ZooError, match="no folder my-model-dir"):
        Model("my-model-dir")
    with pytest.raises(ZooError, match=f"Did you mean the stub {MNLI}"):
        local_path(MNLI[4:])
    with pytest.raises(ZooError, match=r"no folder ./here"):
        local_path("./here")
    (tmp_path / "file").touch()
    with pytest.raises(ZooError, match="is a file"):
        local_path("file")


def test_a_folder_under_the_home_goes_before_the_index(zoo_home: Path) -> None:
    folder = checkpoint(zoo_home.joinpath(*PRUNED[4:].split("/"), "training"), "recipe.yaml")
    assert local_path(PRUNED) == folder
    assert recipe_path(PRUNED) == folder / "recipe.yaml"
    with pytest.raises(ZooError, match="no training/preqat"):
        local_path(f"{PRUNED}?checkpoint=preqat")
    other = checkpoint(folder / "preqat")
    assert local_path(f"{PRUNED}?checkpoint=preqat") == other


def test_a_plain_checkpoint_is_its_own_training_folder(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "run", "recipe.yaml", "model.onnx")
    model = Model(folder)
    assert model.path == model.training.path == model.deployment.path == str(folder)
    assert model.onnx_model.path == str(folder / "model.onnx")
    assert [file.name for file in model.training.files] == [
        "config.json",
        "model.onnx",
        "model.safetensors",
        "recipe.yaml",
    ]
    assert Path(model.training.default.get_file("config.json").path) == folder / "config.json"
    with pytest.raises(ZooError, match=r"Did you mean 'config.json'"):
        model.training.get_file("config.jsn")
    with pytest.raises(ZooError, match="no training folder 'prqat'"):
        model.training["prqat"]
    assert model.training["default"].path == str(folder)


def test_a_folder_of_the_zoos_layout_and_a_copy_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "zoo-model"
    training = checkpoint(folder / "training", "recipe.yaml")
    deployment = checkpoint(folder / "deployment", "model.onnx")
    model = Model(folder)
    assert model.training.path == str(training)
    assert model.onnx_model.path == str(deployment / "model.onnx")
    copy = Model(folder, download_path=tmp_path / "copy")
    assert copy.download() == str(tmp_path / "copy")
    again = Model(tmp_path / "copy")
    assert (
        Path(again.training.get_file("model.safetensors").path).read_text() == "model.safetensors of training"
    )
    assert Path(again.onnx_model.path).read_text() == "model.onnx of deployment"
    assert again.recipes.available == ["recipe"]


def test_a_folder_without_export_says_so(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match=r"neither a deployment folder nor a model.onnx"):
        _ = Model(checkpoint(tmp_path / "run")).onnx_model


def test_an_embedded_model_has_no_other_revisions() -> None:
    with pytest.raises(ZooError, match="one version"):
        local_path(f"{MINILM}@main")
    with pytest.raises(ZooError, match="no checkpoint"):
        local_path(f"{MINILM}?checkpoint=preqat")


def test_an_embedded_model_comes_from_this_package(tmp_path: Path) -> None:
    folder = local_path(MINILM)
    assert Model(MINILM).download() == str(folder)
    copied = Path(Model(MINILM, download_path=tmp_path / "copy").download())
    assert (copied / "training" / "model.safetensors").is_file()
    assert (copied / TRANSFER).is_file()


@pytest.mark.parametrize("percent", [80, 90])
def test_the_embedded_models_are_pruned_as_they_say(percent: int) -> None:
    stub = MINILM.replace("pruned80", f"pruned{percent}")
    tensors = load_file(local_path(stub) / "model.safetensors")
    matrices = [tensor for name, tensor in tensors.items() if "encoder" in name and tensor.ndim == 2]
    assert len(matrices) == 36
    zeros = sum(tensor.size - np.count_nonzero(tensor) for tensor in matrices)
    assert zeros / sum(tensor.size for tensor in matrices) == pytest.approx(percent / 100, abs=1e-6)
    assert f"{percent} % pruned" in (local_path(stub) / "README.md").read_text()


def test_every_entry_makes_a_model() -> None:
    for name in entries():
        assert repr(Model(f"zoo:{name}")) == f"Model('zoo:{name}')"
