"""What sparsity and int8 cost in accuracy: MiniLM, dense and at 80 % in int8, by one program, on test splits.

Every run is the tutorial's command with the tutorial's recipe, scaled to fewer epochs. Finished runs are kept
in the output folder and not repeated, so this may be stopped and started again at will.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from data import DATASETS, DataSet
from process import (
    DENSE_MODEL,
    DENSE_RECIPE,
    PAIR_RECIPE,
    SINGLE_RECIPE,
    SPARSE_MODEL,
    TUTORIAL_ARGUMENTS,
    RunFailedError,
    flags,
)
from record import RESULTS, keep, table
from resparse.console import run
from resumable import resumable_training

STARTS = {"dense": DENSE_MODEL, "one-shot": SPARSE_MODEL}

TASKS = ("tweeteval_emotion", "sick")


@dataclass(frozen=True)
class Configuration:
    """One column of the table.

    Attributes:
        name: of its folder; `title` is what the table calls it.
        start: the dense model (trained with the dense recipe); the pruned one as the zoo gives it, or as
            upstream.py healed it (both with the tutorial's transfer recipe).
        variables: the recipe's variables that are set by --recipe_args.
        teacher: the configuration whose trained model teaches this one, with the same seed.
    """

    name: str
    title: str
    start: Literal["dense", "one-shot", "healed"]
    variables: Mapping[str, float]
    teacher: str | None = None


# The learning rate is the tutorial's for one sentence; the epochs are its 13 (8 of them before int8), scaled.
QUANTIZED = {"num_epochs": 8, "qat_start_epoch": 5.0, "observer_epoch": 7.0, "init_lr": 1.5e-4}

CONFIGURATIONS = (
    Configuration("dense", "dense", "dense", {"num_epochs": 4, "init_lr": 1e-4}),
    Configuration("sparse_int8", "80 % int8", "healed", QUANTIZED, teacher="dense"),
    Configuration("one_shot_int8", "80 % int8, one-shot", "one-shot", QUANTIZED, teacher="dense"),
)


@dataclass(frozen=True)
class Outcome:
    """One finished run.

    Attributes:
        test_accuracy: share of the test rows.
        sparsity: share of zeros among the weights of Linear layers.
        quantized: share of the weights of Linear and Embedding layers that are int8.
        compressed_bytes: all weights as they would be deployed, deflated.
        seconds, peak_mib: of the whole process.
    """

    task: str
    configuration: str
    seed: int
    test_accuracy: float
    sparsity: float
    quantized: float
    compressed_bytes: int
    seconds: float
    peak_mib: float


def arguments_of(task: DataSet, configuration: Configuration, seed: int, root: Path) -> list[str]:
    """The tutorial's command line for one run, without the command itself and its output folder."""
    transfer = SINGLE_RECIPE if len(task.columns) == 1 else PAIR_RECIPE
    arguments: dict[str, Any] = {
        "model_name_or_path": STARTS.get(configuration.start, str(root / "upstream")),
        "recipe": DENSE_RECIPE if configuration.start == "dense" else transfer,
        "recipe_args": json.dumps(configuration.variables),
        "distill_teacher": "disable",
        "train_file": task.file("train"),
        "validation_file": task.file("validation"),
        "test_file": task.file("test"),
        "input_column_names": ",".join(task.columns),
        "label_column_name": task.label,
        **TUTORIAL_ARGUMENTS,
        "seed": seed,
    }
    if configuration.teacher is not None:
        arguments["distill_teacher"] = run_folder(root, task.name, configuration.teacher, seed) / "model"
    return [*flags(arguments), "--do_train", "--do_eval", "--do_predict"]


def run_folder(root: Path, task: str, configuration: str, seed: int) -> Path:
    """The folder of one run: its `model`, its log and, once finished, its `cost.json`."""
    return root / task / f"{configuration}-{seed}"


def outcome_of(
    task: DataSet, configuration: Configuration, seed: int, root: Path, extra: list[str]
) -> Outcome:
    """The outcome of a run: read if the same command has finished before, else run."""
    folder = run_folder(root, task.name, configuration.name, seed)
    command = [*arguments_of(task, configuration, seed, root), *extra]
    cost = resumable_training(f"{task.name}: {configuration.title}, seed {seed}", command, folder)
    return Outcome(
        task=task.name,
        configuration=configuration.name,
        seed=seed,
        seconds=cost.seconds,
        peak_mib=cost.peak_mib,
        **reported(folder / "model"),
    )


def reported(model: Path) -> dict[str, Any]:
    """The numbers of the run's own report, under the names of `Outcome`."""
    report = json.loads((model / "report.json").read_text())
    totals = report["totals"]
    return {
        "test_accuracy": report["metrics"]["predict_accuracy"],
        "sparsity": totals["prunable_sparsity"],
        "quantized": totals["quantized_share"],
        "compressed_bytes": totals["compressed_bytes"],
    }


def accuracy_table(outcomes: list[Outcome], baseline: Mapping[str, float]) -> str:
    """One line a data set: TF-IDF, every configuration, with its distance to dense in points."""
    header = ["data set", "TF-IDF + LR"]
    for configuration in CONFIGURATIONS:
        header += (
            [configuration.title] if configuration.name == "dense" else [configuration.title, "to dense"]
        )
    rows = []
    for task in dict.fromkeys(outcome.task for outcome in outcomes):
        row = [task, f"{baseline[task]:.1%}" if task in baseline else "–"]
        dense = _accuracies(outcomes, task, "dense")
        for configuration in CONFIGURATIONS:
            accuracies = _accuracies(outcomes, task, configuration.name)
            row.append(_spread(accuracies))
            if configuration.name != "dense":
                both = accuracies and dense
                row.append(
                    f"{100 * (statistics.mean(accuracies) - statistics.mean(dense)):+.1f}" if both else "–"
                )
        rows.append(row)
    return table(header, rows)


def cost_table(outcomes: list[Outcome]) -> str:
    """One line a run: its results, and its cost."""
    rows = [
        (
            f"{outcome.task}, {outcome.configuration}, seed {outcome.seed}",
            f"{outcome.test_accuracy:.1%}",
            f"{outcome.sparsity:.1%}",
            f"{outcome.quantized:.1%}",
            f"{outcome.compressed_bytes / 1e6:.1f} MB",
            f"{outcome.seconds:.0f} s",
            f"{outcome.peak_mib:.0f} MiB",
        )
        for outcome in outcomes
    ]
    header = ("run", "test accuracy", "sparsity", "int8", "compressed", "wall time", "peak memory")
    return table(header, rows)


def _accuracies(outcomes: list[Outcome], task: str, configuration: str) -> list[float]:
    return [
        outcome.test_accuracy
        for outcome in outcomes
        if (outcome.task, outcome.configuration) == (task, configuration)
    ]


def _spread(accuracies: list[float]) -> str:
    if not accuracies:
        return "–"
    mean = f"{statistics.mean(accuracies):.1%}"
    return mean if len(accuracies) == 1 else f"{mean} ± {100 * statistics.stdev(accuracies):.1f}"


def _baseline() -> dict[str, float]:
    """What baseline_tfidf.py has recorded, by data set; empty where it has not run."""
    path = RESULTS / "baseline_tfidf.json"
    if not path.is_file():
        return {}
    return {entry["dataset"]: entry["test_accuracy"] for entry in json.loads(path.read_text())["outcomes"]}


def main() -> None:
    names = [configuration.name for configuration in CONFIGURATIONS]
    parser = argparse.ArgumentParser(description="Test accuracy of dense and of sparse int8 MiniLM.")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--configurations", nargs="+", choices=names, default=names)
    parser.add_argument("--seeds", nargs="+", type=int, default=[5114])
    parser.add_argument("--folder", type=Path, default=Path("runs/accuracy"))
    parser.add_argument("--bf16", action="store_true", help="mixed precision in every run")
    parser.add_argument(
        "--rows", type=int, help="only so many rows of each split, to try this out; not recorded"
    )
    arguments = parser.parse_args()

    extra = ["--bf16"] if arguments.bf16 else []
    if arguments.rows is not None:
        for split in ("train", "eval", "predict"):
            extra += [f"--max_{split}_samples", str(arguments.rows)]
    chosen = set(arguments.configurations)
    if not (arguments.folder / "upstream").is_dir():
        raise RunFailedError(
            f"{arguments.folder} has no upstream/, the pruned start: run "
            f"`benchmarks/upstream.py --folder {arguments.folder}/upstream` first."
        )
    # Teachers are trained, too.
    chosen |= {entry.teacher for entry in CONFIGURATIONS if entry.name in chosen and entry.teacher}
    outcomes = [
        outcome_of(DATASETS[task], configuration, seed, arguments.folder.resolve(), extra)
        for task in arguments.tasks
        for seed in arguments.seeds
        for configuration in CONFIGURATIONS
        if configuration.name in chosen
    ]
    tables = [accuracy_table(outcomes, _baseline()), cost_table(outcomes)]
    if arguments.rows is not None:
        print("\n\n".join(tables))
        return
    keep(
        "accuracy",
        "Test accuracy: MiniLM, dense and at 80 % sparsity in int8",
        tables,
        {
            "configurations": [asdict(configuration) for configuration in CONFIGURATIONS],
            "outcomes": [asdict(outcome) for outcome in outcomes],
        },
    )


if __name__ == "__main__":
    raise SystemExit(run(main))
