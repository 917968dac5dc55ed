"""Mistakes that are told before PyTorch is imported: the same ones, in the same words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from resparse.errors import UserError
from sparseml.modifiers import MODIFIERS
from sparseml.options import early, early_recipe
from sparseml.tasks import load_task
from sparseml.training.arguments import all_options
from support import tiny

TASKS = ["text_classification", "question_answering", "token_classification", "masked_language_modeling"]

# Runs a command as from the shell, and tells whether PyTorch was imported.
SCRIPT = """
import sys
from sparseml.cli import main
code = main(sys.argv[1:])
print(code, "torch" in sys.modules)
"""


@pytest.mark.parametrize("task", TASKS)
def test_it_knows_the_arguments_of_the_run(task: str) -> None:
    """Names, and which of them are switches, as the dataclasses have them."""
    found, expected = early.options(task), all_options(load_task(task))
    assert found is not None and found.keys() == expected.keys()
    switches = [
        {name for name, option in table.items() if bool in option.kinds} for table in (found, expected)
    ]
    assert switches[0] == switches[1]


def test_it_knows_the_modifiers_of_recipes() -> None:
    found = early_recipe.modifiers()
    assert found == {name: list(modifier.model_fields) for name, modifier in MODIFIERS.items()}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--train_fil", "x.csv"], "Did you mean --train_file"),
        (["--no_train_file"], "Unknown argument --no_train_file"),
        (["--train_file", "nowhere.csv"], "nowhere.csv: there is no such file"),
        (["--train_file", "rows.csv", "--recipe", "nowhere.yaml"], "nowhere.yaml"),
        (["--train_file", "rows.csv", "--recipe", "wrong.yaml"], "wrong.yaml, line"),
        (
            ["--train_file", "rows.csv", "--recipe", "tag.yaml"],
            "tag.yaml, line 2: there is no modifier called",
        ),
        (
            ["--train_file", "rows.csv", "--recipe", "field.yaml"],
            "has no property 'end_epch'. Did you mean 'end_",
        ),
        (["--train_file", "rows.csv", "--model_name_or_path", "./nowhere"], "'./nowhere' does not exist"),
        (["--train_file", "rows.csv", "--model_name_or_path", "bare"], "bare has no tokenizer"),
        (["--train_file", "ragged.csv"], "ragged.csv, line 3"),
        (["--train_file", "twice.csv"], "names 'text' more than once"),
        (["--train_file", "rows.csv", "--label_column_name", "lable"], "there is no column 'lable'"),
        (["--train_file", "rows.csv", "--input_column_names", "txt"], "there is no column 'txt'"),
        (["--train_file", "rows.csv", "--validation_file", "other.csv"], "other.csv: there is no column"),
        (["--train_file", "latin.csv"], "is not UTF-8"),
        (["--train_file", "large.csv", "--label_column_name", "lable"], "there is no column 'lable'"),
        (["--train_file", "rows.csv", "--num_train_epochs", "many"], "that is not a number"),
        (["--task", "mlm", "--train_file", "rows.csv", "--tokenizer_name", "rows.csv"], "is a file"),
        (["--task", "ner", "--train_file", "rows.csv"], "another number of tags than of words"),
        (
            ["--task", "ner", "--train_file", "rows.csv", "--text_column_name", "txt"],
            "there is no column 'txt'",
        ),
        (["--task", "qa", "--train_file", "rows.csv"], "has no column 'question'"),
    ],
)
def test_mistakes_are_told_without_pytorch(tmp_path: Path, words: list[str], says: str) -> None:
    tiny.write(tmp_path / "rows.csv", tiny.rows(4))
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_text("{}")
    (tmp_path / "wrong.yaml").write_text("modifiers: [\n")
    (tmp_path / "large.csv").write_text("text,label\n" + "a,0\n" * 1_100_000)
    (tmp_path / "tag.yaml").write_text("modifiers:\n  - !ConstantPruningModifer {}\n")
    (tmp_path / "field.yaml").write_text("modifiers:\n  - !EpochRangeModifier {end_epch: 1}\n")
    (tmp_path / "ragged.csv").write_text("text,label\na,0\nb,1,2\n")
    (tmp_path / "twice.csv").write_text("text,text,label\na,b,0\n")
    (tmp_path / "other.csv").write_text("words,label\na,0\n")
    (tmp_path / "latin.csv").write_bytes("text,label\ncafé,0\n".encode("latin-1"))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "train", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-2:] == ["2", "False"], done.stdout
    assert says in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["arguments.yaml"],
        ["--no_cuda", "--evaluation_strategy", "epoch", "--fp16-backend", "auto", "--task", "sst2"],
        ["--do_eval", "--recipe", "nowhere.yaml", "--validation_file", "rows.csv"],
        ["--recipe", "zoo:some/recipe", "--model_name_or_path", "owner/name", "--dataset_name", "owner/data"],
        ["--recipe", "modifiers:\n  - !EpochRangeModifier\n      end_epoch: 1\n", "--no_bf16"],
    ],
)
def test_nothing_else_is_refused(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.write(tmp_path / "rows.csv", tiny.rows(4))
    early.check("text_classification", words)


def test_files_by_pattern_and_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.csv", "b.csv"):
        tiny.write(tmp_path / name, tiny.rows(4))
    for pattern in ("*.csv", "a.csv,b.csv"):
        early.check("text_classification", ["--train_file", pattern])
    with pytest.raises(UserError, match=r"c\.csv"):
        early.check("text_classification", ["--train_file", "a.csv,c.csv"])
