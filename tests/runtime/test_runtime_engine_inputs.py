"""Arrays that no model of text takes: every engine refuses them, in one line of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepsparse import Engine, InputError

Arrays = dict[str, Any]


@pytest.fixture(params=["onnxruntime", "openvino"])
def engine(deployed: Path, request: pytest.FixtureRequest) -> Engine:
    pytest.importorskip(request.param)
    return Engine(deployed, num_cores=1, engine_type=request.param)


def arrays(rows: int = 2, tokens: int = 4) -> Arrays:
    ones = np.ones((rows, tokens), np.int64)
    return {"input_ids": ones * 5, "attention_mask": ones, "token_type_ids": ones * 0}


def put(name: str, value: Any) -> Callable[[Arrays], None]:
    return lambda given: given.update({name: value})


def put_at(name: str, row: int, column: int, value: int) -> Callable[[Arrays], None]:
    def change(given: Arrays) -> None:
        given[name][row, column] = value

    return change


WRONG: dict[str, tuple[Callable[[Arrays], None], str]] = {
    "negative id": (put_at("input_ids", 1, 2, -3), "token id -3 is out of range"),
    "negative type": (put_at("token_type_ids", 0, 0, -1), "token type -1 is out of range"),
    "another length": (put("attention_mask", np.ones((2, 3), np.int64)), "differ in shape: input_ids 2 × 4"),
    "another number of rows": (put("token_type_ids", np.zeros((1, 4), np.int64)), "differ in shape"),
    "one dimension": (put("input_ids", np.ones(4, np.int64)), "has the shape 4; wanted: any × any"),
    "fractions": (put("input_ids", np.full((2, 4), 1.5)), "holds float64 values; wanted is int64"),
    "not a number": (put("input_ids", np.full((2, 4), np.nan)), "holds float64 values"),
    "texts": (put("input_ids", [["a", "b", "c", "d"]] * 2), "wanted is int64"),
    "ragged rows": (put("input_ids", [[1, 2], [3]]), "rows differ in length"),
    "no tokens": (lambda given: given.update(arrays(2, 0)), "no columns"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arrays(engine: Engine, name: str) -> None:
    change, says = WRONG[name]
    given = arrays()
    change(given)
    with pytest.raises(InputError, match=says):
        engine.run(given)
    assert engine.run(arrays())[0].shape == (2, 3)


def test_an_id_beyond_the_vocabulary(deployed: Path) -> None:
    engine = Engine(deployed, num_cores=1, engine_type="onnxruntime")
    given = arrays()
    given["input_ids"][0, 0] = 1000
    with pytest.raises(InputError, match="The model has no 1000: ids and positions end at 19 there"):
        engine.run(given)


def test_what_is_masked_does_not_matter(engine: Engine) -> None:
    """Nor does the type of whole numbers."""
    given = arrays()
    given["attention_mask"][1, 3] = 0
    expected = engine.run(given)[0]
    given["input_ids"][1, 3] = -1
    np.testing.assert_allclose(engine.run(given)[0], expected, atol=1e-6)
    given = {name: array.astype(np.float32) for name, array in arrays().items()}
    np.testing.assert_array_equal(engine.run(given)[0], engine.run(arrays())[0])


def test_never_more_threads_than_cores(
    deployed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("deepsparse.engine.usable_cores", lambda: 2)
    assert Engine(deployed, num_cores=64, engine_type="onnxruntime").num_cores == 2
    assert "num_cores=64: this process may use 2" in " ".join(capsys.readouterr().err.split())
    assert Engine(deployed, num_cores=1, engine_type="onnxruntime").num_cores == 1
    monkeypatch.setenv("DEEPSPARSE_OVERSUBSCRIBE", "1")
    assert Engine(deployed, num_cores=3, engine_type="onnxruntime").num_cores == 3
