"""Whole datasets from files and folders: splits, roles, limits, and options that exclude each other."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sparseml.data import DataError, DataOptions, Labels, TextData, load_text_data
from sparseml.data.known_datasets import find_benchmark_task
from sparseml.data.label_encoding import SINGLE
from support.hub_data import parquet

MOODS = ("anger", "joy", "fear")


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def moods(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Rows that are ordered by class, as many files are."""
    return [{"text": f"text {start + row}", "label": MOODS[row * 3 // count]} for row in range(count)]


@pytest.fixture
def train(tmp_path: Path) -> str:
    return write(tmp_path / "train.jsonl", moods(30))


@pytest.fixture
def validation(tmp_path: Path) -> str:
    return write(tmp_path / "dev.jsonl", moods(6, start=100))


def load(**options: Any) -> TextData:
    return load_text_data(DataOptions(**options))


def refused(**options: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(**options)
    return str(caught.value)


def test_train_and_validation_files(train: str, validation: str):
    data = load(train_file=train, validation_file=validation)
    assert data.name == Path(train).parent.name
    assert data.labels == Labels(SINGLE, ("anger", "fear", "joy"))
    assert data.train is not None and data.validation is not None and data.test is None
    assert data.train.column_names == ["text", "labels"]
    assert data.train[0] == {"text": "text 0", "labels": 0}
    assert data.validation[-1] == {"text": "text 105", "labels": 1}


def test_csv_and_json_may_be_mixed(train: str, tmp_path: Path):
    (tmp_path / "dev.csv").write_text("text,label\na,joy\n")
    data = load(train_file=train, validation_file=str(tmp_path / "dev.csv"))
    assert data.validation is not None and data.validation["labels"][:] == [2]


@pytest.mark.parametrize("label", ["label", "mood", "target"])
def test_hold_out_keeps_classes_in_proportion_under_any_label_name(tmp_path: Path, label: str):
    rows = [{"text": row["text"], label: row["label"]} for row in moods(30)]
    data = load(train_file=write(tmp_path / "a.jsonl", rows), validation_ratio=0.2, label_column_name=label)
    assert data.train is not None and data.validation is not None
    assert Counter(data.validation["labels"][:]) == {0: 2, 1: 2, 2: 2}
    assert sorted(data.train["text"][:] + data.validation["text"][:]) == sorted(row["text"] for row in rows)
    assert "validation: 6 of 30 training rows held out, each class in proportion (seed 42)" in data.notes


def test_training_rows_are_the_same_whether_or_not_they_are_evaluated(train: str):
    with_eval = load(train_file=train, validation_ratio=0.2)
    without = load(train_file=train, validation_ratio=0.2, needs_eval=False)
    assert with_eval.train is not None and without.train is not None
    assert with_eval.train["text"][:] == without.train["text"][:]


def test_limits_choose_fairly_from_a_file_ordered_by_class(train: str, validation: str):
    data = load(train_file=train, validation_file=validation, max_train_samples=9, max_eval_samples=3)
    assert data.train is not None and data.validation is not None
    assert Counter(data.train["labels"][:]) == {0: 3, 1: 3, 2: 3}
    assert Counter(data.validation["labels"][:]) == {0: 1, 1: 1, 2: 1}
    assert any(note.startswith("train: 9 of 30 rows") for note in data.notes)


def test_predictions_stay_row_by_row(train: str, tmp_path: Path):
    test = write(tmp_path / "new.jsonl", [{"text": "b"}, {"text": None}, {"text": "a"}])
    options = {"train_file": train, "test_file": test, "needs_eval": False, "needs_predict": True}
    data = load(**options)
    assert data.test is not None
    assert data.test.column_names == ["text"]
    assert data.test["text"][:] == ["b", "", "a"]
    first = load(**options, max_predict_samples=2).test
    assert first is not None and first["text"][:] == ["b", ""]


@pytest.mark.parametrize("label", [-1, None, ""])
def test_test_split_without_labels(train: str, tmp_path: Path, label: Any):
    test = write(tmp_path / "new.jsonl", [{"text": "a", "label": label}, {"text": "b", "label": label}])
    data = load(train_file=train, test_file=test, needs_eval=False, needs_predict=True)
    assert data.test is not None and data.test.column_names == ["text"]


def test_test_split_with_some_labels_says_so(train: str, tmp_path: Path):
    test = write(tmp_path / "new.jsonl", [{"text": "a", "label": "joy"}, {"text": "b", "label": None}])
    data = load(train_file=train, test_file=test, needs_eval=False, needs_predict=True)
    assert data.test is not None and data.test.column_names == ["text"]
    assert any("1 row without label, so there are no metrics" in note for note in data.notes)


def test_prediction_alone_needs_no_labels(tmp_path: Path):
    test = write(tmp_path / "new.jsonl", [{"text": "a"}])
    data = load(test_file=test, needs_train=False, needs_eval=False, needs_predict=True)
    assert data.labels is None and data.columns.label is None


def test_evaluation_alone_keeps_the_order_of_the_model(tmp_path: Path):
    known = Labels(SINGLE, ("joy", "fear", "anger"))
    file = write(tmp_path / "dev.jsonl", [{"text": "a", "label": "anger"}, {"text": "b", "label": "fear"}])
    data = load(validation_file=file, needs_train=False, known_labels=known)
    assert data.labels == known
    assert data.validation is not None and data.validation["labels"][:] == [2, 1]


def test_task_with_files_has_the_task_s_names(tmp_path: Path):
    rows = [{"sentence1": f"a {row}", "sentence2": "b", "label": row % 2} for row in range(8)]
    data = load(task_name="MRPC", train_file=write(tmp_path / "a.jsonl", rows), validation_ratio=0.25)
    assert data.task_name == "mrpc"
    assert data.labels is not None and data.labels.names == ("not_equivalent", "equivalent")


def test_eval_on_test(train: str, validation: str, tmp_path: Path):
    test = write(tmp_path / "test.jsonl", moods(3, start=200))
    data = load(train_file=train, validation_file=validation, test_file=test, eval_on_test=True)
    assert data.validation is not None and data.validation["text"][:] == ["text 200", "text 201", "text 202"]


def test_eval_on_test_without_labels(train: str, tmp_path: Path):
    test = write(tmp_path / "test.jsonl", [{"text": "a", "label": None}])
    assert "of 1 row, 1 without label" in refused(train_file=train, test_file=test, eval_on_test=True)


@pytest.mark.parametrize("missing", [None, "", -1])
def test_training_rows_without_label_are_refused_with_their_lines(tmp_path: Path, missing: Any):
    rows = [{"text": f"text {row}", "label": row % 2} for row in range(6)]
    rows[1]["label"] = rows[4]["label"] = missing
    path = write(tmp_path / "a.jsonl", rows)
    said = refused(train_file=path, needs_eval=False)
    assert f"of 6 rows, 2 without label in 'label' ({path}, lines 2, 5)" in said


def test_few_rows_declared_to_be_without_label_are_left_out(tmp_path: Path):
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    rows = {"text": [f"a {row}" for row in range(40)], "label": [-1] + [0, 1] * 19 + [0]}
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "a.parquet")
    data = load(train_file=str(tmp_path / "a.parquet"), needs_eval=False)
    assert data.train is not None and len(data.train) == 39
    assert any("1 row" in note and "left out" in note for note in data.notes)


def test_class_only_in_validation(train: str, tmp_path: Path):
    file = write(tmp_path / "dev.jsonl", [{"text": "a", "label": "joy"}, {"text": "b", "label": "calm"}])
    said = refused(train_file=train, validation_file=file)
    assert f"'calm': 1 row ({file}, line 2)" in said


def test_validation_file_without_the_columns(train: str, tmp_path: Path):
    file = write(tmp_path / "dev.jsonl", [{"texts": "a", "label": "joy"}])
    assert f"{file}: there is no column 'text'" in refused(train_file=train, validation_file=file)
    file = write(tmp_path / "dev.jsonl", [{"text": "a"}])
    assert f"{file}: there is no column 'label'" in refused(train_file=train, validation_file=file)


def test_column_that_is_both(train: str):
    assert "both input and label" in refused(train_file=train, input_column_names="label", needs_eval=False)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "--validation_ratio 0.1"),
        ({"test_file": True}, "or evaluate on the test split with --eval_on_test"),
        ({"eval_on_test": True}, "there is no test split to evaluate on"),
        ({"validation_ratio": 0.0}, "a share between 0 and 1"),
        ({"validation_ratio": 1.0}, "a share between 0 and 1"),
        ({"validation_ratio": 0.1, "eval_on_test": True}, "both given"),
        ({"validation_ratio": 0.1, "validation_file": True}, "drop one"),
        ({"max_train_samples": 0}, "1 or more"),
        ({"dataset_name": "imdb"}, "name one source"),
        ({"task_name": "mnle"}, "Did you mean 'mnli'"),
        ({"needs_predict": True, "validation_ratio": 0.1}, "no test split to predict"),
    ],
)
def test_options_that_cannot_be(train: str, options: dict[str, Any], said: str):
    given = {
        name: train if value is True and name.endswith("_file") else value for name, value in options.items()
    }
    assert said in refused(train_file=train, **given)


def test_no_source_at_all():
    assert "No data are named" in refused()


def test_validation_file_without_training_file(validation: str):
    assert "no training split" in refused(validation_file=validation)


def test_every_class_once_cannot_be_held_out(tmp_path: Path):
    path = write(tmp_path / "a.jsonl", moods(3))
    assert "every class occurs once" in refused(train_file=path, validation_ratio=0.3)


def test_same_file_twice_is_noted(train: str):
    assert any("more than one split" in note for note in load(train_file=train, validation_file=train).notes)


def test_folder_of_data_files(tmp_path: Path):
    folder = tmp_path / "moods"
    write(folder / "train.jsonl", moods(9))
    write(folder / "my-dev.jsonl", moods(3, start=50))
    (folder / "README.md").write_text("nothing")
    data = load(dataset_name=str(folder))
    assert data.name == "moods"
    assert data.train is not None and data.validation is not None
    assert (len(data.train), len(data.validation)) == (9, 3)
    assert "validation split of 3 rows" in refused(dataset_name=str(folder), validation_ratio=0.1)


def test_folder_of_a_download(tmp_path: Path):
    """As `hf download` leaves datasets of several configurations, and the Hub's conversions of one."""
    for config in ("emoji", "emotion"):
        for split, count in (("train", 9), ("validation", 3)):
            file = tmp_path / "tweets" / config / f"{split}-00000-of-00001.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            write(file, moods(count))
    (tmp_path / "tweets" / "README.md").write_text("---\nconfigs:\n---\n")
    said = refused(dataset_name=str(tmp_path / "tweets"))
    assert "several configurations: emoji, emotion. Choose one with --dataset_config_name" in said
    chosen = load(dataset_name=str(tmp_path / "tweets"), dataset_config_name="emotion")
    assert chosen.rows == {"train": 9, "validation": 3}
    for split in ("train", "validation", "test"):
        (tmp_path / "sick" / "default" / split).mkdir(parents=True)
        (tmp_path / "sick" / "default" / split / "0000.parquet").write_bytes(
            parquet({"text": ["a", "b"], "label": [1, 0]})
        )
    converted = load(dataset_name=str(tmp_path / "sick"))
    assert converted.rows == {"train": 2, "validation": 2}
    assert converted.labels is not None and converted.labels.names == ("no", "yes")


def test_folder_that_save_to_disk_wrote(tmp_path: Path):
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    rows = Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    DatasetDict({"train": rows, "validation": rows}).save_to_disk(tmp_path / "saved")
    data = load(dataset_name=str(tmp_path / "saved"))
    assert data.labels is not None and data.labels.names == ("no", "yes")
    assert data.train is not None and data.train["labels"][:] == [1, 0]


@pytest.mark.parametrize(
    ("name", "said"),
    [("empty", "holds no data files"), ("missing", "no such folder"), ("a.csv", "this is a file")],
)
def test_folder_that_is_none(tmp_path: Path, name: str, said: str):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.csv").write_text("text,label\na,1\n")
    assert said in refused(dataset_name=str(tmp_path / name))


def test_nothing_is_written(train: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    load(train_file=train, validation_ratio=0.2)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("name", "key"), [("SST-2", "sst2"), ("sts_b", "stsb"), (" CoLA ", "cola")])
def test_task_names_in_any_spelling(name: str, key: str):
    assert find_benchmark_task(name)[0] == key


@pytest.mark.parametrize("more", [{}, {"validation": True}, {"ratio": 0.5}])
def test_rows_are_held_out_where_there_are_no_others(more: dict[str, Any], tmp_path: Path):
    rows = [{"text": f"text {index}", "label": index % 2} for index in range(50)]
    for name in ("train", "validation") if more.get("validation") else ("train",):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = DataOptions(dataset_name=str(tmp_path), hold_out=True, validation_ratio=more.get("ratio"))
    data = load_text_data(options)
    assert data.train is not None and data.validation is not None
    expected = (50, 50) if more.get("validation") else (25, 25) if more else (40, 10)
    assert (len(data.train), len(data.validation)) == expected
