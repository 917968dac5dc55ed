"""`sparseml demo`: from a dense teacher to a sparse int8 classifier, on embedded models and data."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resparse.console import say
from resparse.errors import UserError, did_you_mean
from sparseml.demo import files

_ZOO = "zoo:nlp/sentence_embedding/minilm-l6/pytorch/huggingface/sentence_transformers"
DENSE = f"{_ZOO}/base-none"
SPARSE = f"{_ZOO}/pruned80-none"
DENSE_RECIPE = "zoo:nlp/sentiment_analysis/bert-base/pytorch/huggingface/sst2/base-none"
SPARSE_RECIPE = "zoo:nlp/text_classification/minilm-l6/pytorch/huggingface/default/pruned80_quant-none"

_HELP = """\
usage: sparseml demo [--output_dir FOLDER]

Trains, on support messages that ship with the package, first a dense MiniLM and then, taught by it, one of which
80 % of the weights are zero and all are int8. Takes some minutes; FOLDER is ./demo by default."""


def main(words: Sequence[str]) -> int:
    """Run the demo; returns the exit code."""
    if "--help" in words or "-h" in words:
        print(_HELP)
        return 0
    folder = _folder(words)
    teacher, student = folder / "dense", folder / "sparse-int8"
    say("1 of 2: a dense model, to be the teacher")
    dense = _train(
        model_name_or_path=DENSE,
        recipe=DENSE_RECIPE,
        recipe_args='{"num_epochs": 4, "init_lr": 1e-4}',
        output_dir=str(teacher),
    )
    say("\n2 of 2: a model of zeros and int8, taught by the dense one")
    sparse = _train(
        model_name_or_path=SPARSE, recipe=SPARSE_RECIPE, distill_teacher=str(teacher), output_dir=str(student)
    )
    _print_result(dense, sparse, student)
    return 0


def _train(**arguments: Any) -> dict[str, Any]:
    from sparseml.transformers import text_classification

    data = files()
    common = {
        "train_file": str(data["train"]),
        "validation_file": str(data["validation"]),
        "test_file": str(data["test"]),
        "input_column_names": "text",
        "label_column_name": "label",
        "max_seq_length": 128,
        "per_device_train_batch_size": 32,
        "per_device_eval_batch_size": 32,
        "eval_strategy": "epoch",
        "save_strategy": "no",
        "logging_steps": 5,
        "seed": 5114,
    }
    flags = [text for name, value in (common | arguments).items() for text in (f"--{name}", str(value))]
    flags += ["--do_train", "--do_eval", "--do_predict", "--overwrite_output_dir"]
    say(f"$ sparseml train {shlex.join(flags)}\n")
    return text_classification.main(flags)


def _print_result(dense: dict[str, Any], sparse: dict[str, Any], student: Path) -> None:
    before, after = dense["metrics"]["predict_accuracy"], sparse["metrics"]["predict_accuracy"]
    totals = sparse["totals"]
    say(
        f"\nOf 240 test messages the dense model names {before:.1%} right, the sparse int8 one {after:.1%}: with "
        f"{totals['prunable_sparsity']:.0%} of its weights zero and "
        f"{totals['compressed_bytes'] / 1e6:.1f} MB compressed, in place of {totals['dense_bytes'] / 1e6:.0f} MB."
        f"\nThe model lies in {student}, with report.json and recipe.yaml."
    )


def _folder(words: Sequence[str]) -> Path:
    rest = list(words)
    folder = Path("demo")
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name not in ("--output_dir", "--output-dir"):
            raise UserError(
                f"`sparseml demo` takes no {word!r}. {did_you_mean(word, ['--output_dir', '--help'])}"
            )
        if not equals and not rest:
            raise UserError("--output_dir needs a value: the folder to write to.")
        folder = Path(value if equals else rest.pop(0))
    return folder
