"""Pipelines that answer questions: DeepSparse's arguments and outputs, windows, candidates, silence and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepsparse import EngineError, InputError, ModelError, Pipeline, tasks
from deepsparse.rows import TableError
from deepsparse.tasks.question_answering import QuestionAnswering
from sparseml.cli import main
from support.deployment import deployment, token_deployment

WORDS = ["where", "is", "it", "?", "in", "the", "red", "box", "blue", "under", "."]
LONG = "in " * 40


def answering(folder: Path, **config: Any) -> Path:
    """A model that starts answers at "red" (before "blue") and ends them at "box"; special tokens score 0."""
    start = np.array([{"red": 3.0, "blue": 2.0}.get(word, -1.0) for word in WORDS], np.float32)
    end = np.array([4.0 if word == "box" else -2.0 for word in WORDS], np.float32)
    # Not in the task's order: they are found by their names.
    return token_deployment(folder, WORDS, {"end_logits": end, "start_logits": start}, **config)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return answering(tmp_path_factory.mktemp("answering") / "plain", task="question_answering")


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Any:
    return Pipeline.create(task="question-answering", model_path=folder, sequence_length=24)


def test_one_question(pipeline: Any) -> None:
    output = pipeline(question="where is it ?", context="it is in the red box .")
    assert output.model_dump() == {"score": 7.0, "answer": "red box", "start": 13, "end": 20}
    assert pipeline.task == "question_answering" and tasks.find("QA") is QuestionAnswering


def test_several_questions_and_every_form_of_input(pipeline: Any) -> None:
    contexts = ["in the red box", "the blue box"]
    several = pipeline(question="where ?", context=contexts)
    assert several.answer == ["red box", "blue box"] and several.start == [7, 4]
    pairs = [("where ?", context) for context in contexts]
    fields = [{"question": question, "context": context} for question, context in pairs]
    for inputs in (pairs, fields, list(map(list, pairs))):
        assert pipeline(inputs) == several
    one = pipeline(("where ?", contexts[0]))
    assert one == pipeline(fields[0]) == pipeline([pairs[0]]) and one.answer == "red box"
    assert pipeline(question=["where ?", "is it ?"], context=contexts[0]).answer == ["red box"] * 2
    assert pipeline([]).answer == []
    assert [answer.answer for answer in pipeline.stream(iter(pairs))] == several.answer


@pytest.mark.parametrize("settings", [{}, {"doc_stride": 0}, {"doc_stride": 2}, {"sequence_length": 9}])
def test_long_passages_are_read_whole(folder: Path, settings: dict[str, Any]) -> None:
    pipeline = Pipeline.create("qa", folder, **{"sequence_length": 24, **settings})
    for context in (LONG + "the red box", "the red box " + LONG, LONG + "the red box " + LONG):
        answer = pipeline(question="where ?", context=context)
        assert answer.answer == "red box" == context[answer.start : answer.end]
        assert len(pipeline.run([("where ?", context)]).encodings) > 1


def test_num_spans_limits_the_windows(folder: Path) -> None:
    pipeline = Pipeline.create("qa", folder, sequence_length=24, num_spans=1)
    outputs = pipeline.run([("where ?", LONG), ("where ?", "the red box")])
    assert outputs.starts == [0, 1, 2]
    assert pipeline(question="where ?", context="blue box " + LONG + "the red box").answer == "blue box"


def test_long_questions_are_cut(folder: Path) -> None:
    pipeline = Pipeline.create("qa", folder, sequence_length=24, max_question_length=4)
    for question in ("where " * 100, "é " * 100, "  is it in the"):
        (encoding,) = pipeline.run([(question, "the red box")]).encodings
        assert [owner for owner in encoding.sequence_ids if owner == 0] == [0] * 4
        assert pipeline(question=question, context="the red box").answer == "red box"


def test_answers_are_no_longer_than_allowed(folder: Path) -> None:
    pipeline = Pipeline.create("qa", folder, max_answer_length=2, sequence_length=24)
    assert pipeline(question="where ?", context="red in the blue box").answer == "blue box"
    assert (
        Pipeline.create("qa", folder, sequence_length=24)(
            question="where ?", context="red in the blue box"
        ).answer
        == "red in the blue box"
    )


def test_no_answer_where_that_is_one(folder: Path) -> None:
    asked = {"question": "where ?", "context": "it is under it"}
    silent = Pipeline.create("qa", folder, version_2_with_negative=True, sequence_length=24)
    assert silent(**asked).model_dump() == {"score": 0.0, "answer": "", "start": 0, "end": 0}
    assert silent(question="where ?", context="the red box").answer == "red box"
    assert Pipeline.create("qa", folder, sequence_length=24)(**asked).answer != ""
    bold = Pipeline.create(
        "qa", folder, version_2_with_negative=True, null_score_diff_threshold=9.0, sequence_length=24
    )
    assert bold(**asked).answer != ""


def test_the_deployment_s_settings_are_the_default(tmp_path: Path) -> None:
    reading = {"max_seq_length": 12, "doc_stride": 1, "version_2_with_negative": True, "max_answer_length": 1}
    folder = answering(tmp_path / "kept", task="question_answering", question_answering=reading)
    pipeline = Pipeline.create(model_path=folder)
    assert pipeline.sequence_length == 12
    assert pipeline.handler.reading.max_answer_length == 1 and pipeline.handler.stride == 1
    assert Pipeline.create(model_path=folder, sequence_length=30, max_answer_length=5).sequence_length == 30
    wrong = answering(tmp_path / "wrong", task="question_answering", question_answering={"doc_stride": "x"})
    with pytest.raises(ModelError, match=r"config.json: doc_stride is 'x'"):
        Pipeline.create(model_path=wrong)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"question": "where ?"}, '"context" is missing'),
        ({"context": "here"}, '"question" is missing'),
        ({"question": "", "context": "here"}, "the question is empty"),
        ({"question": "a", "context": " \n"}, "the context is empty"),
        ({"question": 3, "context": "here"}, "question is a number"),
        ({"question": ["a", None], "context": "here"}, r"question\[1\]: the question is null"),
        ({"question": ["a"] * 3, "context": ["b"] * 2}, "3 questions, but 2 contexts"),
        ({"question": "\ud800", "context": "here"}, "surrogate"),
    ],
)
def test_refused_requests(pipeline: Any, fields: dict[str, Any], wanted: str) -> None:
    with pytest.raises(InputError, match=wanted):
        pipeline(**fields)


def test_refused_rows_and_settings(pipeline: Any, folder: Path, tmp_path: Path) -> None:
    for inputs, wanted in (
        (["only"], r"inputs\[0\]"),
        ("text", "no question"),
        ([{"question": "a"}], "context"),
    ):
        with pytest.raises(InputError, match=wanted):
            pipeline(inputs)
    for settings, wanted in (
        ({"max_answer_length": 0}, "max_answer_length is 0"),
        ({"version_2_with_negative": 1}, "true or false"),
        ({"num_spans": 0}, "num_spans=0"),
        ({"sequence_length": 4}, "no room"),
        ({"doc_strid": 3}, "doc_stride"),
    ):
        with pytest.raises(EngineError, match=wanted):
            Pipeline.create("qa", folder, **settings)
    with pytest.raises(ModelError, match="gives logits"):
        Pipeline.create("qa", deployment(tmp_path / "classifier"))


def test_files(folder: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "rows.csv", tmp_path / "out.csv"
    source.write_text('query,passage\nwhere ?,the red box\nwhere ?,\nwhere ?,"in, the blue box"\n')
    words = ["predict", str(folder), "--input", str(source), "--output", str(output)]
    assert main([*words, "--sequence-length", "24"]) == 0
    assert output.read_text().splitlines() == [
        "query,passage,predicted_answer,predicted_score,predicted_start,predicted_end",
        "where ?,the red box,red box,7.0,4,11",
        'where ?,"in, the blue box",blue box,6.0,8,16',
    ]
    assert "context is empty" in (tmp_path / "out.rejected.jsonl").read_text()
    paragraphs = [
        {"context": context, "qas": [{"id": str(place), "question": "where ?"}]}
        for place, context in enumerate(["the red box", "", "in, the blue box"])
    ]
    squad, answers = tmp_path / "squad.json", tmp_path / "answers.json"
    squad.write_text(json.dumps({"version": "1.1", "data": [{"title": "a", "paragraphs": paragraphs}]}))
    assert main(["predict", str(folder), "--input", str(squad), "--output", str(answers)]) == 0
    answered = [json.loads(line) for line in answers.read_text().splitlines()]
    assert [(row["id"], row["predicted_answer"]) for row in answered] == [("0", "red box"), ("2", "blue box")]
    assert json.loads((tmp_path / "answers.rejected.jsonl").read_text())["line"] == 2
    for available, asked, wanted in (
        (["text"], None, "Choose with --input_column_names"),
        (["a", "b"], "a", "two columns"),
        (["a", "b"], "a,c", "no column 'c'"),
    ):
        with pytest.raises(TableError, match=wanted):
            QuestionAnswering.find_columns(available, asked, source)


def test_candidates_are_asked_for(folder: Path) -> None:
    testing = pytest.importorskip("fastapi.testclient")
    from deepsparse.server.app import create_app
    from deepsparse.server.config import parse_config
    from deepsparse.server.endpoints import Endpoints
    from deepsparse.server.service import Server

    endpoint = {"task": "question_answering", "model": str(folder), "kwargs": {"sequence_length": 24}}
    config = parse_config({"endpoints": [endpoint]}, "test")
    body = {"question": "where ?", "context": "the red box in the blue box", "top_k": 3}
    with testing.TestClient(create_app(Server(Endpoints(config), config))) as served:
        (name,) = (model["name"] for model in served.get("/v2").json()["models"])
        address = f"/v2/models/{name}/infer"
        answer = served.post(address, json=body).json()
        several = served.post(address, json={"question": ["where ?"] * 300, "context": LONG + "red box"})
        refused = served.post(address, json={**body, "top_k": 0})
    (candidates,) = answer["candidates"]
    assert [one["answer"] for one in candidates][:2] == ["red box", "red box in the blue box"]
    shares = [one["probability"] for one in candidates]
    assert shares == sorted(shares, reverse=True) and sum(shares) <= 1
    assert several.json()["answer"] == ["red box"] * 300
    assert refused.status_code == 422 and "top_k" in json.dumps(refused.json())
