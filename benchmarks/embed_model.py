"""Packs a folder that `sparseml sparsify` has written as a model of the package, and writes what its card says.

    python benchmarks/embed_model.py runs/pruned80 pruned80 --device "one NVIDIA H200" --results results.md

The card's numbers are the training's own: its command, steps and time, and the distance on held-out text.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import sparsezoo
from resparse.console import run, say
from sparseml.sparsify import CHOICES, PRUNE_RECIPE
from sparsezoo.embedded import embed

_ZOO = "zoo:nlp/sentence_embedding/minilm-l6/pytorch/huggingface/sentence_transformers"
_FOLDER = Path(sparsezoo.__file__).parent / "embedded_models" / "minilm-l6"


def facts_of(folder: Path, name: str, device: str, results: str) -> dict[str, Any]:
    """What the card says of a model, from its folder's files."""
    scores, training = (
        json.loads((folder / f"{part}_results.json").read_text()) for part in ("eval", "train")
    )
    steps = json.loads((folder / "trainer_state.json").read_text())["global_step"]
    rows, length = _batch(folder)
    return {
        "percent": name.removeprefix("pruned"),
        "stub": f"{_ZOO}/{name}-none",
        "recipe": PRUNE_RECIPE,
        "command": _command(folder, name, steps * rows * length),
        "tokens": f"{steps * rows * length / 1e6:.0f} million",
        "steps": f"{steps:,}",
        "time": f"{training['train_runtime'] / 60:.0f} minutes",
        "device": device,
        "distance": scores["eval_distance"],
        "last_distance": scores["eval_last_layer_distance"],
        "results": results,
    }


def _batch(folder: Path) -> tuple[int, int]:
    """Rows and length of the longest windows in a batch, by the training's command."""
    words = json.loads((folder / "report.json").read_text())["command"]
    rows, length = (
        words[words.index(f"--{name}") + 1] for name in ("per_device_train_batch_size", "max_seq_length")
    )
    return int(rows), int(length)


def _command(folder: Path, name: str, tokens: int) -> str:
    """The command for people, with the seed of the training's."""
    words = json.loads((folder / "report.json").read_text())["command"]
    seed = f" --seed {words[words.index('--seed') + 1]}" if "--seed" in words else ""
    path = folder / CHOICES
    asked = json.loads(path.read_text())["request"] if path.is_file() else {}
    sparsity = asked.get("sparsity") or int(name.removeprefix("pruned")) / 100
    corpus = ",".join(Path(part).name for part in words[words.index("--train_file") + 1].split(","))
    return (
        f"sparseml sparsify {_ZOO}/base-none --corpus {corpus} --sparsity {sparsity} --tokens {tokens}{seed}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Pack a sparsified encoder into the package.")
    parser.add_argument("folder", type=Path, help="what `sparseml sparsify` wrote")
    parser.add_argument("name", help="of the model, such as pruned80")
    parser.add_argument("--device", required=True, help="what it was trained on, for the card")
    parser.add_argument("--results", type=Path, help="a file of Markdown about its accuracy, for the card")
    arguments = parser.parse_args()
    results = arguments.results.read_text(encoding="utf-8").strip() if arguments.results else ""
    facts = facts_of(arguments.folder, arguments.name, arguments.device, results)
    for name, size in embed(arguments.folder, _FOLDER, arguments.name, facts).items():
        say(f"{_FOLDER / name}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    raise SystemExit(run(main))
