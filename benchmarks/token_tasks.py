"""What the benchmarks of tasks that read every token have in common: two trainings, their exports, scores and speed.

The sparse int8 model starts from the embedded encoder and is trained under the zoo's recipe; the dense one is the same
encoder before it was pruned, or with --same_start the embedded one without a recipe. Speed is measured in turns, with
ONNX Runtime beside the native engine on the same file. Trainings that have finished in the folder are not repeated.
"""

from __future__ import annotations

import argparse
import json
import statistics
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from interleaved import engine_contestant, measure, ratio
from process import DENSE_MODEL, SPARSE_MODEL
from record import keep, table
from resparse.console import say
from resparse.files import write_json

ENGINES = ("native", "onnxruntime")


class TokenTaskBenchmark(ABC):
    """A task's part of its benchmark.

    Attributes:
        task: its name.
        noun: what a model of it answers, in the tables: "tags", ...
        ending: of the files of rows.
        shapes: rows and tokens of the runs that are timed.
        metrics: column headings by the names of metrics.
        number: the format of a metric's value.
        name: of the results, and of the folder.
        validation_rows: how many are made by default.
    """

    task: ClassVar[str]
    noun: ClassVar[str]
    ending: ClassVar[str]
    shapes: ClassVar[Sequence[tuple[int, int]]]
    metrics: ClassVar[Mapping[str, str]]
    number: ClassVar[str]
    name: ClassVar[str]
    validation_rows: ClassVar[int] = 400

    @abstractmethod
    def write(self, path: Path, rows: int, seed: int) -> None:
        """Write rows that are made up."""

    @abstractmethod
    def described(self, rows: int) -> str:
        """What the validation rows are, in a sentence."""

    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """Arguments of the trainings beside what all have."""

    @abstractmethod
    def pytorch_answers(self, folder: Path) -> Sequence[Any]:
        """What the trained model says of the validation rows, in their order."""

    @abstractmethod
    def deployed_answers(self, pipeline: Any, file: Path) -> Sequence[Any]:
        """What a deployed model says of them."""

    def train(self, name: str, model: str, arguments: argparse.Namespace) -> Path:
        """Train a model, unless that was done; returns its folder."""
        from sparseml.tasks import load_task
        from sparseml.training import run

        folder: Path = arguments.folder / name
        if (folder / "model" / "report.json").is_file():
            return folder
        say(f"training {name}")
        epochs = {"num_train_epochs": arguments.epochs, "learning_rate": arguments.rate}
        stub = f"zoo:nlp/{self.task}/minilm-l6/pytorch/huggingface/default/pruned80_quant-none"
        recipe = {
            "recipe": stub,
            "recipe_args": {"num_epochs": arguments.epochs, "init_lr": arguments.rate},
            "distill_teacher": "disable",
        }
        validation = str(_file(self, arguments, "validation"))
        run.main(
            load_task(self.task),
            model_name_or_path=model,
            train_file=str(_file(self, arguments, "train")),
            validation_file=validation,
            test_file=validation,
            output_dir=str(folder / "model"),
            do_train=True,
            do_eval=True,
            do_predict=True,
            per_device_train_batch_size=16,
            per_device_eval_batch_size=32,
            save_strategy="epoch",
            save_total_limit=1,
            **self.settings(),
            **(recipe if name.startswith("sparse") else epochs),
        )
        return folder

    def compare(self, folder: Path, file: Path) -> dict[str, Any]:
        """Export a trained model, and ask every engine what the trained model was asked."""
        from deepsparse import Pipeline
        from sparseml.data import DataOptions
        from sparseml.tasks import load_task
        from sparseml.transformers import export

        export.main([str(folder / "model")])
        metrics = json.loads((folder / "model" / "report.json").read_text())["metrics"]
        wanted = self.pytorch_answers(folder / "model")
        found: dict[str, Any] = {
            "pytorch": {name: metrics[f"eval_{name}"] for name in self.metrics},
            "engines": {},
        }
        options = DataOptions(validation_file=str(file), needs_train=False)
        for engine in ENGINES:
            pipeline = Pipeline.create(self.task, folder / "deployment", engine_type=engine)
            scores = load_task(self.task).evaluate_deployment(pipeline, options)
            said = self.deployed_answers(pipeline, file)
            same = [one == other for one, other in zip(said, wanted, strict=True)]
            found["engines"][engine] = {
                **{name: scores[name] for name in self.metrics},
                "as_pytorch": statistics.mean(same),
            }
            pipeline.close()
        return found

    def race(self, folders: Mapping[str, Path], rounds: int, threads: int) -> list[dict[str, Any]]:
        """Milliseconds of a run by model, engine and shape; all contestants of a shape alternate."""
        outcomes = []
        for batch, length in self.shapes:
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

    def tables(self, answers: Mapping[str, Any], speed: Sequence[Mapping[str, Any]], rows: int) -> list[str]:
        """What was found, as Markdown."""
        lines = []
        for name, found in answers.items():
            lines.append(
                [name, "PyTorch", *(format(found["pytorch"][key], self.number) for key in self.metrics), ""]
            )
            for engine, scores in found["engines"].items():
                shown = (format(scores[key], self.number) for key in self.metrics)
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
        return [
            self.described(rows),
            table(["model", "engine", *self.metrics.values(), f"{self.noun} as PyTorch"], lines),
            table(["rows x tokens", "model", "engine", "ms", "times dense in ONNX Runtime"], times),
        ]

    def main(self) -> None:
        """Train, export, compare and measure."""
        parser = argparse.ArgumentParser()
        add = parser.add_argument
        add("--folder", type=Path, default=Path("runs") / self.name)
        add("--rows", type=int, default=1000)
        add("--validation_rows", type=int, default=self.validation_rows)
        add("--epochs", type=int, default=5)
        add("--rate", type=float, default=3e-4)
        add("--rounds", type=int, default=15)
        add("--name", default=self.name, help="of the results")
        add("--threads", type=int, default=2)
        add("--same_start", action="store_true", help="train the embedded encoder without a recipe")
        arguments = parser.parse_args()
        self.write(_file(self, arguments, "train"), arguments.rows, seed=0)
        self.write(_file(self, arguments, "validation"), arguments.validation_rows, seed=1)
        starts = {"dense": SPARSE_MODEL if arguments.same_start else DENSE_MODEL, "sparse int8": SPARSE_MODEL}
        folders = {name: self.train(name, model, arguments) for name, model in starts.items()}
        answers = {}
        for name, folder in folders.items():
            kept = folder / "answers.json"
            if not kept.is_file():
                write_json(kept, self.compare(folder, _file(self, arguments, "validation")))
            answers[name] = json.loads(kept.read_text())
        speed = self.race(folders, arguments.rounds, arguments.threads)
        title = f"{self.task.replace('_', ' ').capitalize()}: {self.noun} and speed"
        keep(
            arguments.name,
            title,
            self.tables(answers, speed, arguments.validation_rows),
            {"answers": answers, "speed": speed},
        )


def _file(benchmark: TokenTaskBenchmark, arguments: argparse.Namespace, split: str) -> Path:
    path: Path = arguments.folder / f"{split}{benchmark.ending}"
    return path
