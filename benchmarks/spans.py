"""Question answering, trained dense and sparse int8, exported and run: exact match, F1 and speed by engine.

The rows are made up (`span_rows.py`). "Answers as PyTorch" compares answers, not only scores. See `token_tasks.py`.

    python benchmarks/spans.py --folder runs/spans
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from resparse.console import run
from span_rows import write
from token_tasks import TokenTaskBenchmark


class Spans(TokenTaskBenchmark):
    """See `TokenTaskBenchmark`."""

    task = "question_answering"
    noun = "answers"
    ending = ".json"
    shapes = ((1, 128), (1, 384))
    metrics: ClassVar[Mapping[str, str]] = {
        "exact": "exact",
        "f1": "F1",
        "HasAns_f1": "HasAns F1",
        "NoAns_f1": "NoAns F1",
    }
    number = ".1f"
    name = "spans"
    validation_rows = 300

    def write(self, path: Path, rows: int, seed: int) -> None:
        write(path, rows, seed=seed)

    def described(self, rows: int) -> str:
        return f"{rows:,} synthetic questions (span_rows.py), a third without an answer."

    def settings(self) -> Mapping[str, Any]:
        return {"max_seq_length": 128, "doc_stride": 32}

    def pytorch_answers(self, folder: Path) -> Sequence[Any]:
        """The answers in the order of the questions."""
        said = json.loads((folder / "eval_predictions.json").read_text(encoding="utf-8"))
        return list(said.values())

    def deployed_answers(self, pipeline: Any, file: Path) -> Sequence[Any]:
        from sparseml.data import DataOptions
        from sparseml.tasks import load_task

        task = load_task("question_answering")
        data = task.load_data(DataOptions(validation_file=str(file), needs_train=False), task.arguments())
        pairs = task.texts(data, data.validation)
        return [answer.answer for answer in pipeline.predict(pairs)]


if __name__ == "__main__":
    raise SystemExit(run(Spans().main))
