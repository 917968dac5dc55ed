"""What makes two runs the same one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from sparseml.data.digests import digest_of, file_digest, named_files
from sparseml.fingerprint import Fingerprint, Mark, fingerprint, read_mark
from support import tiny


@pytest.fixture
def place(rows_folder: Path, pruned_model: Path, tmp_path: Path) -> Path:
    shutil.copytree(rows_folder, tmp_path / "rows")
    shutil.copytree(pruned_model, tmp_path / "model")
    return tmp_path


def of(place: Path, **more: Any) -> Fingerprint:
    values = {
        "train_file": str(place / "rows" / "train.csv"),
        "validation_file": str(place / "rows" / "validation.csv"),
        "model_name_or_path": str(place / "model"),
        "distill_teacher": str(place / "model"),
        "recipe": tiny.RECIPE,
        "output_dir": str(place / "out"),
        **more,
    }
    return fingerprint(values, {"seed": 42, "max_seq_length": 384})


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("rows/train.csv", ["train_file"]),
        ("rows/validation.csv", ["validation_file"]),
        ("model/model.safetensors", ["distill_teacher", "model_name_or_path"]),
        ("model/tokenizer.json", ["distill_teacher", "model_name_or_path"]),
        ("model/notes.txt", []),
    ],
)
def test_a_changed_byte_is_seen(place: Path, path: str, names: list[str]) -> None:
    before = of(place)
    data = (place / path).read_bytes() if (place / path).exists() else b""
    (place / path).write_bytes(data[:-1] + b"#")
    assert before.differences(of(place)) == [f"what --{name} holds" for name in names]


@pytest.mark.parametrize(
    ("more", "differences"),
    [
        ({"seed": 42, "logging_steps": 1, "save_steps": 3, "token": "secret"}, []),
        ({"seed": 41}, ["--seed"]),
        ({"max_seq_length": 64, "learning_rate": 1e-3}, ["--learning_rate", "--max_seq_length"]),
        ({"recipe_args": "num_epochs=3"}, []),
        ({"recipe_args": "num_epochs=4"}, ["what --recipe holds"]),
        ({"recipe": None}, ["--recipe"]),
        ({"recipe": f"# A word.\n{tiny.RECIPE}"}, []),
        ({"eval_strategy": "epoch"}, []),
        (
            {"eval_strategy": "epoch", "load_best_model_at_end": True},
            ["--eval_strategy", "--load_best_model_at_end"],
        ),
        ({"test_file": "rows/test.csv", "do_predict": True}, []),
        ({"model_name_or_path": "owner/name"}, ["--model_name_or_path"]),
    ],
)
def test_arguments_that_matter(place: Path, more: dict[str, Any], differences: list[str]) -> None:
    assert of(place).differences(of(place, **more)) == differences
    assert of(place, **more).differences(of(place)) == differences


def test_rows_of_a_step_count_however_they_are_spread(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """Over processes and micro-batches; batches that the data are cut into beforehand are of one size."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    size, steps = "per_device_train_batch_size", "gradient_accumulation_steps"
    defaults = {size: 8, steps: 1}

    def made(processes: int, whole: bool = False, **sizes: int) -> Fingerprint:
        monkeypatch.setenv("WORLD_SIZE", str(processes))
        return fingerprint(sizes, defaults, whole_batches=whole)

    assert made(1) == made(1, **{size: 8}) == made(2, **{size: 4}) == made(2, **{size: 2, steps: 2})
    assert made(2) == made(1, **{size: 16}) == made(1, **{steps: 2})
    (said,) = made(1).differences(made(2))
    assert "--per_device_train_batch_size x --gradient_accumulation_steps x processes" in said
    assert made(2, True) == made(1, True, **{steps: 2}) != made(1, True, **{size: 16})


def test_weights_of_classes_count_by_their_content(place: Path) -> None:
    """Under whatever name; what is done with the trained model makes no other training."""
    plain, file = of(place), place / "weights.json"
    file.write_text('{"joy": 2}')
    weighted = of(place, class_weights=str(file))
    assert plain.differences(weighted) == ["--class_weights"]
    assert weighted.differences(of(place, class_weights=str(file.rename(place / "other.json")))) == []
    (place / "other.json").write_text('{"joy": 3}')
    assert weighted.differences(of(place, class_weights=str(place / "other.json"))) == [
        "what --class_weights holds"
    ]
    assert plain.differences(of(place, class_weights="balanced", focal_gamma=2.0)) == [
        "--class_weights",
        "--focal_gamma",
    ]
    after = {"calibration": "temperature", "min_score": 0.5, "out_of_scope_label": "other"}
    assert plain.differences(of(place, multi_label_threshold="validation", **after)) == []


def test_a_fetched_start_counts_by_its_content(place: Path) -> None:
    values = {"model_name_or_path": "owner/name"}
    before = fingerprint(values, {}, place / "model")
    (place / "model" / "config.json").write_text("{}")
    assert before.differences(fingerprint(values, {}, place / "model")) == ["what --model_name_or_path holds"]


def test_the_output_is_no_part_of_the_data(place: Path) -> None:
    """A folder of data with the output in it."""
    more = {"dataset_name": str(place / "rows"), "output_dir": str(place / "rows" / "out")}
    before = of(place, **more)
    tiny.write(place / "rows" / "out" / "rows.csv", tiny.rows(2))
    assert before == of(place, **more)


def test_mark_comes_back_as_it_was_written(place: Path) -> None:
    mark = Mark(of(place, seed=1, optim_args={"a": 1}), ["README.md"])
    mark.write(place)
    assert read_mark(place) == mark
    (place / "run.json").write_text('{"arguments": {}, "files": {}}')
    assert read_mark(place) is None


def test_several_files_count_in_their_order(place: Path) -> None:
    rows, train, validation = (
        place / "rows",
        place / "rows" / "train.csv",
        place / "rows" / "validation.csv",
    )
    assert named_files(f"{train}, {validation}") == named_files(str(rows / "*.csv")) == named_files(str(rows))
    assert digest_of([train, validation]) != digest_of([validation, train])
    copied = shutil.copy(train, place / "copied.csv")
    assert digest_of([train]) == digest_of([Path(copied)])
    assert named_files(str(place / "nothing.csv")) == []


def test_a_file_is_read_once_for_as_long_as_it_stays(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = place / "rows" / "train.csv"
    digest, opened, open_ = file_digest(path), [], Path.open

    def counting(self: Path, *args: Any, **kwargs: Any) -> Any:
        opened.append(self)
        return open_(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", counting)
    assert file_digest(path) == digest and not opened
    path.write_text("text,label\nmore,1\n")
    assert file_digest(path) != digest
