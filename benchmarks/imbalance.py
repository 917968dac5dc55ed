"""What are weights of classes and the focal loss worth where some classes are rare, beside the plain loss?

Each is a training of the same rows from the embedded start, pruned and in int8, differing in flags alone; scores are
of the trained int8 model on the whole test split. A run that was stopped goes on with the trainings that are missing.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data import DATASETS
from record import keep, table
from resparse.console import run
from small_trainings import EMOTION, Small, trained

SETS = {
    "tweeteval_emotion": EMOTION,
    "trec": Small("trec", {"train": 800, "validation": 300}, epochs=5),
}
VARIANTS: Mapping[str, Sequence[str]] = {
    "plain": (),
    "balanced": ("--class_weights", "balanced"),
    "focal, gamma 2": ("--focal_gamma", "2"),
    "balanced, focal": ("--class_weights", "balanced", "--focal_gamma", "2"),
}
METRICS = ("accuracy", "f1_macro", "balanced_accuracy")


def scores(model: Path, rarest: str) -> dict[str, float]:
    """Metrics of the test rows, and the recall of the rarest class."""
    report = json.loads((model / "report.json").read_text())
    row = report["evaluation"]["test"]["confusion"][rarest]
    return {
        **{name: report["metrics"][f"predict_{name}"] for name in METRICS},
        "rarest": row.get(rarest, 0) / sum(row.values()),
        "ece": report["evaluation"]["test"]["calibration"].get("before", {"ece": 0})["ece"],
    }


def main() -> None:
    """Train what is missing, and keep the table of what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=["tweeteval_emotion"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--variants", nargs="+", help="only these, as folders are called; records nothing")
    parser.add_argument("--epochs", type=int, help="of each training; records nothing")
    parser.add_argument("--folder", type=Path, default=Path("runs/small"), help="for rows and models")
    options = parser.parse_args()
    blocks, outcomes = [], {}
    for name in options.sets:
        small, folder = SETS[name], options.folder / name
        rows = small.write(folder / "rows")["train"].read_text(encoding="utf-8").splitlines()
        counts = Counter(json.loads(line)["label"] for line in rows)
        (common, most), *_, (rarest, least) = counts.most_common()
        found: dict[str, list[dict[str, Any]]] = {variant: [] for variant in VARIANTS}
        for seed in options.seeds:
            for variant, flags in VARIANTS.items():
                called = variant.replace(", ", "-").replace(" ", "-")
                if options.variants and called not in options.variants:
                    continue
                found[variant].append(
                    scores(trained(small, folder, called, flags, seed, options.epochs), rarest)
                )
        outcomes[name] = {"counts": counts, "scores": found}
        lines = [[variant, *_cells(each)] for variant, each in found.items() if each]
        blocks += [
            f"**{name}**: {len(rows):,} training rows, {most:,} of {common} and {least} of {rarest}; "
            f"{len(DATASETS[name].rows('test')):,} test rows.",
            table(
                [
                    "loss",
                    "accuracy",
                    "macro F1",
                    "balanced accuracy",
                    f"recall of {rarest}",
                    "ECE",
                ],
                lines,
            ),
        ]
    if options.epochs is None and not options.variants:
        title = f"Rare classes: weights and the focal loss, seeds {', '.join(map(str, options.seeds))}"
        keep("imbalance", title, blocks, {"seeds": options.seeds, "results": outcomes})


def _cells(each: Sequence[Mapping[str, float]]) -> list[str]:
    cells = []
    for name in (*METRICS, "rarest", "ece"):
        values = [found[name] for found in each]
        spread = f" ({min(values):.1%}-{max(values):.1%})" if len(values) > 1 else ""
        cells.append(f"{statistics.fmean(values):.1%}{spread}")
    return cells


if __name__ == "__main__":
    raise SystemExit(run(main))
