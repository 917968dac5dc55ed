"""Is the deployed model as good as the trained one? Whole test splits, through PyTorch and through every engine.

The models are those of `accuracy.py --keep`; each is exported anew, so that the export's own checks run too.

    python benchmarks/deployed_accuracy.py --folder runs/accuracy
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from accuracy_runs import trained_model
from data import DATASETS, TUTORIAL_SETS, DataSet
from deepsparse import Pipeline
from record import keep, table
from resparse.console import run, say
from resparse.progress import track
from sparseml.transformers import export

ENGINES = ("native", "onnxruntime", "openvino")
BAR = 0.2
_BATCH = 32
_LENGTH = 128


def pytorch(model: Path, dataset: DataSet, rows: list[tuple[str, ...]]) -> Any:
    """Logits of the trained model, fake-quantized as it was trained, in float32."""
    import torch

    from sparseml.session.models import load_tokenizer, load_trained, resolve

    trained = load_trained(str(model)).eval()
    tokenizer = load_tokenizer(resolve(str(model)))
    logits = []
    for start in track(range(0, len(rows), _BATCH), f"{dataset.name}: PyTorch"):
        texts = map(list, zip(*rows[start : start + _BATCH], strict=True))
        batch = tokenizer(*texts, truncation=True, max_length=_LENGTH, padding=True, return_tensors="pt")
        with torch.no_grad():
            logits.append(trained(**batch).logits.numpy())
    return np.concatenate(logits)


def compared(task: str, model: Path) -> dict[str, Any]:
    """Accuracy on the test split by engine, and how many labels are PyTorch's."""
    export.main([str(model), "--task", "text_classification"])
    dataset = DATASETS[task]
    test = dataset.splits()["test"]
    rows = [tuple(row[column] for column in dataset.columns) for row in test]
    truth = np.array([row[dataset.label] for row in test])
    trained = pytorch(model, dataset, rows).argmax(axis=1)
    outcome: dict[str, Any] = {
        "task": task,
        "rows": len(rows),
        "pytorch": float((trained == truth).mean()),
        "engines": {},
    }
    for engine in ENGINES:
        say(f"{task}: {engine}")
        classify = Pipeline.create(
            "text_classification", model.parent / "deployment", engine_type=engine, sequence_length=_LENGTH
        )
        predicted = classify.logits(list(map(list, rows))).argmax(axis=1)
        outcome["engines"][engine] = {
            "accuracy": float((predicted == truth).mean()),
            "labels_as_pytorch": float((predicted == trained).mean()),
        }
    return outcome


def lines_of(outcomes: list[dict[str, Any]]) -> list[list[str]]:
    """The table's lines."""
    return [
        [
            f"{outcome['task']} ({outcome['rows']:,} rows)",
            engine,
            f"{outcome['pytorch']:.2%}",
            f"{found['accuracy']:.2%}",
            f"{100 * (found['accuracy'] - outcome['pytorch']):+.2f}",
            f"{found['labels_as_pytorch']:.2%}",
        ]
        for outcome in outcomes
        for engine, found in outcome["engines"].items()
    ]


def main() -> None:
    names = [name for name, dataset in DATASETS.items() if dataset.metrics == ("accuracy",)]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/accuracy"), help="of accuracy.py --keep")
    parser.add_argument("--sets", nargs="+", choices=names, default=TUTORIAL_SETS)
    parser.add_argument("--start", default="pruned80", help="whose trained model")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    outcomes = [
        compared(name, trained_model(arguments.folder, name, arguments.start, arguments.seed))
        for name in arguments.sets
    ]
    header = ["test split", "engine", "PyTorch", "deployed", f"points (bar: {BAR})", "labels as PyTorch"]
    keep(
        "deployed_accuracy",
        "Accuracy of deployed models on whole test splits",
        [table(header, lines_of(outcomes))],
        {"outcomes": outcomes},
    )


if __name__ == "__main__":
    raise SystemExit(run(main))
