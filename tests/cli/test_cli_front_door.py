"""The command `sparseml`: its verbs, its exit codes, and that it is light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sparseml.cli import main

RECIPE = """\
num_epochs: 4
training_modifiers:
  - !EpochRangeModifier
      start_epoch: 0.0
      end_epoch: eval(num_epochs)
  - !LearningRateFunctionModifier
      start_epoch: 0.0
      end_epoch: eval(num_epochs)
      lr_func: linear
      init_lr: 8e-5
      final_lr: 0
quantization_modifiers:
  - !QuantizationModifier
      start_epoch: 1.5
      submodules: [bert.encoder]
"""


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return str(path)


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["recipe"], ["recipe", "--help"]])
def test_help_is_success(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("usage: sparseml")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("resparse ")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["trian"], "'train'"),
        (["--hlep"], "'--help'"),
        (["recipe", "shw"], "'show'"),
        (["recipe", "show"], "RECIPE"),
        (["recipe", "show", "x", "--recipe_arg", "1"], "--recipe_arg"),
        (["recipe", "show", "nowhere.yaml"], "nowhere.yaml"),
        (["recipe", "modifiers", "Distilation"], "DistillationModifier"),
    ],
)
def test_mistakes_leave_with_two(words: list[str], part: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    caught = capfd.readouterr()
    assert caught.out == ""
    assert part in caught.err
    assert "Traceback" not in caught.err


def test_show_prints_a_recipe_that_reads_back_the_same(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recipe", "show", recipe, "--recipe_args", "num_epochs=5"]) == 0
    shown = capsys.readouterr().out
    assert "end_epoch: 5" in shown and "eval(" not in shown
    assert "# 1.5 to 2" in shown and "QAT begins" in shown
    again = tmp_path / "again.yaml"
    again.write_text(shown)
    assert main(["recipe", "show", str(again)]) == 0
    assert capsys.readouterr().out == shown


def test_show_in_steps(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe", "show", recipe, "--steps-per-epoch", "3"]) == 0
    # Epoch 1.5 of 3 steps begins at step 4 (half to even), a third into the second epoch.
    assert "# 1.33333 to 2" in capsys.readouterr().out
    assert main(["recipe", "show", recipe, "--steps-per-epoch", "0"]) == 2
    assert main(["recipe", "show", recipe, "--steps-per-epoch", "few"]) == 2


def test_check(recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe", "check", recipe]) == 0
    assert "3 modifiers, 4 epochs" in capsys.readouterr().out
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(RECIPE.replace("init_lr", "inti_lr"))
    assert main(["recipe", "check", str(wrong)]) == 2
    assert "init_lr" in capsys.readouterr().err


def test_modifiers_are_listed_with_all_their_properties(capsys: pytest.CaptureFixture[str]) -> None:
    from sparseml.modifiers import MODIFIERS

    assert main(["recipe", "modifiers"]) == 0
    listed = capsys.readouterr().out
    assert all(tag in listed for tag in MODIFIERS)
    for tag, modifier in MODIFIERS.items():
        for name in (tag, tag.removesuffix("Modifier"), f"!{tag}"):
            assert main(["recipe", "modifiers", name]) == 0
            shown = capsys.readouterr().out
            assert all(field in shown for field in modifier.model_fields)
            assert "Annotated" not in shown and "typing." not in shown


def test_training_mistakes_leave_with_two(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sparseml.transformers.text_classification")
    assert main(["train", "--task_nam", "mnli"]) == 2
    assert "--task_name" in capfd.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["recipe", "show", "RECIPE"],
        ["recipe", "modifiers"],
        ["recipe", "check", "RECIPE"],
        ["recipe", "new", "--rows", "500", "--output", "-"],
    ],
)
def test_light_commands_import_nothing_heavy(words: list[str], recipe: str) -> None:
    code = (
        "import sys\n"
        "from sparseml.cli import main\n"
        "code = main(sys.argv[1:])\n"
        "heavy = {'torch', 'transformers', 'datasets', 'numpy', 'sklearn', 'scipy', 'pandas', 'pyarrow'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
        "raise SystemExit(code)\n"
    )
    given = [recipe if word == "RECIPE" else word for word in words]
    done = subprocess.run([sys.executable, "-c", code, *given], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "[]"


def test_python_dash_m_is_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sparseml", "trian"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "train" in done.stderr
