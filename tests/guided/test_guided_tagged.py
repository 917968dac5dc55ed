"""A guided run that tags words: found out by the file, trained, exported and summarized."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deepsparse import Pipeline
from sparseml import cli
from sparseml.guided.tagged import facts, lines
from sparseml.guided.task_by_file import task_of
from sparseml.training import conclusion
from support import tagged, tiny

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(conclusion, "_SECONDS", 0.02)
    return tmp_path


def test_from_a_column_file_alone(capsys: pytest.CaptureFixture[str]) -> None:
    tagged.write(Path("rows.conll"), tagged.rows(160, seed=2))
    tiny.bert(Path("start"), words=tagged.WORDS)
    words = ["train", "--train_file", "rows.conll", "--model_name_or_path", "start"]
    recipe = ["--recipe_args", "num_epochs=4,init_lr=0.01", "--per_device_train_batch_size", "8"]
    assert cli.main([*words, *recipe]) == 0
    screen = capsys.readouterr()
    assert "task: token_classification, by what rows.conll holds" in screen.err
    folder = Path("rows-tagger")
    report = json.loads((folder / "report.json").read_text())
    answers = report["summary"]["answers"]
    assert answers["scores"]["f1"] > 0.8
    assert answers["scores"]["f1"] == pytest.approx(report["metrics"]["eval_f1"], abs=0.05)
    text = (folder / "summary.txt").read_text()
    assert text.strip() == screen.out.strip() and max(map(len, text.splitlines())) < 160
    assert "GOOD" in text and "deepsparse.server --task token_classification" in text
    pipeline = Pipeline.create("ner", folder / "deployment", aggregation_strategy="first")
    (found,) = pipeline("the lovely warm film .").predictions[0]
    assert (found.entity, found.word) == ("GOOD", "lovely warm")


@pytest.mark.parametrize(
    ("name", "content", "tags"),
    [
        ("a.conll", "a O\n", True),
        ("a.txt", "a O\n", True),
        ("a.iob2", "a O\n", True),
        ("a.jsonl", '{"tokens": ["a"], "ner_tags": ["O"]}\n', True),
        ("a.json", '[{"words": ["a"], "tags": ["O"]}]', True),
        ("a.csv", "tokens,ner_tags\na,O\n", True),
        ("a.csv", "text,label\na,O\n", False),
        ("a.csv", "text,tags\na,O\n", False),  # of a classifier of several labels, perhaps
        ("a.jsonl", '{"text": "tokens", "label": "ner_tags"}\n', False),
    ],
)
def test_what_a_file_is_for(name: str, content: str, tags: bool) -> None:
    Path(name).write_text(content)
    wanted = "token_classification" if tags else "text_classification"
    assert task_of(["--train_file", name]) == task_of([f"--train-file={name}", "--do_train"]) == wanted


def test_the_summary_says_what_is_wrong() -> None:
    rows = [["Ann", "Lee", "saw", "Rome"], ["It", "rained"], ["Oslo", "!"]]
    gold = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "O"], ["B-LOC", "O"]]
    said = [["B-PER", "O", "O", "B-PER"], ["O", "B-LOC"], ["O", "O"]]
    found = facts(rows, gold, said)
    assert found["scores"]["f1"] == 0 and found["outside"] == 0.5
    text = "\n".join(
        lines(
            {
                "name": "rows",
                "train_rows": 10,
                "rows_called": "the test rows",
                "answers": found,
                "size": {"compressed_bytes": 1e6, "dense_bytes": 1e7, "stored_bytes": 2e6},
                "speed": {
                    "median_ms": 1.0,
                    "texts_per_second": 10.0,
                    "engine": "native",
                    "cores": 1,
                    "cpu": "CPU",
                },
                "check": {"rows": 3, "label_agreement": 1.0},
                "next": {},
            },
            100,
        )
    )
    assert "'Ann Lee' is PER; said PER of 'Ann'" in text
    assert "'rained' is no entity of its own; said LOC" in text and "'Oslo' is LOC; said nothing" in text
    assert "LOC for PER (1)" in text
