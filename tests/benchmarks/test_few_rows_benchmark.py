"""The benchmark of few rows: who learns what, and that a run that has its outcome does not run again."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    import data

    monkeypatch.setenv("RESPARSE_DATA", str(tmp_path / "data"))
    for split, count in (("train", 90), ("validation", 6), ("test", 30)):
        rows = [{"text": f"{split} {index}", "label": index % 3, "other": 1} for index in range(count)]
        path = tmp_path / "data" / "tiny" / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return data.DataSet("tiny", ("text",))


def test_a_draw_has_so_many_rows_a_class_and_always_the_same_test_rows(dataset: Any, tmp_path: Path) -> None:
    import few_rows

    drawn = {}
    for size, seed in ((4, 0), (8, 0), (4, 1)):
        train, test = few_rows.draw(dataset, size, seed, tmp_path / f"{size}-{seed}")
        drawn[size, seed] = train.read_text()
        rows = [json.loads(line) for line in drawn[size, seed].splitlines()]
        assert Counter(row["label"] for row in rows) == {0: size, 1: size, 2: size}
        assert rows[0].keys() == {"text", "label"}
        assert test.read_text() == (tmp_path / "4-0" / "test.jsonl").read_text()
    assert set(drawn[4, 0].splitlines()) < set(drawn[8, 0].splitlines())
    assert drawn[4, 0] != drawn[4, 1]


def test_an_outcome_is_measured_once_and_tabled(tmp_path: Path) -> None:
    import few_rows
    from process import RunFailedError

    calls = []

    def measure() -> dict[str, Any]:
        calls.append(1)
        return {"accuracy": 0.5, "seconds": 10.0}

    def fails() -> dict[str, Any]:
        raise RunFailedError("no")

    for seed in (0, 0, 1):
        few_rows.outcome(tmp_path / "trec" / "8" / str(seed) / "ours", measure)
    assert len(calls) == 2
    assert few_rows.outcome(tmp_path / "trec" / "8" / "0" / "plain", fails) is None
    found = few_rows.collected(tmp_path)
    assert {(entry["seed"], entry["contestant"]) for entry in found} == {(0, "ours"), (1, "ours")}
    accuracy = few_rows.tables(found)[1]
    assert "50.0 ± 0.0 (2)" in accuracy and "plain" not in accuracy
