"""Tasks: the list, which task a deployment is for, and two toy tasks that only these tests know."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from deepsparse import EngineError, InputError, ModelError, Pipeline, TextClassificationPipeline, tasks
from deepsparse.rows import TableError
from deepsparse.tasks.base import Outputs, Task, TaskOutput
from deepsparse.tasks.text_classification import TextClassification
from deepsparse.tasks.text_inputs import TextTask
from sparseml.cli import main
from support.deployment import deployment, token_deployment


@dataclass(frozen=True)
class Words(TaskOutput):
    words: list[list[str]]


class UpperCase(TextTask[list[str], Words]):
    """The words of a text whose tokens the model takes for upper-case."""

    name = "upper_case"
    aliases = ("shouting",)
    token_level = True
    offsets = True

    def decode(self, rows: Sequence[str], outputs: Outputs, **options: Any) -> list[list[str]]:
        return [
            [
                text[slice(*span)]
                for span, upper in zip(encoding.offsets, logits[:, 1] > 0, strict=True)
                if upper
            ]
            for text, encoding, logits in zip(rows, outputs.encodings, outputs.arrays["logits"], strict=True)
        ]

    def output(self, predictions: Sequence[list[str]], **options: Any) -> Words:
        return Words(list(predictions))

    def columns(self) -> list[str]:
        return ["upper_case"]

    def values(self, prediction: list[str]) -> list[Any]:
        return [" ".join(prediction)]


@dataclass(frozen=True)
class Found(TaskOutput):
    answers: list[str]
    windows: list[int]


class Search(Task[tuple[str, int], Found]):
    """The words of a context from the highest start to the highest end; a long context is read in windows."""

    name = "search"
    noun = "searcher"
    request: ClassVar[dict[str, Any]] = {
        "type": "object",
        "required": ["question", "context"],
        "properties": {
            "question": {"type": "string"},
            "context": {"type": "string"},
            "upper": {"type": "boolean"},
        },
    }
    example: ClassVar[dict[str, Any]] = {"question": "a", "context": "b"}
    output_names = ("start_logits", "end_logits")
    token_level = True
    offsets = True
    truncation = "only_second"
    rows_have = range(2, 3)

    def __init__(self, deployment: Any, *, stride: int = 2) -> None:
        super().__init__(deployment)
        self.stride = stride

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> list[Any]:
        if not {"question", "context"} <= fields.keys():
            raise InputError("A question and a context are wanted.")
        return [(fields["question"], fields["context"])]

    @classmethod
    def parse_rows(cls, inputs: Any) -> list[Any]:
        return list(inputs)

    @classmethod
    def options(cls, fields: Mapping[str, Any]) -> dict[str, Any]:
        return {"upper": fields.get("upper", False)}

    @classmethod
    def usual_columns(cls, available: Sequence[str], path: Path) -> list[str]:
        if not {"question", "context"} <= set(available):
            raise TableError(f"{path} has no question and context.")
        return ["question", "context"]

    @classmethod
    def parse_values(cls, values: Sequence[Any], where: str) -> Any:
        return tuple(values)

    def decode(self, rows: Sequence[Any], outputs: Outputs, **options: Any) -> list[tuple[str, int]]:
        start, end = (outputs.arrays[name] for name in self.output_names)
        found = []
        for row, (_, context) in enumerate(rows):
            windows = outputs.sequences(row)
            best = max(windows, key=lambda window: start[window].max() + end[window].max())
            offsets = outputs.encodings[best].offsets
            text = context[offsets[start[best].argmax()][0] : offsets[end[best].argmax()][1]]
            found.append((text.upper() if options.get("upper") else text, len(windows)))
        return found

    def output(self, predictions: Sequence[tuple[str, int]], **options: Any) -> Found:
        return Found([text for text, _ in predictions], [count for _, count in predictions])

    def columns(self) -> list[str]:
        return ["answer"]

    def values(self, prediction: tuple[str, int]) -> list[Any]:
        return [prediction[0]]


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_TASKS", dict(tasks._TASKS))
    tasks.register(UpperCase)
    tasks.register(Search)


@pytest.fixture(scope="module")
def shouting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = ["not", "NOT", "again", "AGAIN", "a", "A"]
    table = np.array([[0, 1] if word.isupper() else [1, -1] for word in words], np.float32)
    folder = tmp_path_factory.mktemp("tasks") / "shouting"
    return token_deployment(folder, words, {"logits": table}, task="upper_case")


@pytest.fixture(scope="module")
def searching(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = ["where", "is", "it", "in", "the", "red", "box"]
    # Not in the task's order: they are found by their names.
    tables = {"end_logits": ["box"], "start_logits": ["red"]}
    values = {name: np.isin(words, high).astype(np.float32) for name, high in tables.items()}
    return token_deployment(tmp_path_factory.mktemp("tasks") / "searching", words, values, task="search")


TEXTS = ["not again", "NOT again", "a A a A", "again not not AGAIN again a"]
UPPER = [[], ["NOT"], ["A", "A"], ["AGAIN"]]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("settings", [{}, {"batch_size": 1}, {"num_cores": 3}])
def test_token_level_outputs_are_cut_to_the_tokens(
    shouting: Path, tmp_path: Path, side: str, settings: dict[str, Any]
):
    folder = tmp_path / "shouting"
    folder.mkdir()
    for path in shouting.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "tokenizer_config.json").write_text(json.dumps({"padding_side": side}))
    pipeline = Pipeline.create(model_path=folder, **settings)
    assert type(pipeline) is Pipeline and pipeline.task == "upper_case"
    assert pipeline(TEXTS).words == UPPER
    outputs = pipeline.run(TEXTS)
    assert [len(logits) for logits in outputs.arrays["logits"]] == [4, 4, 6, 8]
    assert list(pipeline.stream(iter(TEXTS))) == UPPER
    assert pipeline([]).model_dump() == {"words": []}


def test_a_toy_task_in_a_file(shouting: Path, tmp_path: Path):
    source, output = tmp_path / "rows.csv", tmp_path / "out.csv"
    source.write_text("".join(f"{text}\n" for text in ["text", *TEXTS, '""']))
    assert main(["predict", str(shouting), "--input", str(source), "--output", str(output)]) == 0
    assert output.read_text().splitlines() == [
        "text,upper_case",
        *(f"{text},{' '.join(words)}" for text, words in zip(TEXTS, UPPER, strict=True)),
    ]
    assert "empty" in (tmp_path / "out.rejected.jsonl").read_text()
    assert (
        main(["predict", str(shouting), "--input", str(source), "--output", str(output), "--top_k", "2"]) == 2
    )


def test_toy_tasks_behind_http(shouting: Path, searching: Path, deployed: Path):
    pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    from deepsparse.server.app import create_app
    from deepsparse.server.config import parse_config
    from deepsparse.server.endpoints import Endpoints
    from deepsparse.server.service import Server

    models = {"shouting": shouting, "search": searching, "glue": deployed}
    endpoints = [{"task": task, "model": str(folder), "name": task} for task, folder in models.items()]
    config = parse_config({"endpoints": endpoints}, "test")
    with TestClient(create_app(Server(Endpoints(config), config))) as served:
        many = TEXTS * 40  # more than the queue computes at a time
        answer = served.post("/v2/models/shouting/infer", json={"sequences": many})
        assert answer.json() == {"words": UPPER * 40}
        assert (
            served.post("/v2/models/shouting/infer", json={"sequences": "a", "top_k": 1}).status_code == 422
        )
        asked = {"question": "where is it", "context": "in " * 20 + "the red box", "upper": True}
        assert served.post("/v2/models/search/infer", json=asked).json() == {
            "answers": ["RED BOX"],
            "windows": [1],
        }
        answer = served.post("/v2/models/search/infer", json={"question": "where"})
        assert answer.status_code == 422 and "context" in answer.json()["detail"]
        answer = served.post("/v2/models/search/infer", content=b"[]")
        assert '{"question": "a", "context": "b"}' in answer.json()["detail"]
        timed = {"question": "where", "context": "in the box", "seconds": 0.1}
        assert served.post("/v2/models/search/benchmark", json=timed).json()["requests"] >= 1
        assert served.post("/v2/models/glue/infer", json={"sequences": "happy"}).json()["labels"] == ["joy"]
        described = served.get("/v2/models/search").json()
        assert described["task"] == "search" and "labels" not in described
        paths = served.get("/openapi.json").json()["paths"]
    body = paths["/v2/models/{name}/infer"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert [schema["required"] for schema in body["anyOf"]] == [
        ["sequences"],
        ["question", "context"],
        ["inputs"],
        ["sequences"],
        ["question", "context"],
        ["inputs"],
    ]


def test_rows_of_several_windows(searching: Path):
    pipeline = Pipeline.create("search", searching, sequence_length=10)
    contexts = ["the red box", "in " * 20 + "the red box", "in the red box " + "in " * 9]
    found = pipeline([("where is it", context) for context in contexts])
    assert found.answers == ["red box"] * 3
    assert found.windows[0] == 1 and found.windows[1] > found.windows[2] > 1
    assert pipeline(question="where is it", context=contexts[1]).answers == ["red box"]


def test_outputs_are_cut_and_joined_by_rows(searching: Path):
    pipeline = Pipeline.create("search", searching, sequence_length=10)
    rows = [("where", "in " * count + "the red box") for count in (0, 9, 30, 1)]
    outputs = pipeline.run(rows)
    assert len(outputs) == 4
    joined = Outputs.concatenate([outputs[:1], outputs[1:3], outputs[3:4]])
    assert joined.starts == outputs.starts
    assert pipeline.handler.decode(rows, joined) == pipeline.predict(rows)
    assert pipeline.handler.decode(rows[1:3], outputs[1:3]) == pipeline.predict(rows)[1:3]


def test_the_deployment_says_its_task(tmp_path: Path, deployed: Path, searching: Path):
    stated = deployment(tmp_path / "stated", task="text-classification")
    for folder in (stated, deployed):
        assert isinstance(Pipeline.create(model_path=folder), TextClassificationPipeline)
        assert TextClassificationPipeline(folder, top_k=2).top_k == 2
    for task in ("glue", "upper_case"):
        with pytest.raises(EngineError, match=r"searching was exported for the task search, .* for"):
            Pipeline.create(task, searching)
    with pytest.raises(EngineError, match="exported for the task search"):
        TextClassificationPipeline(searching)
    with pytest.raises(
        ModelError, match=r"config.json: There is no task 'text_clasification'.*text_classification"
    ):
        Pipeline.create(model_path=deployment(tmp_path / "odd", task="text_clasification"))


def test_a_model_of_another_task_is_refused(tmp_path: Path, deployed: Path, shouting: Path):
    with pytest.raises(ModelError, match=r"gives logits; a searcher gives start_logits, end_logits"):
        Pipeline.create("search", deployed)
    with pytest.raises(ModelError, match=r"shape \(1, 3\) for 1 x \d+ tokens, .* another task"):
        Pipeline.create("upper_case", deployed)
    with pytest.raises(ModelError, match=r"gives an array of shape \(1, \d+, 2\) a text"):
        Pipeline.create(
            "glue", token_deployment(tmp_path / "tokens", ["a"], {"logits": np.ones((1, 2), np.float32)})
        )


def test_only_the_list_knows_the_tasks():
    package = Path(tasks.__file__).parents[1]
    outside = [path for path in package.rglob("*.py") if path.parent.name != "tasks"]
    imports = [line for path in outside for line in path.read_text().splitlines() if "import" in line]
    concrete = [line for line in imports if "deepsparse.tasks.text" in line]
    # The package itself offers the names of text classification to `from deepsparse import ...`.
    (line,) = concrete
    assert line.startswith("from deepsparse.tasks.text_classification import TextClassificationOutput")


def test_the_list_refuses_duplicates_and_odd_names():
    assert tasks.names() == [
        "text_classification",
        "question_answering",
        "token_classification",
        "upper_case",
        "search",
    ]
    assert tasks.find("Sentiment-Analysis") is TextClassification and tasks.find("shouting") is UpperCase
    tasks.register(UpperCase)

    class Other(UpperCase):
        name = "other"
        aliases = ("glue",)

    class Odd(UpperCase):
        name = "Upper-Case"

    with pytest.raises(EngineError, match=r"task 'glue' already: .*TextClassification"):
        tasks.register(Other)
    with pytest.raises(EngineError, match="lower case"):
        tasks.register(Odd)
    with pytest.raises(EngineError, match="Did you mean 'search'"):
        Pipeline.create("serch", "nowhere")
