"""From text to label, tokenization included: whole test splits through our engine, ONNX Runtime's and DeepSparse 1.8.

DeepSparse runs as its users run it, every text padded to 128 tokens, and with buckets of lengths made for it here.
Every contestant runs at several sizes of batch, and counts at its best. Ours also runs the model with its zeros filled.

    python benchmarks/engine_texts.py --folder runs/accuracy --deepsparse-python OPPONENT/bin/python
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accuracy_runs import trained_model
from data import DATASETS, TUTORIAL_SETS
from exported_zeros import filled
from interleaved import Contestant, add_python, measure, start
from processors import keep_here
from record import table
from resparse.console import run, say
from sparseml.transformers import export

BUCKETS = (16, 32, 64, 128)
# Our throughput by theirs, at least.
BARS = {"deepsparse, padded to 128": 2.5, "deepsparse, in buckets": 1.2, "onnxruntime": 4.0}


def contestants_of(task: str, place: Path, arguments: argparse.Namespace) -> dict[str, list[Contestant]]:
    """All contestants, each at its sizes of batch."""
    dataset = DATASETS[task]
    rows = [[row[column] for column in dataset.columns] for row in dataset.rows("test")]
    texts = place / "texts.json"
    texts.write_text(json.dumps([row if len(row) > 1 else row[0] for row in rows][: arguments.rows]))
    threads = ("--threads", str(arguments.threads))

    def contestant(name: str, words: Sequence[str], python: Path | None = None) -> Contestant:
        say(f"{task}: {name}")
        log = place / f"{name.replace(' ', '_').replace(',', '')}.log"
        environment = {"DEEPSPARSE_CACHE": str(place / "packed")}
        return start(
            name,
            "text_worker.py",
            [*words, *threads],
            log,
            python=python,
            threads=arguments.threads,
            environment=environment if python is None else None,
        )

    portable, for_deepsparse = str(place / "deployment"), str(place / "deployment-deepsparse")
    contestants = {
        name: [contestant(name, ["ours", deployment, str(texts), "--engine", "native"])]
        for name, deployment in (("native", portable), ("native dense", str(dense_deployment(place))))
    }
    contestants["onnxruntime"] = [
        contestant(
            f"onnxruntime, batch {size or 'by tokens'}",
            [
                "ours",
                portable,
                str(texts),
                "--engine",
                "onnxruntime",
                *(("--batch", str(size)) if size else ()),
            ],
        )
        for size in (None, 1, 16)
    ]
    if arguments.deepsparse_python is not None:
        for name, lengths in (("deepsparse, padded to 128", (128,)), ("deepsparse, in buckets", BUCKETS)):
            contestants[name] = [
                contestant(
                    f"{name}, batch {size}",
                    [
                        *("deepsparse", for_deepsparse, str(texts), "--batch", str(size)),
                        *("--lengths", *map(str, lengths)),
                    ],
                    arguments.deepsparse_python,
                )
                for size in (1, 16)
            ]
    return contestants


def dense_deployment(place: Path) -> Path:
    """The deployment with the zeros of its model filled; its labels mean nothing."""
    folder = place / "deployment-dense"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(place / "deployment", folder)
    filled(place / "deployment" / "model.onnx", folder / "model.onnx")
    return folder


def measured(task: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """All contestants on one test split."""
    model = trained_model(arguments.folder, task, arguments.start, arguments.seed)
    place, words = model.parent, [str(model), "--task", "text_classification"]
    export.main(words)
    export.main([*words, "--runtime", "deepsparse", "--deployment_directory_name", "deployment-deepsparse"])
    contestants = contestants_of(task, place, arguments)
    measure([contestant for group in contestants.values() for contestant in group], arguments.rounds)
    (ours,) = contestants["native"]
    count = len(ours.facts["labels"])
    best = {
        name: min(group, key=lambda contestant: statistics.median(contestant.seconds))
        for name, group in contestants.items()
    }
    return {
        "task": task,
        "rows": count,
        "contestants": {
            name: {
                "contestant": contestant.name,
                "items_per_second": count / statistics.median(contestant.seconds),
                "ours_by_theirs": statistics.median(
                    theirs / mine for theirs, mine in zip(contestant.seconds, ours.seconds, strict=True)
                ),
                "labels_as_ours": None
                if name == "native dense"
                else sum(map(str.__eq__, contestant.facts["labels"], ours.facts["labels"])) / count,
            }
            for name, contestant in best.items()
        },
    }


def lines_of(outcomes: list[dict[str, Any]]) -> list[list[str]]:
    """The table's lines."""
    return [
        [
            f"{outcome['task']} ({outcome['rows']:,} rows)",
            found["contestant"],
            f"{found['items_per_second']:.0f}",
            f"{found['ours_by_theirs']:.2f}",
            f"≥ {BARS[name]}" if name in BARS else "",
            "–" if found["labels_as_ours"] is None else f"{found['labels_as_ours']:.1%}",
        ]
        for outcome in outcomes
        for name, found in outcome["contestants"].items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tasks", nargs="+", choices=TUTORIAL_SETS, default=TUTORIAL_SETS)
    parser.add_argument("--folder", type=Path, default=Path("runs/accuracy"), help="of accuracy.py --keep")
    parser.add_argument("--start", default="pruned80", help="whose trained model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, help="only so many of each split")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    add_python(parser, "--deepsparse-python", "deepsparse[transformers] 1.8.0")
    arguments = parser.parse_args()
    outcomes = [measured(task, arguments) for task in arguments.tasks]
    header = ["test split", "contestant at its best", "items/s", "native by it", "wanted", "labels as native"]
    keep_here(
        "engine_texts",
        f"From text to label: {arguments.threads} threads, tokenization included",
        [table(header, lines_of(outcomes))],
        {"outcomes": outcomes},
    )


if __name__ == "__main__":
    raise SystemExit(run(main))
