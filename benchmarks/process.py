"""Commands that a benchmark runs: ours as a user calls it, with wall time and peak memory of the whole process."""

from __future__ import annotations

import math
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from resparse.errors import UserError

COMMAND = "sparseml.transformers.text_classification"

# MiniLM as the zoo holds it, dense and pruned to 80 %; neither needs the Hub.
DENSE_MODEL = "zoo:nlp/sentence_embedding/minilm-l6/pytorch/huggingface/sentence_transformers/base-none"
SPARSE_MODEL = "zoo:nlp/sentence_embedding/minilm-l6/pytorch/huggingface/sentence_transformers/pruned80-none"

# The tutorial's recipes: for one sentence, for two, and for dense fine-tuning.
SINGLE_RECIPE = "zoo:nlp/sentiment_analysis/obert-base/pytorch/huggingface/sst2/pruned90_quant-none"
PAIR_RECIPE = "zoo:nlp/text_classification/obert-base/pytorch/huggingface/mnli/pruned90_quant-none"
DENSE_RECIPE = "zoo:nlp/sentiment_analysis/bert-base/pytorch/huggingface/sst2/base-none"


# What the tutorial's commands all say.
TUTORIAL_ARGUMENTS: Final = {
    "max_seq_length": 128,
    "evaluation_strategy": "epoch",
    "logging_steps": 1000,
    "save_steps": 1000,
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 32,
}


class RunFailedError(UserError):
    """A command that a benchmark started did not end well."""


@dataclass(frozen=True)
class Cost:
    """The cost of a finished command.

    Attributes:
        seconds: wall time from start to exit, imports included.
        peak_mib: the largest resident set of the process or of any one child that it waited for, in MiB.
        cpu_seconds: processor time of all threads, and of children that it waited for; NaN where it was not kept.
    """

    seconds: float
    peak_mib: float
    cpu_seconds: float = math.nan


def our_command() -> list[str]:
    """The command that pip has installed beside the Python that runs this benchmark."""
    script = Path(sys.executable).parent / COMMAND
    if not script.is_file():
        raise RunFailedError(
            f"{script} does not exist: install resparse in this environment (pip install -e .[torch])."
        )
    return [str(script)]


def flags(arguments: Mapping[str, Any]) -> list[str]:
    """Arguments as flags of a command line."""
    return [word for name, value in arguments.items() for word in (f"--{name}", str(value))]


def timed(command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> Cost:
    """Run a command in the folder of `log`, which gets its output; a RunFailedError for another exit code than 0."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as printed:
        printed.write(f"$ {shlex.join(command)}\n".encode())
        printed.flush()
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdout=printed,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env={**os.environ, **(environment or {})},
        )
        # wait4 gives the memory of this one child; resource.getrusage only that of the largest so far.
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RunFailedError(f"{Path(command[0]).name} left with code {process.returncode}; see {log}")
    per_mib = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux KiB
    return Cost(seconds, usage.ru_maxrss / per_mib, usage.ru_utime + usage.ru_stime)
