"""`Scorer`: every kind of block gets what the pipeline says, row for row; bad rows a reason; elsewhere, too."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepsparse import Pipeline, Scorer
from deepsparse.errors import EngineError
from deepsparse.rows import TableError
from deepsparse.scorer import is_null

TEXTS = ["happy film", None, "sad film", "  ", "furious", "the film was very sad", float("nan")]
ADDED = ["predicted_label", "predicted_score", "prediction_error"]


def expected(deployed: Path) -> list[tuple[Any, Any, Any]]:
    scored = Pipeline.create(model_path=deployed)(
        [text for text in TEXTS if isinstance(text, str) and text.strip()]
    )
    found = iter(zip(scored.labels, scored.scores, strict=True))
    rows = []
    for text in TEXTS:
        if not isinstance(text, str):
            rows.append((None, None, "no 'text'"))
        elif not text.strip():
            rows.append((None, None, "the row is empty: there is nothing to classify."))
        else:
            label, score = next(found)
            rows.append((label, pytest.approx(score, abs=1e-6), None))
    return rows


def dictionary() -> dict[str, Any]:
    return {"id": np.arange(len(TEXTS)), "text": np.array(TEXTS, object)}


def rows_of(block: Any) -> list[tuple[Any, Any, Any]]:
    """The added columns of a block of any kind, row by row, with None for every kind of null."""
    lists = [listed(block[name]) for name in ADDED]
    return [tuple(None if is_null(value) else value for value in row) for row in zip(*lists, strict=True)]


def listed(column: Any) -> list[Any]:
    return column.to_pylist() if hasattr(column, "to_pylist") else list(column)


def frame() -> Any:
    return pytest.importorskip("pandas").DataFrame(dictionary())


def table() -> Any:
    return pytest.importorskip("pyarrow").table({"id": range(len(TEXTS)), "text": [*TEXTS[:-1], None]})


def batch() -> Any:
    return table().to_batches()[0]


@pytest.mark.parametrize("make", [dictionary, frame, table, batch])
def test_every_kind_of_block_gets_its_predictions_in_order(deployed: Path, make: Any):
    block = make()
    scored = Scorer(deployed)(block)
    assert type(scored) is type(block)
    assert rows_of(scored) == expected(deployed)
    assert listed(scored["id"]) == list(range(len(TEXTS)))
    assert "predicted_label" not in block


def test_lists_are_columns_and_an_iterator_gives_an_iterator(deployed: Path):
    taken = []

    def blocks() -> Any:
        for text in ("happy", "sad"):
            taken.append(text)
            yield {"text": [text]}

    scored = Scorer(deployed)(blocks())
    assert not taken
    assert next(scored)["predicted_label"].tolist() == ["joy"]
    assert taken == ["happy"]
    assert [block["predicted_label"].tolist() for block in scored] == [["sadness"]]


def test_the_schema_is_the_same_whatever_the_rows(deployed: Path):
    pyarrow = pytest.importorskip("pyarrow")
    scorer = Scorer(deployed)
    assert scorer.fields == {
        "predicted_label": "string",
        "predicted_score": "double",
        "prediction_error": "string",
    }
    text = pyarrow.field("text", pyarrow.string())
    added = [("predicted_label", pyarrow.string()), ("predicted_score", pyarrow.float64())]
    whole = pyarrow.schema([text, *added, ("prediction_error", pyarrow.string())])
    for texts in (["happy"], [None], []):
        block = pyarrow.table({"text": pyarrow.array(texts, pyarrow.string())})
        assert scorer(block).schema == whole
        assert scorer({"text": texts})["predicted_score"].dtype == np.float64


def test_several_labels_are_strings(deployed: Path):
    scorer = Scorer(deployed, top_k=2)
    assert list(scorer.fields.values()) == ["string", "double", "string", "double", "string"]
    assert scorer({"text": ["happy"]})["predicted_label"].tolist() == ["joy"]


def test_a_spark_schema_is_told_by_strings_and_left_as_it_was(deployed: Path):
    class StructType:
        def __init__(self) -> None:
            self.added: list[tuple[str, str]] = []

        def add(self, name: str, kind: str) -> StructType:
            self.added.append((name, kind))
            return self

    own = StructType().add("text", "string")
    whole = Scorer(deployed).schema(own)
    assert whole.added == [("text", "string"), *Scorer(deployed).fields.items()]
    assert own.added == [("text", "string")]


def test_chosen_columns_make_pairs(deployed: Path):
    block = {"b": ["sad", None], "a": ["happy film", "happy"], "text": ["furious", "furious"]}
    scored = Scorer(deployed, columns=["a", "b"])(block)
    one = Pipeline.create(model_path=deployed)([["happy film", "sad"]])
    assert scored["predicted_label"].tolist() == [one.labels[0], None]
    assert scored["predicted_score"][0] == pytest.approx(one.scores[0], abs=1e-6)
    assert scored["prediction_error"].tolist() == [None, "no 'b'"]


def test_rows_beyond_a_window_keep_their_order(deployed: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("deepsparse.scorer.WINDOW", 3)
    assert rows_of(Scorer(deployed)(dictionary())) == expected(deployed)


def test_what_is_wrong_for_all_rows_is_an_error(deployed: Path):
    with pytest.raises(TableError, match="Which column"):
        Scorer(deployed)({"x": ["a"], "y": ["b"]})
    with pytest.raises(TableError, match="'predicted_score' already"):
        Scorer(deployed)({"text": ["a"], "predicted_score": [1]})
    with pytest.raises(EngineError, match="top_q"):
        Scorer(deployed, top_q=2)({"text": ["a"]})
    with pytest.raises(TypeError, match="list is no block"):
        Scorer(deployed)(["a"])
    assert Scorer(deployed)({}) == {}


def test_a_pickled_scorer_scores_in_another_process(deployed: Path):
    scorer = Scorer(deployed)
    here = scorer({"text": ["happy film"]})
    packed = pickle.dumps(scorer)
    assert len(packed) < 1000
    code = (
        "import json, pickle, sys\n"
        "scorer = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
        "out = [scorer({'text': ['happy film']})['predicted_score'][0] for _ in range(2)]\n"
        "heavy = [name for name in ('ray', 'pandas', 'pyarrow', 'pyspark', 'torch') if name in sys.modules]\n"
        "print(json.dumps([out, heavy]))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, packed.hex()], check=True, capture_output=True, text=True
    )
    score = here["predicted_score"][0]
    assert json.loads(answer.stdout) == [[score, score], []]


def test_a_process_makes_one_pipeline_of_equal_scorers(deployed: Path):
    scorer = Scorer(deployed)
    assert pickle.loads(pickle.dumps(scorer)).pipeline is scorer.pipeline
    assert Scorer(deployed, top_k=2).pipeline is not scorer.pipeline
