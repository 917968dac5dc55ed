"""One classifier from text to label, in whatever environment has it: a line in lets it label all texts, a line out says
how long that took.

    python text_worker.py ours DEPLOYMENT TEXTS.json --engine native
    python text_worker.py deepsparse DEPLOYMENT TEXTS.json --lengths 16 32 64 128 --batch 16

`ours` is our pipeline on one of its engines. `deepsparse` is DeepSparse 1.8's, which pads every text to a length: the
only one given, as its users run it, or the shortest of several that holds it. There texts of a length fill batches,
and the last one is filled up. The first line out tells the labels.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

TASK = "text_classification"


def ours(asked, texts):
    from deepsparse import Pipeline

    classify = Pipeline.create(
        TASK, asked.model, engine_type=asked.engine, num_cores=asked.threads, batch_size=asked.batch
    )
    return lambda: classify(texts).labels


def deepsparse(asked, texts):
    from transformers import AutoTokenizer

    from deepsparse import Pipeline

    pipelines = {
        length: Pipeline.create(
            task=TASK,
            model_path=asked.model,
            sequence_length=length,
            batch_size=asked.batch,
            num_cores=asked.threads,
        )
        for length in asked.lengths
    }
    tokenizer = AutoTokenizer.from_pretrained(asked.model)

    def bucket_of(text):
        if len(asked.lengths) == 1:
            return asked.lengths[0]
        count = len(tokenizer(*(text if isinstance(text, list) else [text]))["input_ids"])
        return next((length for length in asked.lengths if count <= length), asked.lengths[-1])

    def run():
        labels = [""] * len(texts)
        waiting = {length: [] for length in asked.lengths}

        def flush(length):
            chosen = waiting[length]
            filled = [texts[index] for index in chosen] + [texts[chosen[0]]] * (asked.batch - len(chosen))
            for index, label in zip(chosen, pipelines[length](sequences=filled).labels, strict=False):
                labels[index] = label
            waiting[length] = []

        for index, text in enumerate(texts):
            length = bucket_of(text)
            waiting[length].append(index)
            if len(waiting[length]) == asked.batch:
                flush(length)
        for length, chosen in waiting.items():
            if chosen:
                flush(length)
        return labels

    return run


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["ours", "deepsparse"])
    parser.add_argument("model")
    parser.add_argument("texts", help="a JSON file: a list of texts or of pairs")
    parser.add_argument("--engine", default="native")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--lengths", type=int, nargs="+", default=[128])
    asked = parser.parse_args()
    # What an engine prints must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    texts = json.loads(Path(asked.texts).read_text())
    run = {"ours": ours, "deepsparse": deepsparse}[asked.kind](asked, texts)
    print(json.dumps({"labels": run()}), file=answers)
    for _ in sys.stdin:
        started = time.perf_counter()
        run()
        print(json.dumps({"seconds": time.perf_counter() - started}), file=answers)


if __name__ == "__main__":
    main()
