"""A guided run that answers questions: found out by the file, trained, exported and summarized."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deepsparse import Pipeline
from sparseml import cli
from sparseml.guided.answers import lines
from sparseml.guided.task_by_file import task_of
from sparseml.training import conclusion
from support import questions, tiny

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(conclusion, "_SECONDS", 0.02)
    return tmp_path


def test_from_a_file_of_squad_alone(capsys: pytest.CaptureFixture[str]) -> None:
    questions.write(Path("words.json"), questions.rows(160, seed=2))
    tiny.bert(Path("start"), words=questions.WORDS)
    words = ["train", "--train_file", "words.json", "--model_name_or_path", "start"]
    recipe = ["--recipe_args", "num_epochs=4,init_lr=0.01", "--per_device_train_batch_size", "8"]
    assert cli.main([*words, *recipe]) == 0
    screen = capsys.readouterr()
    assert "task: question_answering, by what words.json holds" in screen.err
    folder = Path("words-reader")
    report = json.loads((folder / "report.json").read_text())
    answers = report["summary"]["answers"]
    assert answers["scores"]["f1"] == pytest.approx(report["metrics"]["eval_f1"], abs=7)
    assert answers["scores"]["f1"] > 50 and sum(answers["counts"].values()) == answers["rows"]
    text = (folder / "summary.txt").read_text()
    assert text.strip() == screen.out.strip() and max(map(len, text.splitlines())) < 160
    assert "answers from a passage" in text and "deepsparse.server --task question_answering" in text
    row = next(row for row in questions.rows(9, seed=9) if row["answers"]["text"])
    answer = Pipeline.create(model_path=folder / "deployment")(
        question=row["question"], context=row["context"]
    )
    assert answer.answer in row["context"]
    # The same command again.
    assert cli.main([*words, *recipe]) == 0
    assert "finished" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "asks"),
    [
        ("a.csv", "query,passage,answer\nx,y,z\n", True),
        ("a.csv", "query;passage;answer\nx;y;z\n", True),
        ("a.tsv", "question\tcontext\tanswers\nx\ty\tz\n", True),
        ("a.csv", "question,context,label\nx,y,z\n", False),
        ("a.csv", "question,text,answer\nx,y,z\n", False),  # of a forum, perhaps
        ("a.jsonl", '{"question": "x", "context": "y", "answers": []}\n', True),
        ("a.jsonl", '{"text": "question, context, answers", "label": 1}\n', False),
        ("a.json", json.dumps(questions.squad(questions.rows(3))), True),
        ("a.json", json.dumps(questions.squad(questions.rows(3)), indent=2), True),
        ("a.parquet", "question context answers", False),
    ],
)
def test_what_a_file_is_for(name: str, content: str, asks: bool) -> None:
    Path(name).write_text(content)
    wanted = "question_answering" if asks else "text_classification"
    assert task_of(["--train_file", name]) == task_of([f"--train-file={name}", "--do_train"]) == wanted
    assert task_of(["--train_file", name, "--label_column_name", "answer"]) == "text_classification"


def test_what_else_says_the_task() -> None:
    assert task_of(["--dataset_name", "squad"]) == "question_answering"
    assert task_of(["--dataset_name", "emotion"]) == task_of([]) == "text_classification"
    assert task_of(["--train_file", "nowhere.json"]) == "text_classification"


def test_the_summary_says_what_went_wrong() -> None:
    speed = {"median_ms": 1.0, "texts_per_second": 900.0, "engine": "native", "cores": 1, "cpu": "x"}
    size = {"compressed_bytes": 1e6, "dense_bytes": 9e6, "stored_bytes": 2e6}
    wrong = [{"question": "who?", "gold": ["me"], "said": "", "sure": 0.9}]
    answers = {
        "rows": 4,
        "scores": {"exact": 50.0, "f1": 60.0},
        "counts": {"exact": 2, "partly": 1, "wrong": 0, "missed": 1, "invented": 0},
        "wrong": wrong,
        "always_silent": 25.0,
    }
    facts = {
        "name": "rows-reader",
        "train_rows": 9,
        "rows_called": "validation",
        "answers": answers,
        "speed": speed,
        "size": size,
        "check": {"label_agreement": 1.0, "rows": 4},
        "next": {"label a file": ["sparseml", "predict"]},
    }
    text = "\n".join(lines(facts, 80))
    for said in (
        "F1 60.0 %",
        "would reach 25.0 %",
        "2   50.0%  as they should be",
        '"who?"',
        "is me; said no answer",
    ):
        assert said in text, said
    assert "invented" not in text and "with none of them" not in text
    assert "None of 4 rows" in "\n".join(lines({**facts, "answers": {**answers, "wrong": []}}, 80))
