"""Long texts: the first window against all of them, pooled by mean and by maximum; and how long explanations take.

The texts are passages of English novels (corpora/novels.txt.xz in the data folder, ELTeC, public domain), and the label
is the novel: every part of a passage says something of it, none says all. Passages for training and test are of
different thirds of a novel. Each run is a training from the embedded encoder, exported, and answered by the engine.
What is done is kept, so a run that was cut off goes on.

    python benchmarks/long_texts.py --folder runs/long_texts
"""

from __future__ import annotations

import argparse
import json
import lzma
import random
import statistics
import time
from pathlib import Path
from typing import Any

from data import data_folder
from record import keep, table
from resparse.console import run, say
from resparse.files import write_json, write_text

RECIPE = """\
num_epochs: {epochs}
training_modifiers:
  - !EpochRangeModifier
      start_epoch: 0.0
      end_epoch: eval(num_epochs)
  - !LearningRateFunctionModifier
      start_epoch: 0.0
      end_epoch: eval(num_epochs)
      lr_func: linear
      init_lr: 3e-4
      final_lr: 1e-5
pruning_modifiers:
  - !ConstantPruningModifier
      start_epoch: 0.0
      params: __ALL_PRUNABLE__
"""
# Of each novel the beginning is trained on, the end tested on; what is between keeps chapters apart.
_TRAIN_SHARE, _TEST_FROM = 0.6, 0.7


def passages(count: int, words: int, train: int, test: int) -> dict[str, list[dict[str, str]]]:
    """Rows of so many novels, with so many passages each."""
    with lzma.open(data_folder() / "corpora" / "novels.txt.xz", "rt", encoding="utf-8") as file:
        novels = file.read().split("\n\n")[:count]
    draw, rows = random.Random(0), {"train": [], "test": []}
    for number, novel in enumerate(novels):
        text = novel.split()
        last = int(len(text) * _TRAIN_SHARE)
        parts = {"train": (0, last, train), "test": (int(len(text) * _TEST_FROM), len(text), test)}
        for split, (first, end, wanted) in parts.items():
            for _ in range(wanted):
                start = draw.randrange(first, end - words)
                rows[split].append(
                    {"text": " ".join(text[start : start + words]), "label": f"novel {number}"}
                )
    return rows


def trained(folder: Path, read: str, epochs: float, arguments: argparse.Namespace) -> dict[str, Any]:
    """The report of a training, its deployment beside it; of an earlier run where there is one."""
    from sparseml.transformers import export, text_classification

    place, outcome = folder / read, folder / f"{read}.json"
    if outcome.is_file():
        return dict(json.loads(outcome.read_text(encoding="utf-8")))
    begun = time.perf_counter()
    report = text_classification.main(
        train_file=str(folder / "train.jsonl"),
        validation_file=str(folder / "test.jsonl"),
        recipe=RECIPE.format(epochs=epochs),
        output_dir=str(place),
        do_train=True,
        do_eval=True,
        long_texts=read,
        max_seq_length=arguments.tokens,
        window_stride=arguments.stride,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=16,
        save_strategy="no",
        overwrite_output_dir=True,
    )
    seconds = time.perf_counter() - begun
    export.main([str(place), "--deployment_directory_name", f"{read}-deployment"])
    found = {"seconds": seconds, "epochs": epochs, "data": report["data"], "metrics": report["metrics"]}
    write_json(outcome, found)
    return found


def answered(folder: Path, read: str, **settings: Any) -> dict[str, float]:
    """Accuracy on the test rows as deployed, and texts a second."""
    from deepsparse import Pipeline

    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    pipeline = Pipeline.create(model_path=folder / f"{read}-deployment", num_cores=1, **settings)
    texts = [row["text"] for row in rows]
    begun = time.perf_counter()
    labels = pipeline(texts).labels
    seconds = time.perf_counter() - begun
    right = sum(label == row["label"] for label, row in zip(labels, rows, strict=True))
    return {"accuracy": right / len(rows), "texts_per_second": len(rows) / seconds, "rows": len(rows)}


def explained(folder: Path, count: int, tokens: int) -> dict[str, dict[str, float]]:
    """Seconds for an explanation of a short text, one window, by engine: the median of `count` texts."""
    from deepsparse import Pipeline
    from deepsparse.explain import explain

    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    texts = [
        " ".join(row["text"].split()[: tokens // 2]) for row in rows[:: max(1, len(rows) // count)][:count]
    ]
    found = {}
    for engine in ("native", "onnxruntime"):
        pipeline = Pipeline.create(
            model_path=folder / "first-deployment", sequence_length=tokens, engine_type=engine, num_cores=1
        )
        seconds, answers = [], []
        for text in texts:
            begun = time.perf_counter()
            answers.append(explain(pipeline, text).answers)
            seconds.append(time.perf_counter() - begun)
        found[engine] = {"seconds": statistics.median(seconds), "answers": statistics.median(answers)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/long_texts"))
    parser.add_argument("--novels", type=int, default=8)
    parser.add_argument("--words", type=int, default=240, help="of a passage")
    parser.add_argument("--train", type=int, default=16, help="passages of a novel to train on")
    parser.add_argument("--test", type=int, default=12, help="passages of a novel to test on")
    parser.add_argument("--tokens", type=int, default=64, help="of a window")
    parser.add_argument("--stride", type=int, default=8)
    parser.add_argument(
        "--epochs", type=float, default=3, help="of the training on windows; first has as many steps"
    )
    parser.add_argument("--explained", type=int, default=12, help="texts that are explained")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    for split, rows in passages(arguments.novels, arguments.words, arguments.train, arguments.test).items():
        write_text(folder / f"{split}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    windows_a_text = -(-arguments.words * 4 // 3 // (arguments.tokens - arguments.stride - 2))
    trainings = {
        read: trained(folder, read, epochs, arguments)
        for read, epochs in (("first", arguments.epochs * windows_a_text), ("windows", arguments.epochs))
    }
    ways = [
        ("first window (the plain run)", "first", {"long_texts": "first"}),
        (
            "trained on first, read in windows, mean",
            "first",
            {"long_texts": "windows", "window_pooling": "mean"},
        ),
        ("windows, mean of logits", "windows", {"window_pooling": "mean"}),
        ("windows, max of logits", "windows", {"window_pooling": "max"}),
        (
            "trained on windows, first alone",
            "windows",
            {"long_texts": "first", "sequence_length": arguments.tokens},
        ),
    ]
    results = []
    for name, read, settings in ways:
        say(name)
        length = (
            {"sequence_length": arguments.tokens, "window_stride": arguments.stride}
            if read == "first"
            else {}
        )
        results.append({"name": name, "trained": read, **answered(folder, read, **{**length, **settings})})
    times = explained(folder, arguments.explained, arguments.tokens)
    keep(
        "long_texts",
        f"Long texts: {arguments.novels} novels, passages of {arguments.words} words, windows of {arguments.tokens} "
        "tokens",
        [
            table(
                ["read", "accuracy", "texts/s, one core", "training"],
                [
                    [
                        each["name"],
                        f"{each['accuracy']:.1%}",
                        f"{each['texts_per_second']:.1f}",
                        f"{trainings[each['trained']]['seconds']:.0f} s",
                    ]
                    for each in results
                ],
            ),
            f"{results[0]['rows']} test passages, all longer than a window; trainings of as many steps. Differences of "
            "fewer than about ten points are within the noise of so few rows.",
            table(
                ["explaining a text of one window", "seconds", "answers"],
                [
                    [name, f"{found['seconds']:.2f}", f"{found['answers']:.0f}"]
                    for name, found in times.items()
                ],
            ),
        ],
        {"results": results, "trainings": trainings, "explained": times},
    )


if __name__ == "__main__":
    raise SystemExit(run(main))
