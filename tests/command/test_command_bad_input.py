"""Mistakes: one clear message, exit code 2, and nothing that was there before is touched."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import BertForSequenceClassification, PreTrainedConfig, PreTrainedTokenizerFast

from sparseml.session import checkpoint
from sparseml.session.models import load_trained
from sparseml.transformers import text_classification
from support import tiny
from support.tiny import contents, train

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def older_model(pruned_model: Path, rows_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that ended well: final model and checkpoints of steps 6, 12 and 18."""
    folder = tmp_path_factory.mktemp("older") / "run"
    train(pruned_model, rows_folder, folder, save_strategy="steps", save_steps=6)
    return folder


@pytest.fixture
def place(pruned_model: Path, rows_folder: Path, older_model: Path, tmp_path: Path) -> Path:
    """A folder with all that a run needs (start, train.csv, validation.csv, recipe.yaml), and an older run in out."""
    shutil.copytree(pruned_model, tmp_path / "start")
    shutil.copytree(rows_folder, tmp_path, dirs_exist_ok=True)
    shutil.copytree(older_model, tmp_path / "out")
    (tmp_path / "recipe.yaml").write_text(tiny.RECIPE, encoding="utf-8")
    return tmp_path


def command(place: Path) -> dict[str, str]:
    return {
        "--model_name_or_path": str(place / "start"),
        "--train_file": str(place / "train.csv"),
        "--validation_file": str(place / "validation.csv"),
        "--recipe": str(place / "recipe.yaml"),
        "--output_dir": str(place / "out"),
        "--max_seq_length": "32",
        "--per_device_train_batch_size": "8",
        "--do_train": "true",
        "--do_eval": "true",
        "--overwrite_output_dir": "true",
        "--save_strategy": "no",
    }


def as_argv(flags: dict[str, str]) -> list[str]:
    return ["sparseml.transformers.text_classification", *(word for pair in flags.items() for word in pair)]


Change = Callable[[Path, dict[str, str]], None]


def write(name: str, content: bytes) -> Change:
    return lambda place, flags: (place / name).write_bytes(content) and None


def cut(name: str) -> Change:
    def harm(place: Path, flags: dict[str, str]) -> None:
        path = place / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return harm


def say(**flags: str) -> Change:
    return lambda place, given: given.update({f"--{name}": value for name, value in flags.items()})


def resume_from(name: str, harm: Change | None = None) -> Change:
    def both(place: Path, flags: dict[str, str]) -> None:
        flags["--resume_from_checkpoint"] = str(place / "out" / name)
        if harm is not None:
            harm(place, flags)

    return both


def dense(place: Path, flags: dict[str, str]) -> None:
    shutil.rmtree(place / "start")
    tiny.bert(place / "start", sparsity=0.0)


def without_tokenizer(place: Path, flags: dict[str, str]) -> None:
    for path in (place / "start").glob("tokenizer*"):
        path.unlink()


def larger_tokenizer(place: Path, flags: dict[str, str]) -> None:
    tiny.tokenizer([*tiny.WORDS, *"uvwxyz"]).save_pretrained(place / "larger")
    shutil.copy(place / "start" / "config.json", place / "larger")
    flags["--tokenizer_name"] = str(place / "larger")


def onto_its_start(place: Path, flags: dict[str, str]) -> None:
    del flags["--overwrite_output_dir"]
    flags["--model_name_or_path"] = str(place / "out")
    for older in (place / "out").glob("checkpoint-*"):
        shutil.rmtree(older)


def only_in_validation(place: Path, flags: dict[str, str]) -> None:
    tiny.write(place / "validation.csv", [{"text": "a film", "label": "neutral"}, *tiny.rows(4)])


MISTAKES: dict[str, tuple[Change, str]] = {
    "train file missing": (say(train_file="nowhere.csv"), r"nowhere\.csv"),
    "train file empty": (write("train.csv", b""), r"train\.csv.*empty"),
    "header alone": (write("train.csv", b"text,label\n"), r"train\.csv.*no rows"),
    "ragged CSV": (write("train.csv", b"text,label\na film,good\na day,bad,really\n"), r"train\.csv.*line 3"),
    "column absent": (say(input_column_names="sentence"), "sentence.*text"),
    "label column absent": (say(label_column_name="mood"), "mood"),
    "label only in validation": (only_in_validation, "neutral"),
    "byte that is not UTF-8": (write("train.csv", b"text,label\na f\xfflm,good\n"), r"train\.csv.*UTF-8"),
    "recipe not YAML": (write("recipe.yaml", b"modifiers: [\n"), r"recipe\.yaml, line"),
    "recipe missing": (say(recipe="nowhere.yaml"), r"nowhere\.yaml"),
    "modifier misspelt": (
        write("recipe.yaml", b"modifiers:\n  - !ConstantPruningModifer\n      params: __ALL__\n"),
        "line 2.*ConstantPruningModifier",
    ),
    "modifier that matches nothing": (
        write("recipe.yaml", b"modifiers:\n  - !ConstantPruningModifier\n      params: re:nothing\n"),
        "matches no parameter",
    ),
    "model missing": (say(model_name_or_path="./nowhere"), "nowhere.*does not exist"),
    "model cut short": (cut("start/model.safetensors"), r"model\.safetensors is damaged"),
    "configuration cut short": (cut("start/config.json"), "configuration"),
    "tokenizer missing": (without_tokenizer, r"has no tokenizer.*--tokenizer_name"),
    "tokenizer with more entries than the model": (
        larger_tokenizer,
        "gives ids up to 37, but the model has 32",
    ),
    "tokenizer cut short": (cut("start/tokenizer.json"), "tokenizer"),
    "checkpoint missing": (resume_from("checkpoint-7"), "no checkpoint"),
    "checkpoint's weights cut short": (
        resume_from("checkpoint-12", cut("out/checkpoint-12/model.safetensors")),
        r"model\.safetensors is damaged",
    ),
    "checkpoint's masks cut short": (
        resume_from("checkpoint-12", cut("out/checkpoint-12/modifiers.safetensors")),
        r"modifiers\.safetensors is damaged",
    ),
    "checkpoint without its last file": (
        resume_from(
            "checkpoint-12", lambda place, _: (place / "out/checkpoint-12/trainer_state.json").unlink()
        ),
        r"trainer_state\.json",
    ),
    "checkpoint of another recipe": (
        resume_from(
            "checkpoint-12",
            write("recipe.yaml", b"modifiers:\n  - !EpochRangeModifier\n      end_epoch: 1\n"),
        ),
        "another recipe",
    ),
    "dense start": (dense, "--allow_dense_start"),
    "finished model in the way": (onto_its_start, "--overwrite_output_dir"),
    "unknown argument": (say(per_device_trian_batch_size="8"), "per_device_train_batch_size"),
    "no number": (say(learning_rate="fast"), "learning_rate"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    change, words = MISTAKES[name]
    flags = command(place)
    change(place, flags)
    before = contents(place)
    monkeypatch.setattr(sys, "argv", as_argv(flags))
    monkeypatch.chdir(place)
    code = text_classification.cli()
    printed = capsys.readouterr()
    assert code == 2
    assert printed.err.count("error: ") == 1
    message = " ".join(printed.err[printed.err.index("error: ") :].split())
    assert "Traceback" not in printed.err and "Traceback" not in printed.out
    assert re.search(words, message), message
    assert contents(place) == before


@pytest.mark.parametrize(
    "name", ["dense start", "model cut short", "label only in validation", "recipe missing"]
)
def test_mistake_makes_no_folder(place: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    flags = command(place) | {"--output_dir": str(place / "new" / "deep")}
    MISTAKES[name][0](place, flags)
    monkeypatch.setattr(sys, "argv", as_argv(flags))
    assert text_classification.cli() == 2
    assert not (place / "new").exists()


# A disk that is full for every file above so many bytes: unprivileged, and met inside the libraries' own writers.
FULL_DISK = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), resource.RLIM_INFINITY))
from sparseml.transformers.text_classification import cli
raise SystemExit(cli())
"""


def with_full_disk(limit: int, flags: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(limit), *as_argv(flags)[1:]],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("first_too_large", ["model.safetensors", "optimizer.pt"])
def test_full_disk_while_saving_a_checkpoint(place: Path, first_too_large: str) -> None:
    """The older run's files all stay, its checkpoint of the same step among them."""
    limit = sizes(place / "out" / "checkpoint-6")[first_too_large] - 1
    before = contents(place)
    done = with_full_disk(limit, command(place) | {"--save_strategy": "steps", "--save_steps": "6"})
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\nerror: ") == 1 and "Traceback" not in done.stderr
    assert "Could not write" in done.stderr and "checkpoint-6" in done.stderr
    assert contents(place) == before


@pytest.mark.slow
def test_full_disk_while_saving_the_final_model(place: Path) -> None:
    limit = sizes(place / "out")["model.safetensors"] - 1
    before = contents(place)
    done = with_full_disk(limit, command(place))
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\nerror: ") == 1 and "Traceback" not in done.stderr
    assert "Could not write" in done.stderr
    assert contents(place) == before
    load_trained(place / "out")


WRITERS = ["safetensors", "tokenizer", "recipe", "state", "configuration"]


@pytest.mark.parametrize("writer", WRITERS)
def test_full_disk_in_any_file_of_the_final_model(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], writer: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    owner, name = {
        "safetensors": (BertForSequenceClassification, "save_pretrained"),
        "tokenizer": (PreTrainedTokenizerFast, "save_pretrained"),
        "recipe": (checkpoint, "write_text"),
        "state": (checkpoint, "save_file"),
        "configuration": (PreTrainedConfig, "save_pretrained"),
    }[writer]
    monkeypatch.setattr(owner, name, full)
    before = contents(place)
    monkeypatch.setattr(sys, "argv", as_argv(command(place)))
    assert text_classification.cli() == 2
    assert "No space left on device" in capsys.readouterr().err
    assert contents(place) == before
