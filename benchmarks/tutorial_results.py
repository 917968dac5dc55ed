"""What the tutorial promises for data of one's own, beside what its commands reach here on the same data.

The tutorial's TweetEval and SICK commands, on CSV files, flag by flag; only the start is another (no BERT can be had
without the Hub: the zoo's embedded MiniLM stands in for the pruned one), and the custom teacher is a base-sized
model of another architecture, trained by the tutorial's own dense command. Then `sparseml export`, and the exported
model's accuracy and latency in the runtime.

    python benchmarks/tutorial_results.py --teacher-from FOLDER --bf16
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data import DATASETS, DataSet
from deepsparse import Pipeline
from process import DENSE_RECIPE, PAIR_RECIPE, SINGLE_RECIPE, SPARSE_MODEL
from record import keep, table
from resparse.console import run, say
from resumable import resumable_training
from sparseml.transformers import export

_TRANSFER = (
    *("--do_train", "--do_eval", "--max_seq_length", "128", "--evaluation_strategy", "epoch"),
    *("--logging_steps", "1000", "--save_steps", "1000", "--per_device_train_batch_size", "8"),
    *("--per_device_eval_batch_size", "32", "--gradient_accumulation_steps", "4"),
    *("--preprocessing_num_workers", "32", "--seed", "5114"),
)
_DENSE = (
    *("--do_train", "--do_eval", "--max_seq_length", "128", "--evaluation_strategy", "epoch"),
    *("--per_device_train_batch_size", "32", "--per_device_eval_batch_size", "32"),
    *("--preprocessing_num_workers", "6", "--save_strategy", "epoch", "--save_total_limit", "1"),
)
_EMOTION_ARGS = '{"num_epochs":12,"qat_start_epoch":7.0, "observer_epoch": 11.0}'


@dataclass(frozen=True)
class Row:
    """One command of the tutorial.

    Attributes:
        name: of its folder.
        title: in the table.
        dataset: what it trains on.
        recipe, recipe_args: as in the tutorial.
        claim: the accuracy that the tutorial states for validation, where it states one.
        teacher: the row whose model teaches.
        dense: train the base-sized model without sparsity.
    """

    name: str
    title: str
    dataset: str
    recipe: str
    recipe_args: str | None = None
    claim: float | None = None
    teacher: str | None = None
    dense: bool = False


ROWS = (
    Row("emotion", "TweetEval, from CSV, no teacher", "tweeteval_emotion", SINGLE_RECIPE, _EMOTION_ARGS),
    Row(
        "teacher",
        "TweetEval, dense teacher (MPNet base)",
        "tweeteval_emotion",
        DENSE_RECIPE,
        '{"init_lr":0.00003,"num_epochs":2}',
        dense=True,
    ),
    # The tutorial leaves the recipe's 13 epochs as they are where the teacher comes from the Hub.
    Row(
        "taught",
        "TweetEval, teacher of another architecture",
        "tweeteval_emotion",
        SINGLE_RECIPE,
        claim=0.78,
        teacher="teacher",
    ),
    Row("sick", "SICK, from CSV, no teacher", "sick", PAIR_RECIPE),
)


def command_of(row: Row, arguments: argparse.Namespace) -> list[str]:
    """The tutorial's command, with the start that can be had."""
    dataset, folder = DATASETS[row.dataset], arguments.folder.resolve()
    files = {split: str(dataset.write_csv(split, folder / "csv")) for split in ("train", "validation")}
    return [
        *("--model_name_or_path", str(arguments.teacher_from if row.dense else arguments.start)),
        *("--recipe", row.recipe),
        *(("--recipe_args", row.recipe_args) if row.recipe_args else ()),
        *(
            ("--distill_teacher", str(folder / row.teacher / "model"), "--use_teacher_tokenizer", "true")
            if row.teacher
            else ("--distill_teacher", "disable")
        ),
        *("--train_file", files["train"], "--validation_file", files["validation"]),
        *("--input_column_names", ",".join(dataset.columns), "--label_column_name", "label"),
        *(_DENSE if row.dense else _TRANSFER),
        *(("--bf16",) if arguments.bf16 else ()),
    ]


def outcome_of(row: Row, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train, or find it trained; export, and try the exported model."""
    place = arguments.folder.resolve() / row.name
    cost = resumable_training(row.title, command_of(row, arguments), place)
    report = json.loads((place / "model" / "report.json").read_text())
    outcome = {
        "name": row.name,
        "title": row.title,
        "claim": row.claim,
        "validation_accuracy": report["metrics"]["eval_accuracy"],
        "sparsity": report["totals"]["prunable_sparsity"],
        "quantized": report["totals"]["quantized_share"],
        "training_seconds": cost.seconds,
    }
    if not row.dense:
        exported = export.main(["--model_path", str(place / "model"), "--task", "text_classification"])
        outcome |= {
            "compressed_bytes": exported["export"]["size"]["compressed_bytes"],
            **tried(place / "deployment", DATASETS[row.dataset]),
        }
    return outcome


def tried(deployment: Path, dataset: DataSet) -> dict[str, Any]:
    """The exported model on the whole test split: accuracy, and the time of a text on its own."""
    pipeline = Pipeline.create("text_classification", str(deployment))
    rows = [[row[column] for column in dataset.columns] for row in dataset.rows("test")]
    truth = [row["label"] for row in dataset.rows("test")]
    predicted = pipeline.logits(rows).argmax(axis=1)
    spent = []
    for row in rows[:500]:
        started = time.perf_counter()
        pipeline([row])
        spent.append(time.perf_counter() - started)
    return {
        "test_accuracy": float((predicted == truth).mean()),
        "median_ms": 1e3 * statistics.median(spent),
        "engine": pipeline.engine.engine_type,
    }


def lines_of(outcomes: list[dict[str, Any]]) -> list[list[str]]:
    """The table's lines."""
    return [
        [
            outcome["title"],
            "–" if outcome["claim"] is None else f"{outcome['claim']:.0%}",
            f"{outcome['validation_accuracy']:.1%}",
            f"{outcome['test_accuracy']:.1%}" if "test_accuracy" in outcome else "–",
            f"{outcome['sparsity']:.1%}",
            f"{outcome['quantized']:.0%}",
            f"{outcome['compressed_bytes'] / 1e6:.1f} MB" if "compressed_bytes" in outcome else "–",
            f"{outcome['median_ms']:.1f}" if "median_ms" in outcome else "–",
            f"{outcome['training_seconds'] / 60:.0f} min",
        ]
        for outcome in outcomes
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="The tutorial's commands on real data, beside its claims.")
    parser.add_argument(
        "--start",
        default=SPARSE_MODEL,
        help="the pruned encoder: a folder or a stub; by default the embedded one",
    )
    parser.add_argument(
        "--teacher-from", type=Path, required=True, help="a folder with a base-sized encoder, MPNet for one"
    )
    parser.add_argument("--rows", nargs="+", choices=[row.name for row in ROWS], help="only these")
    parser.add_argument("--folder", type=Path, default=Path("runs/tutorial"))
    parser.add_argument("--bf16", action="store_true", help="mixed precision in every training")
    arguments = parser.parse_args()
    arguments.teacher_from = arguments.teacher_from.resolve()
    if Path(arguments.start).is_dir():
        arguments.start = str(Path(arguments.start).resolve())
    chosen = [row for row in ROWS if arguments.rows is None or row.name in arguments.rows]
    outcomes = [outcome_of(row, arguments) for row in chosen]
    header = [
        *("command of the tutorial", "its claim", "validation", "test, exported", "zeros", "int8"),
        *("compressed", "ms a text", "training"),
    ]
    lines = table(header, lines_of(outcomes))
    if len(chosen) < len(ROWS):
        say("only some of the commands: not recorded")
        print(lines)
        return
    keep(
        "tutorial_results",
        "The tutorial's commands on real data, from a pruned MiniLM",
        [lines],
        {"outcomes": outcomes},
    )


if __name__ == "__main__":
    raise SystemExit(run(main))
