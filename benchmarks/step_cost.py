"""What a training step costs, side by side: the plain Trainer, masks held, and QAT on top of masks.

Each variant trains in a process of its own, through the whole Trainer loop, but takes a step only when it is
told to: the steps of all variants alternate in random order, so that a noisy machine is noisy for all alike.
Ratios are taken within each round; their median is reported. At the end every process tells its peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from process import SPARSE_MODEL, RunFailedError
from record import keep, table
from resparse.console import run, say

BATCH, LENGTH = 32, 64
WARM_UP = 3  # rounds that are not counted

_EPOCHS_AND_MASKS = """
training_modifiers:
  - !EpochRangeModifier
      start_epoch: 0.0
      end_epoch: 1.0
  - !LearningRateFunctionModifier
      start_epoch: 0.0
      end_epoch: 1.0
      lr_func: linear
      init_lr: 1.0e-4
      final_lr: 0.0
constant_modifiers:
  - !ConstantPruningModifier
      start_epoch: 0.0
      params: __ALL_PRUNABLE__
"""
_QUANTIZATION = """
quantization_modifiers:
  - !QuantizationModifier
      start_epoch: 0.0
      quantize_embeddings: 1
      quantize_linear_activations: 0
      exclude_module_types: [LayerNorm, Tanh]
      submodules: [bert.embeddings, bert.encoder, bert.pooler, classifier]
"""
# What each variant adds to the same model, rows and arguments; None is transformers.Trainer itself.
RECIPES: dict[str, str | None] = {
    "plain": None,
    "masks": _EPOCHS_AND_MASKS,
    "masks + QAT": _EPOCHS_AND_MASKS + _QUANTIZATION,
}
LIMITS = {"masks": 1.05, "masks + QAT": 1.35}
MEMORY_LIMIT = 1.3


@dataclass(frozen=True)
class Variant:
    """Seconds of its counted steps, in the order of the rounds, and its peak resident set."""

    name: str
    seconds: list[float]
    peak_mib: float


# --- the worker: one variant, one step at a time ---


def work(name: str, steps: int) -> None:
    """Train one variant: each line on standard input starts a step, each line on standard output reports one."""
    results = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    sys.stdout = sys.stderr  # keep the Trainer's output apart from the messages
    import resource

    from transformers import PrinterCallback, TrainerCallback
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()

    class StepByStep(TrainerCallback):
        """Pauses the loop between steps."""

        resumed = 0.0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.report({"ready": True})

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.report({"seconds": time.perf_counter() - self.resumed})

        def report(self, message: dict[str, Any]) -> None:
            print(json.dumps(message), file=results)
            sys.stdin.readline()
            self.resumed = time.perf_counter()

    trainer = build_trainer(RECIPES[name], steps)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(StepByStep())
    trainer.train()
    per_mib = 2**20 if sys.platform == "darwin" else 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / per_mib
    print(json.dumps({"peak_mib": peak}), file=results)


def build_trainer(recipe: str | None, steps: int) -> Any:
    """A Trainer over `steps` batches of 32 × 64 tokens, with the recipe where there is one."""
    import torch
    from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments

    from sparseml.session.trainer import RecipeTrainer
    from sparsezoo import Model

    torch.manual_seed(0)
    folder = str(Model(SPARSE_MODEL).training.path)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=4)
    tokens = torch.randint(1000, model.config.vocab_size, (steps * BATCH, LENGTH))
    rows = [
        {"input_ids": row, "attention_mask": torch.ones_like(row), "labels": index % 4}
        for index, row in enumerate(tokens)
    ]
    arguments = TrainingArguments(
        output_dir="runs/step_cost",
        per_device_train_batch_size=BATCH,
        num_train_epochs=1,
        learning_rate=1e-4,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    if recipe is None:
        return Trainer(model, arguments, train_dataset=rows)
    return RecipeTrainer(model, arguments, train_dataset=rows, recipe=recipe)


# --- the controller ---


class Worker:
    """A variant in its own process."""

    def __init__(self, name: str, steps: int) -> None:
        self.name = name
        self.seconds: list[float] = []
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--worker", name, "--rounds", str(steps)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.receive()

    def step(self) -> None:
        """Run one step."""
        self.proceed()
        self.seconds.append(self.receive()["seconds"])

    def finish(self) -> Variant:
        """End the process; drops the warm-up."""
        self.proceed()
        peak = self.receive()["peak_mib"]
        self.process.wait()
        return Variant(self.name, self.seconds[WARM_UP:], peak)

    def proceed(self) -> None:
        print(file=_pipe(self.process.stdin))

    def receive(self) -> dict[str, Any]:
        """The next message; a RunFailedError where the process has died (its traceback is on standard error)."""
        line = _pipe(self.process.stdout).readline()
        if not line:
            raise RunFailedError(f"the worker {self.name!r} left with code {self.process.wait()}")
        message: dict[str, Any] = json.loads(line)
        return message


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None  # Popen was given PIPE for both
    return stream


def measure(rounds: int) -> list[Variant]:
    """Steps of all variants, alternating."""
    workers = [Worker(name, WARM_UP + rounds) for name in RECIPES]
    order = random.Random(0)
    for turn in range(WARM_UP + rounds):
        for worker in order.sample(workers, len(workers)):
            worker.step()
        if (turn + 1) % 5 == 0:
            say(f"{turn + 1} of {WARM_UP + rounds} rounds")
    return [worker.finish() for worker in workers]


def step_table(variants: list[Variant]) -> str:
    """Median step and its ratio to the plain Trainer's, taken round by round, with quartiles."""
    plain = variants[0]
    rows = []
    for variant in variants:
        ratios = [ours / base for ours, base in zip(variant.seconds, plain.seconds, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        limit = f"≤ {LIMITS[variant.name]:.2f}" if variant.name in LIMITS else ""
        rows.append(
            (
                variant.name,
                f"{1000 * statistics.median(variant.seconds):.0f} ms",
                f"{middle:.3f}",
                f"{low:.3f} to {high:.3f}",
                limit,
                f"{variant.peak_mib:.0f} MiB",
                f"{variant.peak_mib / plain.peak_mib:.2f}",
            )
        )
    return table(
        ("variant", "median step", "ratio", "quartiles", "wanted", "peak memory", f"(≤ {MEMORY_LIMIT})"), rows
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of a training step: plain, masks held, QAT.")
    parser.add_argument("--rounds", type=int, default=30, help="counted steps of each variant (default 30)")
    parser.add_argument("--worker", choices=RECIPES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="where results go (default: benchmarks/results)")
    arguments = parser.parse_args()
    if arguments.worker is not None:
        work(arguments.worker, arguments.rounds)
        return
    variants = measure(arguments.rounds)
    keep(
        "step_cost",
        f"A training step, MiniLM, {BATCH} × {LENGTH} tokens, float32",
        [step_table(variants)],
        {"variants": [asdict(variant) for variant in variants]},
        **({"folder": arguments.folder} if arguments.folder else {}),
    )


if __name__ == "__main__":
    raise SystemExit(run(main))
