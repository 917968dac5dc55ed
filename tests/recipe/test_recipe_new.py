"""`sparseml recipe new`: recipes that follow the guided training's rules, explain their numbers, and train."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sparseml.cli import main
from sparseml.guided import sizing
from sparseml.modifiers import MODIFIERS, build
from sparseml.modifiers.pruning import MaskedModifier
from sparseml.modifiers.schedule import merge
from sparseml.new_recipe import plain_text, writer
from sparseml.new_recipe.methods import METHODS
from sparseml.new_recipe.plan import NewRecipeError, Wishes, decide
from sparseml.new_recipe.start import Start, describe
from sparseml.recipe import Plan, load_plan
from sparseml.recipe.source import read_source
from support import tiny
from support.encoders import ARCHITECTURES, dense

EMBEDDED = Start("", "", 0.8, 384)
DENSE = Start("dense", "bert", 0.0, 384)


def plan(wishes: Wishes) -> Plan:
    return load_plan(writer.text(decide(wishes)))


@pytest.fixture(scope="module")
def dense_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.bert(tmp_path_factory.mktemp("models") / "dense", sparsity=0.0)


def by_tag(plan: Plan) -> dict[str, dict[str, Any]]:
    return {spec.tag: spec.fields for spec in plan.modifiers}


@pytest.mark.parametrize(("rows", "classes"), [(60, 2), (1000, 6), (3000, 4), (400_000, 3), (2000, 1)])
def test_a_pruned_start_gives_the_guided_trainings_recipe(rows: int, classes: int) -> None:
    """One rule for both: the recipe that a guided training uses, with the variables that it computes."""
    known = load_plan(sizing.RECIPE, sizing.fit(rows, classes).variables)
    made = plan(Wishes(EMBEDDED, rows, classes, teacher=True))
    assert by_tag(made) == by_tag(known)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("int8", [True, False])
@pytest.mark.parametrize("teacher", [True, False])
def test_what_was_wished_is_in_the_recipe(method: str, int8: bool, teacher: bool) -> None:
    start = EMBEDDED if method == "keep" else DENSE
    made = plan(Wishes(start, 3000, 4, int8=int8, teacher=teacher, method=method, epochs=7))
    merge(build(made))
    fields = by_tag(made)
    assert ("QuantizationModifier" in fields) == int8
    assert ("DistillationModifier" in fields) == teacher
    assert [tag for tag in fields if "Pruning" in tag] == [METHODS[method].tag]
    assert fields["EpochRangeModifier"]["end_epoch"] == 7
    if method != "keep":
        assert fields[METHODS[method].tag]["final_sparsity"] == 0.8


def test_methods_are_modifiers_that_prune_or_hold() -> None:
    assert all(issubclass(MODIFIERS[method.tag], MaskedModifier) for method in METHODS.values())


@pytest.mark.parametrize("method", METHODS)
def test_every_variable_says_why(method: str) -> None:
    start = EMBEDDED if method == "keep" else DENSE
    lines = writer.text(decide(Wishes(start, 500, teacher=True, method=method))).splitlines()
    variables = [at for at, line in enumerate(lines) if re.match(r"[a-z_0-9]+: \S", line)]
    assert len(variables) >= 8
    for at in variables:
        if not lines[at].startswith("version"):
            assert lines[at - 1].startswith("# "), lines[at]
    # Numbers in modifiers are variables, zeros (the start), or explained above.
    for at, line in enumerate(lines):
        if re.match(r" {6}\w+: [1-9]", line):
            assert lines[at - 1].lstrip().startswith("# "), line


def test_more_zeros_than_a_pruned_model_has() -> None:
    fields = by_tag(plan(Wishes(replace(EMBEDDED, called="m"), 3000, sparsity=0.9)))
    pruning = fields["GlobalMagnitudePruningModifier"]
    assert (pruning["init_sparsity"], pruning["final_sparsity"]) == ("__FROM_PARAM__", 0.9)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("method", ["magnitude", "layerwise"])
def test_zeros_of_the_start_are_never_lost(
    method: str, pruned_model: Path, rows_folder: Path, tmp_path: Path
) -> None:
    """Before the first mask is held, training would fill them."""
    recipe = tmp_path / "recipe.yaml"
    words = [
        "--model",
        str(pruned_model),
        "--train_file",
        str(rows_folder / "train.csv"),
        "--sparsity",
        "0.9",
    ]
    more = ["--epochs", "2", "--pruning", method, "--output", str(recipe)]
    assert main(["recipe", "new", *words, *more]) == 0
    tiny.train(pruned_model, rows_folder, tmp_path / "out", recipe=str(recipe))
    log = json.loads((tmp_path / "out" / "trainer_state.json").read_text())["log_history"]
    sparsity = [entry["sparsity"] for entry in log if "sparsity" in entry]
    assert sparsity == sorted(sparsity) and sparsity[0] > 0.7


def test_a_pattern_brings_its_own_sparsity() -> None:
    fields = by_tag(plan(Wishes(DENSE, 3000, mask_shape="2:4")))
    pruning = fields["GlobalMagnitudePruningModifier"]
    assert (pruning["final_sparsity"], pruning["mask_type"]) == (0.5, "2:4")


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        (Wishes(DENSE, 9, method="keep"), "nothing to keep"),
        (Wishes(EMBEDDED, 9, sparsity=0.5, method="obs"), "zeros already"),
        (Wishes(EMBEDDED, 9, sparsity=0.0), "would lose"),
        (Wishes(EMBEDDED, 9, mask_shape="block4"), "kept as they are"),
        (Wishes(DENSE, 9, sparsity=1.5), "between 0 and 1"),
        (Wishes(DENSE, 9, sparsity=0.8, mask_shape="2:4"), "makes a sparsity of 0.5"),
        (Wishes(DENSE, 9, sparsity=0.0, method="obs"), "prunes nothing"),
    ],
)
def test_contradictions_are_said(wishes: Wishes, said: str) -> None:
    with pytest.raises(NewRecipeError, match=said):
        decide(wishes)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architectures_own_names(name: str) -> None:
    """`params` selects the encoder's matrices and nothing else; `submodules` are modules of the model."""
    from torch import nn

    from sparseml.modifiers.select import select_parameters

    model = dense(name)
    start = describe("m", model)
    chosen = select_parameters(model, list(start.prunable), "test")
    assert chosen and set(chosen) == set(start.shapes)
    modules = dict(model.named_modules())
    assert all(isinstance(modules[parameter.removesuffix(".weight")], nn.Linear) for parameter in chosen)
    assert set(start.submodules) <= set(modules)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("method", METHODS)
def test_it_trains(
    method: str, dense_model: Path, pruned_model: Path, rows_folder: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    model = pruned_model if method == "keep" else dense_model
    words = ["--model", str(model), "--train_file", str(rows_folder / "train.csv"), "--pruning", method]
    assert main(["recipe", "new", *words, "--epochs", "2", "--output", str(recipe)]) == 0
    assert main(["recipe", "check", str(recipe)]) == 0
    report = tiny.train(model, rows_folder, tmp_path / "out", recipe=str(recipe))
    pruned = [layer["sparsity"] for layer in report["layers"] if ".encoder." in layer["name"]]
    assert sum(pruned) / len(pruned) == pytest.approx(0.8, abs=0.02)
    assert report["totals"]["quantized_layers"] == report["totals"]["quantizable_layers"]


@pytest.mark.parametrize(
    ("sparsity", "more", "wanted"),
    [
        (0.0, [], {"final_sparsity": 0.8, "init_sparsity": 0.5, "mask_type": "unstructured"}),
        (0.0, ["--sparsity", "0.6"], {"final_sparsity": 0.6, "init_sparsity": 0.48}),
        (0.0, ["--mask_shape", "2:4"], {"final_sparsity": 0.5, "init_sparsity": 0.4, "mask_type": "2:4"}),
        (0.0, ["--mask_shape", "[1,4]"], {"mask_type": [1, 4]}),
        (0.7, ["--sparsity", "0.9", "--teacher", "dense"], {"final_sparsity": 0.9}),
    ],
)
def test_a_recipe_for_plain_text_is_the_zoos_with_other_values(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    sparsity: float,
    more: list[str],
    wanted: dict[str, Any],
) -> None:
    model = tiny.bert(tmp_path / "model", sparsity=sparsity)
    recipe = tmp_path / "recipe.yaml"
    words = ["--task", "mlm", "--model", str(model), "--epochs", "3", "--output", str(recipe)]
    assert main(["recipe", "new", *words, *more]) == 0
    fields = by_tag(load_plan(recipe))
    pruning = fields["GlobalMagnitudePruningModifier"]
    assert {name: pruning[name] for name in wanted} == wanted
    assert pruning["init_sparsity"] >= sparsity - 0.02
    assert fields["EpochRangeModifier"]["end_epoch"] == 3.0
    assert recipe.read_text().count("# ") == read_source(plain_text.PRUNE).text.count("# ")
    assert "--task masked_language_modeling" in capfd.readouterr().err


def test_a_recipe_for_plain_text_keeps_the_zeros_of_the_embedded_model(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    assert main(["recipe", "new", "--task", "mlm", "--output", str(recipe)]) == 0
    assert "ConstantPruningModifier" in by_tag(load_plan(recipe))
    assert "base-none" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("sparsity", "more", "said"),
    [
        (0.0, ["--rows", "9"], "--rows is for labelled rows"),
        (0.0, ["--no-int8"], "--int8 is for labelled rows"),
        (0.0, ["--sparsity", "1.5"], "between 0 and 1"),
        (0.0, ["--epochs", "0"], "above 0"),
        (0.8, ["--teacher", "dense", "--mask_shape", "2:4"], "kept as they are"),
        (0.8, [], "give --teacher"),
    ],
)
def test_wishes_that_plain_text_does_not_have(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], sparsity: float, more: list[str], said: str
) -> None:
    model = tiny.bert(tmp_path / "model", sparsity=sparsity)
    words = ["--task", "mlm", "--model", str(model), "--output", str(tmp_path / "recipe.yaml")]
    assert main(["recipe", "new", *words, *more]) == 2
    assert said in capfd.readouterr().err and not (tmp_path / "recipe.yaml").exists()


def test_an_existing_file_stays(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("mine")
    assert main(["recipe", "new", "--output", str(path)]) == 2
    assert path.read_text() == "mine" and "--overwrite" in capfd.readouterr().err
    assert main(["recipe", "new", "--output", str(path), "--overwrite"]) == 0
    assert "num_epochs" in path.read_text()


def test_without_a_terminal_nothing_is_asked() -> None:
    """Standard input stays open and silent, as under a service: the command must not wait for it."""
    command = [sys.executable, "-m", "sparseml", "recipe", "new", "--output", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.wait(60) == 0
        finally:
            process.kill()
        assert process.stdout is not None
        assert "num_epochs" in process.stdout.read()


def test_at_a_terminal_it_asks(tmp_path: Path) -> None:
    """The embedded model, no file, 500 rows, 3 classes, one text, sparsity as it is, no int8, no teacher."""
    lead, follow = pty.openpty()
    command = [sys.executable, "-m", "sparseml", "recipe", "new", "--output", str(tmp_path / "r.yaml")]
    with subprocess.Popen(command, stdin=follow, stdout=follow, stderr=follow) as process:
        os.write(lead, b"\n\n500\n3\n\n\nn\n\n")
        code = process.wait(60)
    os.close(follow)
    os.close(lead)
    assert code == 0
    fields = by_tag(load_plan(tmp_path / "r.yaml"))
    assert fields["EpochRangeModifier"]["end_epoch"] == sizing.fit(500, 3).variables["num_epochs"]
    assert "QuantizationModifier" not in fields
