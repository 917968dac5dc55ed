"""Token classification, trained dense and sparse int8, exported and run: entity F1 and speed by engine.

The rows are made up (`tagged_rows.py`). The sparse int8 model starts from the embedded encoder and is trained under the
zoo's recipe; the dense one is the same encoder before it was pruned, or with --same_start the embedded one without a
recipe. "Tags as PyTorch" compares words, not only scores. Speed is measured in turns, with ONNX Runtime beside
the native engine on the same file. Trainings that have finished in the folder are not repeated.

    python benchmarks/tokens.py --folder runs/tokens
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from interleaved import engine_contestant, measure, ratio
from process import DENSE_MODEL, SPARSE_MODEL
from record import keep, table
from resparse.console import run, say
from resparse.files import write_json
from tagged_rows import write

RECIPE = "zoo:nlp/token_classification/minilm-l6/pytorch/huggingface/default/pruned80_quant-none"
ENGINES = ("native", "onnxruntime")
SHAPES = ((1, 32), (1, 128), (16, 128))
_SHOWN = ("precision", "recall", "f1", "accuracy")


def train(name: str, model: str, arguments: argparse.Namespace) -> Path:
    """Train a model, unless that was done; returns its folder."""
    from sparseml.transformers import token_classification

    folder: Path = arguments.folder / name
    if (folder / "model" / "report.json").is_file():
        return folder
    say(f"training {name}")
    epochs = {"num_train_epochs": arguments.epochs, "learning_rate": arguments.rate}
    recipe = {
        "recipe": RECIPE,
        "recipe_args": {"num_epochs": arguments.epochs, "init_lr": arguments.rate},
        "distill_teacher": "disable",
    }
    token_classification.main(
        model_name_or_path=model,
        train_file=str(arguments.folder / "train.jsonl"),
        validation_file=str(arguments.folder / "validation.jsonl"),
        test_file=str(arguments.folder / "validation.jsonl"),
        output_dir=str(folder / "model"),
        do_train=True,
        do_eval=True,
        do_predict=True,
        max_seq_length=128,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=32,
        save_strategy="epoch",
        save_total_limit=1,
        **(recipe if name.startswith("sparse") else epochs),
    )
    return folder


def compare(folder: Path, file: Path) -> dict[str, Any]:
    """Export a trained model, and tag the validation rows with every engine; PyTorch's tags are its predictions."""
    from deepsparse import Pipeline
    from sparseml.data import DataOptions
    from sparseml.tasks import load_task
    from sparseml.tasks.token_classification import word_tags
    from sparseml.transformers import export

    export.main([str(folder / "model")])
    metrics = json.loads((folder / "model" / "report.json").read_text())["metrics"]
    said = [line.split() for line in (folder / "model" / "predictions.txt").read_text().splitlines()]
    found: dict[str, Any] = {"pytorch": {name: metrics[f"eval_{name}"] for name in _SHOWN}, "engines": {}}
    task = load_task("token_classification")
    options = DataOptions(validation_file=str(file), needs_train=False)
    words = [json.loads(line)["tokens"] for line in file.read_text().splitlines()]
    for engine in ENGINES:
        pipeline = Pipeline.create("token_classification", folder / "deployment", engine_type=engine)
        scores = task.evaluate_deployment(pipeline, options)
        tags = word_tags(pipeline, words, "tagging")
        same = [
            one == other
            for row, wanted in zip(tags, said, strict=True)
            for one, other in zip(row, wanted, strict=True)
        ]
        found["engines"][engine] = {
            **{name: scores[name] for name in _SHOWN},
            "as_pytorch": statistics.mean(same),
        }
        pipeline.close()
    return found


def race(folders: dict[str, Path], rounds: int, threads: int) -> list[dict[str, Any]]:
    """Milliseconds of a run by model, engine and shape; all contestants of a shape alternate."""
    outcomes = []
    for batch, length in SHAPES:
        contestants = {
            (name, engine): engine_contestant(
                f"{name} {engine}",
                engine,
                folder / "deployment" / "model.onnx",
                threads=threads,
                batch=batch,
                length=length,
            )
            for name, folder in folders.items()
            for engine in ENGINES
        }
        measure(list(contestants.values()), rounds)
        for (name, engine), contestant in contestants.items():
            outcomes.append(
                {
                    "model": name,
                    "engine": engine,
                    "batch": batch,
                    "length": length,
                    "milliseconds": 1e3 * statistics.median(contestant.seconds),
                    "by_dense_onnxruntime": ratio(contestants["dense", "onnxruntime"], contestant),
                }
            )
    return outcomes


def tables(answers: dict[str, Any], speed: list[dict[str, Any]], rows: int) -> list[str]:
    """What was found, as Markdown."""
    lines = []
    for name, found in answers.items():
        lines.append([name, "PyTorch", *(f"{found['pytorch'][key]:.2%}" for key in _SHOWN), ""])
        for engine, scores in found["engines"].items():
            shown = (f"{scores[key]:.2%}" for key in _SHOWN)
            lines.append([name, engine, *shown, f"{scores['as_pytorch']:.2%}"])
    times = [
        [
            f"{one['batch']} x {one['length']}",
            one["model"],
            one["engine"],
            f"{one['milliseconds']:.2f}",
            f"{one['by_dense_onnxruntime']:.2f}",
        ]
        for one in speed
    ]
    header = ["model", "engine", "precision", "recall", "F1", "accuracy", "tags as PyTorch"]
    return [
        f"{rows:,} synthetic sentences (tagged_rows.py), with names that training has not seen.",
        table(header, lines),
        table(["rows x tokens", "model", "engine", "ms", "times dense in ONNX Runtime"], times),
    ]


def main() -> None:
    """Train, export, compare and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/tokens"))
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--validation_rows", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--name", default="tokens", help="of the results")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--same_start", action="store_true", help="train the embedded encoder without a recipe"
    )
    arguments = parser.parse_args()
    files = {split: arguments.folder / f"{split}.jsonl" for split in ("train", "validation")}
    write(files["train"], arguments.rows, seed=0)
    write(files["validation"], arguments.validation_rows, seed=1)
    starts = {"dense": SPARSE_MODEL if arguments.same_start else DENSE_MODEL, "sparse int8": SPARSE_MODEL}
    folders = {name: train(name, model, arguments) for name, model in starts.items()}
    answers = {}
    for name, folder in folders.items():
        kept = folder / "answers.json"
        if not kept.is_file():
            write_json(kept, compare(folder, files["validation"]))
        answers[name] = json.loads(kept.read_text())
    speed = race(folders, arguments.rounds, arguments.threads)
    keep(
        arguments.name,
        "Token classification: tags and speed",
        tables(answers, speed, arguments.validation_rows),
        {"answers": answers, "speed": speed},
    )


if __name__ == "__main__":
    raise SystemExit(run(main))
