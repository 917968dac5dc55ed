"""Training what was trained under a recipe before: what stays, what begins anew, what is written down."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from sparseml.modifiers import ModifierError
from sparseml.quantization.structure import quantization_state, quantizers_of
from sparseml.recipe import load_plan
from sparseml.session.models import load_model, load_trained, resolve
from sparseml.session.trainer import RecipeTrainer
from support import tiny
from support.tiny import contents, train

pytestmark = pytest.mark.usefixtures("one_thread")

MASKS = """
modifiers:
  - !EpochRangeModifier
      end_epoch: 1
  - !SetParamModifier
      params: classifier.bias
      val: 0.5
  - !LearningRateFunctionModifier
      lr_func: linear
      init_lr: 1e-3
      final_lr: 0
      end_epoch: 1
  - !ConstantPruningModifier
      params: __ALL_PRUNABLE__
"""
FOREIGN = """
modifiers:
  - !OBSPruningModifier
      params: __ALL_PRUNABLE__
      init_sparsity: 0.3
      final_sparsity: 0.9
"""


@pytest.fixture(scope="module")
def quantized(pruned_model: Path, rows_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained under the tutorial's recipe."""
    folder = tmp_path_factory.mktemp("stages") / "quantized"
    train(pruned_model, rows_folder, folder)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def zeros(folder: Path) -> dict[str, torch.Tensor]:
    return {
        name: value == 0 for name, value in weights(folder).items() if "encoder" in name and value.dim() == 2
    }


def recipe_tags(folder: Path) -> list[str]:
    return [spec.tag for spec in load_plan(folder / "recipe.yaml").modifiers]


def assert_state_is_in_its_places(folder: Path) -> None:
    """Each tensor's key names a place in the recipe where a modifier of its kind stands."""
    tags = recipe_tags(folder)
    keys = load_file(folder / "modifiers.safetensors")
    assert keys
    for key in keys:
        place, _, kind = key.partition(":")[0].partition(".")
        assert tags[int(place)] == kind, key


BATCH = {"input_ids": torch.tensor([[2, 5, 6, 7, 3]]), "attention_mask": torch.ones(1, 5, dtype=torch.int64)}


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(**BATCH).logits


def test_loaded_model_answers_as_the_trained_one_did(
    pruned_model: Path, rows_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit: same weights, same scales, same quantized attention."""
    kept: list[Any] = []
    save_model = RecipeTrainer.save_model
    monkeypatch.setattr(
        RecipeTrainer,
        "save_model",
        lambda self, *rest, **more: (kept.append(self.model), save_model(self, *rest, **more)),
    )
    train(pruned_model, rows_folder, tmp_path / "run")
    loaded, floating = (
        load_trained(tmp_path / "run"),
        load_model(resolve(str(tmp_path / "run")), AutoModelForSequenceClassification).model,
    )
    assert not loaded.training
    assert torch.equal(logits(loaded), logits(kept[-1].eval()))
    assert not torch.equal(logits(loaded), logits(floating.eval()))


def test_an_evaluation_leaves_the_training_s_report(quantized: Path, rows_folder: Path) -> None:
    before = contents(quantized)["report.json"]
    train(
        quantized,
        rows_folder,
        quantized,
        do_train=False,
        do_eval=True,
        recipe=None,
        overwrite_output_dir=False,
    )
    assert contents(quantized)["report.json"] == before


def test_recipe_without_quantization_keeps_the_old_one(
    quantized: Path, rows_folder: Path, tmp_path: Path
) -> None:
    """The weights learn on; the grid that they are rounded to stays, and is there after loading."""
    train(quantized, rows_folder, tmp_path / "on", recipe=MASKS)
    first, second = load_trained(quantized), load_trained(tmp_path / "on")
    assert all(quantizer.enabled for _, quantizer in quantizers_of(second))
    ranges, later = quantization_state(first), quantization_state(second)
    assert ranges.keys() == later.keys()
    assert all(torch.equal(ranges[key], later[key]) for key in ranges)
    assert not torch.equal(logits(first), logits(second))
    assert all(torch.equal(zeros(quantized)[name], mask) for name, mask in zeros(tmp_path / "on").items())
    assert recipe_tags(tmp_path / "on") == recipe_tags(quantized) + [
        spec.tag for spec in load_plan(MASKS).modifiers
    ]


def test_training_without_a_recipe_keeps_the_story(
    quantized: Path, rows_folder: Path, tmp_path: Path
) -> None:
    train(quantized, rows_folder, tmp_path / "on", recipe=None, num_train_epochs=1)
    assert recipe_tags(tmp_path / "on") == recipe_tags(quantized)
    assert all(quantizer.enabled for _, quantizer in quantizers_of(load_trained(tmp_path / "on")))


def test_recipe_that_quantizes_again_starts_in_floating_point(
    quantized: Path, rows_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same bits as from the same weights without a story, and a line that says so."""
    bare = tiny.bert(tmp_path / "bare", names=["negative", "positive"])
    (bare / "model.safetensors").write_bytes((quantized / "model.safetensors").read_bytes())
    capsys.readouterr()
    train(bare, rows_folder, tmp_path / "from bare")
    assert "floating point" not in capsys.readouterr().err
    train(quantized, rows_folder, tmp_path / "again")
    assert "starting from the weights in floating point" in capsys.readouterr().err
    ours, theirs = weights(tmp_path / "again"), weights(tmp_path / "from bare")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert_state_is_in_its_places(tmp_path / "again")
    assert recipe_tags(tmp_path / "again") == 2 * recipe_tags(quantized)
    assert torch.equal(logits(load_trained(tmp_path / "again")), logits(load_trained(tmp_path / "from bare")))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [MASKS, tiny.RECIPE, None], ids=["masks", "quantizes", "none"])
def test_second_training_resumes_to_the_same_bits(
    quantized: Path, rows_folder: Path, tmp_path: Path, recipe: str | None
) -> None:
    common: dict[str, Any] = {"recipe": recipe, "num_train_epochs": 1}
    train(quantized, rows_folder, tmp_path / "whole", **common, save_strategy="steps", save_steps=4)
    resume = {"resume_from_checkpoint": tmp_path / "whole" / "checkpoint-4"}
    train(quantized, rows_folder, tmp_path / "resumed", **common, **resume)
    for name in ("model.safetensors", "modifiers.safetensors"):
        ours, theirs = load_file(tmp_path / "resumed" / name), load_file(tmp_path / "whole" / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_third_training_stands_on_the_second(quantized: Path, rows_folder: Path, tmp_path: Path) -> None:
    train(quantized, rows_folder, tmp_path / "second", recipe=MASKS)
    train(tmp_path / "second", rows_folder, tmp_path / "third", recipe=MASKS)
    masks = [spec.tag for spec in load_plan(MASKS).modifiers]
    assert_state_is_in_its_places(tmp_path / "third")
    assert recipe_tags(tmp_path / "third") == recipe_tags(quantized) + masks + masks
    assert all(quantizer.enabled for _, quantizer in quantizers_of(load_trained(tmp_path / "third")))


def test_recipe_of_another_program_is_kept_without_understanding_it(
    pruned_model: Path, rows_folder: Path, tmp_path: Path
) -> None:
    """Checkpoints of SparseML carry recipes with modifiers that prune: nothing to do for them here."""
    start = tiny.bert(tmp_path / "start")
    (start / "recipe.yaml").write_text(FOREIGN, encoding="utf-8")
    train(start, rows_folder, tmp_path / "on")
    assert recipe_tags(tmp_path / "on")[0] == "OBSPruningModifier"
    assert all(quantizer.enabled for _, quantizer in quantizers_of(load_trained(tmp_path / "on")))


def test_older_recipe_does_not_outlive_its_model(
    quantized: Path, pruned_model: Path, rows_folder: Path, tmp_path: Path
) -> None:
    """A run without a recipe that overwrites a quantized model must not be taken for quantized."""
    train(pruned_model, rows_folder, tmp_path / "run")
    plain = {"recipe": None, "num_train_epochs": 1, "overwrite_output_dir": True}
    train(pruned_model, rows_folder, tmp_path / "run", **plain)
    assert {"recipe.yaml", "modifiers.safetensors"}.isdisjoint(contents(tmp_path / "run"))
    assert not list(quantizers_of(load_trained(tmp_path / "run")))


def test_optimizer_of_the_start_is_never_read(quantized: Path, rows_folder: Path, tmp_path: Path) -> None:
    """Poisoned training files in the folder to start from: they stay closed, and change nothing."""
    poisoned = Path(shutil.copytree(quantized, tmp_path / "poisoned"))
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "training_args.bin"):
        (poisoned / name).write_bytes(b"not what you think")
    train(poisoned, rows_folder, tmp_path / "from poisoned", recipe=MASKS)
    train(quantized, rows_folder, tmp_path / "from clean", recipe=MASKS)
    ours, theirs = weights(tmp_path / "from poisoned"), weights(tmp_path / "from clean")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_start_whose_ranges_are_missing(quantized: Path, rows_folder: Path, tmp_path: Path) -> None:
    """It is no model in floating point, unless the recipe says so: by being removed, or by quantizing anew."""
    start = Path(shutil.copytree(quantized, tmp_path / "start"))
    (start / "modifiers.safetensors").unlink()
    with pytest.raises(ModifierError, match="ranges that its own recipe asks for"):
        load_trained(start)
    with pytest.raises(ModifierError, match="ranges that its own recipe asks for"):
        train(start, rows_folder, tmp_path / "refused", recipe=MASKS)
    train(start, rows_folder, tmp_path / "again")
    again = load_trained(tmp_path / "again")
    assert list(quantizers_of(again)) and len(load_plan(tmp_path / "again" / "recipe.yaml").stages) == 2
    (start / "recipe.yaml").unlink()
    assert not list(quantizers_of(load_trained(start)))
