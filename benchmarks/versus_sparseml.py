"""The whole TweetEval run: ours, and SparseML 1.8's in an environment of its own (README.md makes it).

Both commands get the same pruned MiniLM, recipe file, CSV files and arguments, and run one after the other,
alternating. They differ in what they do by default: SparseML pads every text to the maximum length and leaves
the attention products of a sequence classifier in floating point; ours pads to the longest of similar texts
and quantizes them too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from data import DATASETS
from process import (
    SINGLE_RECIPE,
    SPARSE_MODEL,
    TUTORIAL_ARGUMENTS,
    Cost,
    RunFailedError,
    flags,
    our_command,
    timed,
)
from record import keep, table
from resparse.console import run, say

DRIVER = Path(__file__).parent / "opponents" / "sparseml_driver.py"
OPPONENT_PACKAGES = ("sparseml", "torch", "transformers", "datasets")
OURS, THEIRS = "resparse", "SparseML 1.8.0"


@dataclass(frozen=True)
class Run:
    """One run of one contender; the accuracy is that of its own last evaluation, on the validation split."""

    contender: str
    cost: Cost
    validation_accuracy: float


def shared_arguments(folder: Path, epochs: int, rows: int | None) -> list[str]:
    """The tutorial's arguments, which both commands get; model, recipe and data are local files."""
    from sparsezoo import Model

    dataset = DATASETS["tweeteval_emotion"]
    halfway = epochs / 2
    variables = {"num_epochs": epochs, "qat_start_epoch": halfway, "observer_epoch": halfway + halfway / 2}
    arguments = {
        "model_name_or_path": Model(SPARSE_MODEL).training.path,
        "recipe": Model(SINGLE_RECIPE).recipes.default.path,
        "recipe_args": json.dumps(variables),
        "distill_teacher": "disable",
        "train_file": dataset.write_csv("train", folder / "data"),
        "validation_file": dataset.write_csv("validation", folder / "data"),
        "input_column_names": ",".join(dataset.columns),
        "label_column_name": dataset.label,
        **TUTORIAL_ARGUMENTS,
        "seed": 5114,
    }
    if rows is not None:
        arguments |= {"max_train_samples": rows, "max_eval_samples": rows}
    return [*flags(arguments), "--do_train", "--do_eval", "--overwrite_output_dir"]


def measure(contender: str, command: list[str], folder: Path) -> Run:
    """Run a contender once, into `folder`."""
    say(f"{contender} -> {folder}")
    output = folder / "model"
    # A PYTHONPATH that points at our sources would give the opponent our package instead of its own.
    environment = {"PYTHONPATH": ""} if contender == THEIRS else {}
    cost = timed([*command, "--output_dir", str(output)], folder / "log.txt", environment)
    metrics = json.loads((output / "eval_results.json").read_text())
    say(f"  {cost.seconds:.0f} s")
    return Run(contender, cost, metrics["eval_accuracy"])


def versions_of(python: str) -> dict[str, str]:
    """The versions in the opponent's environment."""
    program = (
        "import json; from importlib.metadata import version; "
        f"print(json.dumps({{name: version(name) for name in {OPPONENT_PACKAGES}}}))"
    )
    try:
        done = subprocess.run(
            [python, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": ""},
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise RunFailedError(
            f"{python} is no Python with sparseml in it; benchmarks/README.md says how to make one."
        ) from error
    found: dict[str, str] = json.loads(done.stdout)
    return found


def summary(runs: list[Run]) -> str:
    """The Markdown table: medians of each contender, and ours as a share of theirs."""
    groups = {name: [entry for entry in runs if entry.contender == name] for name in (OURS, THEIRS)}
    medians = {
        name: [
            statistics.median(entry.cost.seconds for entry in group),
            statistics.median(entry.cost.peak_mib for entry in group),
        ]
        for name, group in groups.items()
    }
    rows = [
        (
            name,
            str(len(group)),
            f"{medians[name][0]:.0f} s",
            f"{medians[name][1]:.0f} MiB",
            f"{statistics.mean(entry.validation_accuracy for entry in group):.1%}",
        )
        for name, group in groups.items()
    ]
    seconds, memory = (ours / theirs for ours, theirs in zip(medians[OURS], medians[THEIRS], strict=True))
    rows.append(("ours / theirs", "", f"{seconds:.2f} ×", f"{memory:.2f} ×", ""))
    return table(("", "runs", "wall time", "peak memory", "validation accuracy"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Wall time of the whole TweetEval run, ours and SparseML's.")
    parser.add_argument(
        "--sparseml-python", type=Path, required=True, help="Python of the opponent's environment"
    )
    parser.add_argument("--runs", type=int, default=1, help="of each contender, alternating (default 1)")
    parser.add_argument("--epochs", type=int, default=2, help="quantized from half of them on (default 2)")
    parser.add_argument(
        "--rows", type=int, help="only so many rows of each split, to try this out; not recorded"
    )
    parser.add_argument("--folder", type=Path, default=Path("runs/versus_sparseml"))
    arguments = parser.parse_args()

    # Not resolved: a virtual environment's Python is a link whose place decides what it imports.
    opponent = str(arguments.sparseml_python.absolute())
    versions = versions_of(opponent)
    folder = arguments.folder.resolve()
    shared = shared_arguments(folder, arguments.epochs, arguments.rows)
    contenders = {OURS: [*our_command(), *shared], THEIRS: [opponent, str(DRIVER), *shared]}
    runs = [
        measure(name, command, folder / f"{name.replace(' ', '-').lower()}-{turn}")
        for turn in range(arguments.runs)
        for name, command in contenders.items()
    ]
    text = summary(runs)
    if arguments.rows is not None:
        print(text)
        return
    keep(
        "versus_sparseml",
        f"TweetEval-emotion, {arguments.epochs} epochs, quantized from half of them on",
        ["The opponent: " + ", ".join(f"{name} {found}" for name, found in versions.items()) + ".", text],
        {"opponent_versions": versions, "runs": [asdict(entry) for entry in runs]},
    )


if __name__ == "__main__":
    raise SystemExit(run(main))
