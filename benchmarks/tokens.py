"""Token classification, trained dense and sparse int8, exported and run: entity F1 and speed by engine.

The rows are made up (`tagged_rows.py`). "Tags as PyTorch" compares words, not only scores. See `token_tasks.py`.

    python benchmarks/tokens.py --folder runs/tokens
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from resparse.console import run
from tagged_rows import write
from token_tasks import TokenTaskBenchmark


class Tokens(TokenTaskBenchmark):
    """See `TokenTaskBenchmark`."""

    task = "token_classification"
    noun = "tags"
    ending = ".jsonl"
    shapes = ((1, 32), (1, 128), (16, 128))
    metrics: ClassVar[Mapping[str, str]] = {
        "precision": "precision",
        "recall": "recall",
        "f1": "F1",
        "accuracy": "accuracy",
    }
    number = ".2%"
    name = "tokens"

    def write(self, path: Path, rows: int, seed: int) -> None:
        write(path, rows, seed=seed)

    def described(self, rows: int) -> str:
        return f"{rows:,} synthetic sentences (tagged_rows.py), with names that training has not seen."

    def settings(self) -> Mapping[str, Any]:
        return {"max_seq_length": 128}

    def pytorch_answers(self, folder: Path) -> Sequence[Any]:
        """The tag of each word of all rows."""
        return (folder / "predictions.txt").read_text(encoding="utf-8").split()

    def deployed_answers(self, pipeline: Any, file: Path) -> Sequence[Any]:
        from sparseml.tasks.token_classification import word_tags

        rows = [json.loads(line)["tokens"] for line in file.read_text(encoding="utf-8").splitlines()]
        return [tag for row in word_tags(pipeline, rows, "tagging") for tag in row]


if __name__ == "__main__":
    raise SystemExit(run(Tokens().main))
