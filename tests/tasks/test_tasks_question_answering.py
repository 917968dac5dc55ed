"""Question answering from SQuAD's file to the server: a tiny model, pruned, quantized and distilled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deepsparse import Pipeline
from resparse.errors import UserError
from sparseml import cli
from sparseml.tasks import load_task, task_of
from sparseml.training import run
from sparseml.transformers import eval_downstream, export, question_answering
from support import questions, tiny

RECIPE = tiny.RECIPE.replace("2e-3", "1e-2").replace("        - classifier", "        - qa_outputs")


def arguments(place: Path, **more: Any) -> dict[str, Any]:
    """Of a training on the rows of a folder."""
    files = {f"{split}_file": str(place / f"{split}.json") for split in ("train", "validation", "test")}
    return {
        **files,
        "model_name_or_path": str(place / "start"),
        "do_train": True,
        "do_eval": True,
        "per_device_train_batch_size": 16,
        "save_strategy": "no",
        "max_seq_length": 24,
        "doc_stride": 6,
        "max_answer_length": 3,
        **more,
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows, and under model a trained model; not to be changed."""
    place = tmp_path_factory.mktemp("questions")
    for split, count in (("train", 256), ("validation", 32), ("test", 16)):
        questions.write(place / f"{split}.json", questions.rows(count, seed=count, words=24))
    tiny.bert(place / "start", words=questions.WORDS)
    task = load_task("question-answering")
    dense = {"output_dir": str(place / "teacher"), "num_train_epochs": 5, "learning_rate": 1e-2}
    run.main(task, **arguments(place, **dense, do_eval=False))
    run.main(
        task,
        **arguments(
            place,
            output_dir=str(place / "model"),
            model_name_or_path=str(place / "teacher"),
            allow_dense_start=True,
            recipe=RECIPE + tiny.DISTILLATION,
            distill_teacher=str(place / "teacher"),
            do_predict=True,
        ),
    )
    return place


@pytest.fixture(scope="module")
def deployed(trained: Path) -> Path:
    export.main(["--model_path", str(trained / "model")])
    return trained / "deployment"


def test_it_learns_and_reports(trained: Path) -> None:
    report = json.loads((trained / "model" / "report.json").read_text())
    assert report["metrics"]["eval_f1"] > 90 and report["metrics"]["eval_NoAns_total"] == 8
    assert report["metrics"]["eval_best_f1"] >= report["metrics"]["eval_f1"] - 1e-9
    assert report["totals"]["quantized_layers"] > 8
    evaluation = report["evaluation"]["validation"]
    assert evaluation["rows"] == sum(evaluation["answers"].values()) == 32
    assert cli.main(["report", str(trained / "model")]) == 0
    assert "Answers" in (trained / "model" / "report.html").read_text()
    assert report["data"]["rows"]["validation"] == 32
    card = (trained / "model" / "README.md").read_text()
    assert "question-answering" in card and "--task question_answering" in card


def test_it_writes_the_files_of_run_qa(trained: Path) -> None:
    model = trained / "model"
    for stage, count in (("eval", 32), ("predict", 16)):
        said, candidates, odds = (
            json.loads((model / f"{stage}_{name}.json").read_text())
            for name in ("predictions", "nbest_predictions", "null_odds")
        )
        assert len(said) == count and said.keys() == candidates.keys() == odds.keys()
        for name, answer in said.items():
            spans = [one for one in candidates[name] if one["text"]]
            assert answer == ("" if odds[name] > 0 else spans[0]["text"])
            assert sum(one["probability"] for one in candidates[name]) == pytest.approx(1)
            null = next(one for one in candidates[name] if not one["text"])
            scores = [one["start_logit"] + one["end_logit"] for one in (null, spans[0])]
            assert odds[name] == pytest.approx(scores[0] - scores[1], abs=1e-4)


def test_the_export_is_compared_and_keeps_how_the_model_reads(deployed: Path) -> None:
    config = json.loads((deployed / "config.json").read_text())
    assert config["task"] == "question_answering"
    reading = config["question_answering"]
    assert (reading["max_seq_length"], reading["doc_stride"], reading["max_answer_length"]) == (24, 6, 3)
    assert reading["version_2_with_negative"] is True
    checked = json.loads((deployed / "report.json").read_text())["export"]["verification"]
    assert checked["rows"] == 32 and checked["on"] == "validation.json" and checked["label_agreement"] == 1


def test_the_deployment_answers_as_the_training_did(deployed: Path, trained: Path) -> None:
    rows = questions.rows(32, seed=32, words=24)
    said = json.loads((trained / "model" / "eval_predictions.json").read_text())
    pipeline = Pipeline.create("qa", deployed)
    assert pipeline.sequence_length == 24
    answers = pipeline.predict([(row["question"], row["context"]) for row in rows])
    same = [answer.answer == said[row["id"]] for row, answer in zip(rows, answers, strict=True)]
    assert np.mean(same) > 0.95
    # Windows: some passages are longer than one.
    outputs = pipeline.run([(row["question"], row["context"]) for row in rows])
    assert outputs.starts is not None and len(outputs.encodings) > len(rows)


def test_its_engine_is_the_native_one_where_there_is_one(deployed: Path) -> None:
    pipeline = Pipeline.create("qa", deployed)
    reference = Pipeline.create("qa", deployed, engine_type="onnxruntime")
    if pipeline.engine.engine_type != "native":
        pytest.skip("no compiled engine here")
    pairs = [(row["question"], row["context"]) for row in questions.rows(24, seed=5, words=24)]
    for ours, theirs in zip(pipeline.predict(pairs), reference.predict(pairs), strict=True):
        assert (ours.start, ours.end) == (theirs.start, theirs.end)
        assert ours.score == pytest.approx(theirs.score, abs=0.1)


def test_the_deployment_is_evaluated(
    deployed: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert eval_downstream.main([str(deployed), "-d", str(trained / "validation.json")]) == 0
    printed = dict(line.split(": ") for line in capsys.readouterr().out.splitlines() if ": " in line)
    report = json.loads((trained / "model" / "report.json").read_text())["metrics"]
    assert float(printed["f1"]) == pytest.approx(report["eval_f1"], abs=4)
    assert float(printed["NoAns_total"]) == 8


def test_files_are_answered(deployed: Path, trained: Path, tmp_path: Path) -> None:
    row = next(row for row in questions.rows(16, seed=9) if row["answers"]["text"])
    source, output = tmp_path / "rows.csv", tmp_path / "answered.jsonl"
    source = tiny.write(
        tmp_path / "rows.jsonl", [{"question": row["question"], "context": row["context"]}] * 2
    )
    assert cli.main(["predict", str(deployed), "--input", str(source), "--output", str(output)]) == 0
    found = [json.loads(line) for line in output.read_text().splitlines()]
    answer = found[1]
    assert answer["predicted_answer"] == row["answers"]["text"][0]
    assert row["context"][answer["predicted_start"] : answer["predicted_end"]] == answer["predicted_answer"]


def test_the_server_serves_it(deployed: Path) -> None:
    testing = pytest.importorskip("fastapi.testclient")
    from deepsparse.server.app import Server, create_app
    from deepsparse.server.config import parse_config
    from deepsparse.server.endpoints import Endpoints

    config = parse_config({"endpoints": [{"task": "qa", "model": str(deployed), "name": "qa"}]}, "test")
    row = next(row for row in questions.rows(16, seed=9) if row["answers"]["text"])
    body = {"question": row["question"], "context": row["context"]}
    with testing.TestClient(create_app(Server(Endpoints(config), config))) as client:
        answer = client.post("/v2/models/qa/infer", json=body).json()
        several = client.post("/v2/models/qa/infer", json={**body, "top_k": 3}).json()
        wrong = client.post("/v2/models/qa/infer", json={"question": "who ?"})
    assert answer.keys() == {"score", "answer", "start", "end"}
    assert (
        answer["answer"] == row["answers"]["text"][0] and answer["start"] == row["answers"]["answer_start"][0]
    )
    assert len(several["candidates"][0]) == 3 and several["candidates"][0][0]["answer"] == answer["answer"]
    assert wrong.status_code == 422 and "context" in wrong.json()["detail"]


def test_a_stopped_training_goes_on_as_if_it_had_not_been(
    trained: Path, tmp_path: Path, one_thread: None
) -> None:
    common = arguments(
        trained, num_train_epochs=1, max_train_samples=64, do_eval=False, save_strategy="steps"
    )
    common |= {"save_steps": 2, "recipe": RECIPE.replace("num_epochs: 3", "num_epochs: 2"), "seed": 3}
    run.main(load_task("qa"), **common, output_dir=str(tmp_path / "whole"))
    folder = tmp_path / "whole"
    newest = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name[11:]))[1]
    run.main(
        load_task("qa"), **common, output_dir=str(tmp_path / "again"), resume_from_checkpoint=str(newest)
    )
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "again"))
    assert one == other


def test_distance_is_that_of_starts_and_ends_without_padding() -> None:
    task = load_task("qa")
    torch.manual_seed(0)
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    student, teacher = (
        {name: torch.randn(2, 4) for name in ("start_logits", "end_logits")} for _ in range(2)
    )
    found = float(task.distance(student, teacher, 2.0, {"attention_mask": mask}, None))
    wanted = []
    for name in student:
        for row, count in enumerate((3, 4)):
            ours, theirs = (
                torch.log_softmax(values[name][row, :count] / 2, dim=0) for values in (student, teacher)
            )
            wanted.append(float(4 * (theirs.exp() * (theirs - ours)).sum()))
    assert found == pytest.approx(np.mean(wanted), rel=1e-5)
    student["start_logits"][0, 3] = 50.0  # padding
    assert float(task.distance(student, teacher, 2.0, {"attention_mask": mask}, None)) == pytest.approx(found)


def test_names_arguments_and_refusals(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load_task("qa").name == load_task("Question-Answering").name == "question_answering"
    config = type("Config", (), {"architectures": ["BertForQuestionAnswering"]})
    assert task_of(config).name == "question_answering"
    with pytest.raises(SystemExit):
        question_answering.main(["--help"])
    assert "--null_score_diff_threshold" in capsys.readouterr().out
    for given, wanted in (
        ({"doc_stride": -1}, "doc_stride is -1"),
        ({"max_answer_length": 0}, "max_answer_length is 0"),
        ({"answer_column_name": "reply"}, "no column 'reply'"),
        ({"max_seq_length": 4}, "no room"),
    ):
        with pytest.raises(UserError, match=wanted):
            question_answering.main(**arguments(trained, output_dir=str(tmp_path / "none"), **given))
    assert not (tmp_path / "none").exists()
