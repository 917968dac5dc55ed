"""The whole guided run on tiny models: from a file alone to an exported model with its summary."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import Trainer

from deepsparse import Pipeline
from resparse.errors import UserError
from sparseml.guided import choices
from sparseml.training import conclusion
from sparseml.transformers.text_classification import main
from support import tiny

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(conclusion, "_SECONDS", 0.02)
    return tmp_path


def write(records: list[dict[str, Any]], name: str = "rows.csv") -> str:
    tiny.write(Path(name), records)
    return name


def named(count: int = 64) -> list[dict[str, Any]]:
    """Rows with columns that no name tells: an id, a date, a text, a class in words."""
    return [
        {
            "id": index,
            "day": f"2024-03-{1 + index % 28:02d}",
            "story": row["text"],
            "feeling": row["label"],
        }
        for index, row in enumerate(tiny.rows(count))
    ]


def several(count: int = 64) -> list[dict[str, Any]]:
    names = ("short", "the", "good")
    rows = [row["text"] for row in tiny.rows(count)]
    flags = [
        (len(text.split()) < 7, "the" in text.split(), bool(set(text.split()) & set(tiny.GOOD)))
        for text in rows
    ]
    return [
        {"text": text, "labels": [name for name, flag in zip(names, row, strict=True) if flag]}
        for text, row in zip(rows, flags, strict=True)
    ]


def scored(count: int = 64) -> list[dict[str, Any]]:
    return [{"text": row["text"], "score": len(row["text"].split()) / 4} for row in tiny.rows(count)]


@pytest.mark.slow
def test_from_a_file_alone(pruned_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(named())
    report = main(["--train_file", file, "--model_name_or_path", str(pruned_model)])
    screen = capsys.readouterr()
    assert "label column: 'feeling'" in screen.err
    assert "input column: 'story'" in screen.err
    assert "held out, each class in proportion" in screen.err
    assert "recipe for 51 rows and 2 classes: num_epochs=9, init_lr=1e-06" in screen.err
    folder = Path("rows-classifier")
    summary = report["summary"]
    assert summary["answers"]["rows"] == 13 and summary["train_rows"] == 51
    assert report["metrics"]["eval_accuracy"] == pytest.approx(summary["answers"]["accuracy"], abs=0.1)
    assert report["totals"]["prunable_sparsity"] > 0.6 and report["totals"]["quantized_layers"] > 0
    text = (folder / "summary.txt").read_text()
    assert text.strip() == screen.out.strip()
    assert "deepsparse.server --task text_classification --model_path rows-classifier/deployment" in text
    assert "sparseml predict rows-classifier/deployment --input rows.csv" in text
    assert "--input-column-names story" in text
    assert json.loads((folder / "report.json").read_text())["summary"]["next"] == summary["next"]
    assert not list(folder.glob("checkpoint-*"))
    assert set(Pipeline.create("text_classification", folder / "deployment").labels) == {
        "negative",
        "positive",
    }

    # The same again only says the summary again.
    again = main(["--train_file", file, "--model_name_or_path", str(pruned_model)])
    assert again["summary"] == json.loads(json.dumps(summary))
    assert capsys.readouterr().out.strip() == text.strip()
    assert not Path("rows-classifier-2").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (several, ["any of 3 labels", "F1, all decisions", "precision", "surest mistakes"]),
        (scored, ["a score from", "mean error", "Pearson", "furthest off"]),
    ],
)
def test_other_kinds(
    pruned_model: Path,
    rows: Callable[[], list[dict[str, Any]]],
    told: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(
        train_file=write(rows(), "rows.jsonl"),
        model_name_or_path=str(pruned_model),
        recipe_args="num_epochs=2,final_lr=eval(1e-6*2)",
    )
    text = capsys.readouterr().out
    assert [part for part in told if part not in text] == []


@pytest.mark.slow
def test_what_is_given_is_used(pruned_model: Path) -> None:
    write(named(), "train.csv")
    write(named(20), "more.csv")
    write(named(12), "last.csv")
    report = main(
        train_file="train.csv",
        validation_file="more.csv",
        test_file="last.csv",
        model_name_or_path=str(pruned_model),
        recipe=tiny.RECIPE,
        recipe_args="num_epochs=2,qat_start_epoch=1,observer_epoch=1.5",
        output_dir="mine",
        max_seq_length=24,
        save_strategy="epoch",
        per_device_train_batch_size=8,
    )
    assert report["recipe"] == tiny.RECIPE
    assert report["summary"]["answers"]["rows"] == 12
    assert report["summary"]["rows_called"] == "the test rows"
    assert report["summary"]["train_rows"] == 64
    assert Path("mine/predict_results.txt").exists()
    assert list(Path("mine").glob("checkpoint-*"))  # asked for, so kept
    assert report["summary"]["next"]["label a file"][-1] == "24"
    assert report["summary"]["next"]["serve it"][1] == "--config_file"
    assert "sequence_length: 24" in Path("mine/server.yaml").read_text()


@pytest.mark.slow
def test_stopped_runs_go_on(
    pruned_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "--train_file",
        write(named()),
        "--model_name_or_path",
        str(pruned_model),
        "--num_train_epochs",
        "12",
    ]
    monkeypatch.setattr(choices, "_MIN_SAVE_STEPS", 7)
    step = Trainer.training_step
    done = 0

    def stop(*args: Any, **kwargs: Any) -> Any:
        nonlocal done
        done += 1
        if done == 30:
            raise KeyboardInterrupt
        return step(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "training_step", stop)
        with pytest.raises(KeyboardInterrupt):
            main(words)
    assert "The same command again goes on" in capsys.readouterr().err

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(conclusion, "_measured", interrupted)
        with pytest.raises(KeyboardInterrupt):
            main(words)
    assert "Going on from" in capsys.readouterr().err
    report = main(words)
    assert "Going on from" in capsys.readouterr().err
    assert report["summary"]["train_rows"] == 51


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("", "empty"),
        ("text,label\n", "no rows"),
        ("text,label\na text,yes\nanother text,no\n", "every class occurs once"),
        ("text,label\n" + "a text,yes\n" * 9, "only the label 'yes'"),
        ("text,price\n" + "".join(f"a text {i},{i}.5\n" for i in range(9)), "--label_column_name"),
        ("review\n" + "".join(f"a text {i}\n" for i in range(9)), "--label_column_name"),
        ("I liked it,good\n" + "I hated it,bad\nI loved it,good\n" * 5, "no header"),
        ("id,label\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(9)), "no column holds text"),
    ],
    ids=["nothing", "header", "two rows", "one class", "no label", "text alone", "no header", "no text"],
)
def test_files_that_nothing_can_be_learned_from(content: str, part: str, place: Path) -> None:
    Path("rows.csv").write_text(content)
    with pytest.raises(UserError) as caught:
        main(["--train_file", "rows.csv"])
    assert part in str(caught.value)
    assert [path.name for path in place.iterdir()] == ["rows.csv"]


def test_a_file_that_is_not_there(place: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.csv"):
        main(["--train_file", "nowhere.csv"])
    assert not list(place.iterdir())
