"""Do two versions of the source make the same results, bit by bit? For changes that are to change nothing.

    python benchmarks/same_results.py OTHER_CHECKOUT [--rows 96]

Runs the same commands on both trees, on the demo's data and the embedded model: a dense teacher; a sparse int8 student
with masks, quantization and distillation; the same one, stopped after an epoch and resumed; a recipe applied in one
shot; a guided run; exports for both runtimes; a file labelled; and the help of each command. Then it compares the
SHA-256 of every file that they wrote, apart from reports and other files that name times, versions or paths, and of
what they printed, apart from measured times.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ZOO = "zoo:nlp/sentence_embedding/minilm-l6/pytorch/huggingface/sentence_transformers"
RECIPE = "zoo:nlp/text_classification/minilm-l6/pytorch/huggingface/default/pruned80_quant-none"
SHORT = '{"num_epochs": 3, "qat_start_epoch": 1, "observer_epoch": 2}'

# Files that contain times, versions, paths or commands.
EXCLUDED = ("report.json", "run.json", "summary.txt", "training_args.bin", "README.md")
TIMED = ("_results.json", "trainer_state.json")


def main() -> int:
    """Run and compare; returns 1 where something differs."""
    arguments = _parser().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "work"  # one path for both: it may be written into files
        trees = {"here": ROOT, "there": arguments.other.resolve()}
        hashes = {}
        for name, tree in trees.items():
            hashes[name] = _run(tree, work, arguments.rows)
            if arguments.keep:
                shutil.copytree(work, arguments.keep / name)
            shutil.rmtree(work)
    here, there = hashes["here"], hashes["there"]
    rows = [(name, here.get(name, "missing"), there.get(name, "missing")) for name in sorted({*here, *there})]
    for name, first, second in rows:
        print(f"{'same' if first == second else 'DIFFERENT':9}  {first[:16]}  {second[:16]}  {name}")
    different = sum(first != second for _, first, second in rows)
    print(f"{len(rows) - different} of {len(rows)} files are the same")
    return 1 if different else 0


def _run(tree: Path, work: Path, rows: int) -> dict[str, str]:
    """The hashes of what a tree's commands write into a folder."""
    work.mkdir()
    data = tree / "src/sparseml/demo"
    for split in ("train", "validation", "test"):
        shutil.copy(data / f"support_{split}.csv", work / f"{split}.csv")
    common = [
        *("--train_file", "train.csv", "--validation_file", "validation.csv", "--test_file", "test.csv"),
        *("--max_train_samples", str(rows), "--max_eval_samples", "32", "--max_predict_samples", "32"),
        *("--per_device_train_batch_size", "16", "--eval_strategy", "epoch", "--save_strategy", "epoch"),
        *("--do_train", "--do_eval", "--do_predict", "--seed", "7", "--max_seq_length", "48"),
    ]
    sparse = [
        *("--model_name_or_path", f"{ZOO}/pruned80-none", "--recipe", RECIPE, "--recipe_args", SHORT),
        *("--distill_teacher", "teacher"),
    ]
    dense = ["--model_name_or_path", f"{ZOO}/base-none", "--num_train_epochs", "1", "--learning_rate", "1e-4"]
    commands = (
        ["train", *dense, *common, "--output_dir", "teacher"],
        ["train", *sparse, *common, "--output_dir", "student"],
        ["train", *sparse, *common, "--output_dir", "resumed", "--max_steps", str(rows // 16)],
        [
            *("train", *sparse, *common, "--output_dir", "resumed"),
            *("--resume_from_checkpoint", f"resumed/checkpoint-{rows // 16}"),
        ],
        [
            *("train", "--model_name_or_path", "teacher", "--recipe", RECIPE, "--one_shot"),
            *("--allow_dense_start", "--output_dir", "one-shot"),
            *[word for word in common if word != "--do_train"],
        ],
        ["train", "--train_file", "train.csv", "--max_train_samples", str(rows), "--recipe_args", SHORT],
        ["export", "student"],
        ["export", "student", "--runtime", "deepsparse", "--deployment_directory_name", "for-deepsparse"],
        ["predict", "deployment", "--input", "test.csv", "--output", "labelled.csv"],
        ["--help"],
        ["train", "--help"],
        ["train", "--help-all"],
        ["export", "--help"],
        ["predict", "--help"],
        ["recipe", "show", RECIPE],
        ["recipe", "modifiers", "QuantizationModifier"],
    )
    for number, words in enumerate(commands):
        printed = _command(tree, work, words)
        (work / f"printed-{number:02}-{words[0].strip('-')}.txt").write_text(_without_times(printed))
    return {
        str(path.relative_to(work)): _digest(path)
        for path in sorted(work.rglob("*"))
        if path.is_file() and path.name not in EXCLUDED
    }


def _command(tree: Path, work: Path, words: Sequence[str]) -> str:
    """Run `sparseml`; returns what it printed."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(tree / "src"),
        "OMP_NUM_THREADS": "1",
        "DEEPSPARSE_CACHE": "",
    }
    done = subprocess.run(
        [sys.executable, "-m", "sparseml", *words],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{tree}: sparseml {' '.join(words)}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def _without_times(printed: str) -> str:
    """A text with measured times replaced, and with one space for several: the width of times moves columns."""
    timed = re.sub(r"[\d.,]+ ?(ms|s|it/s|/s)\b|(preparation time) +[\d.]+", r"N \1\2", printed)
    return "\n".join(" ".join(line.split()) for line in timed.splitlines() if "it/s" not in line)


def _digest(path: Path) -> str:
    """SHA-256 of a file; of one that holds times, of what else it holds."""
    data = path.read_bytes()
    if path.name.endswith(TIMED):
        data = json.dumps(_untimed(json.loads(data)), sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()


def _untimed(value: object) -> object:
    if isinstance(value, dict):
        return {
            key: _untimed(item)
            for key, item in value.items()
            if not any(word in key for word in ("runtime", "per_second", "compilation", "preparation_time"))
        }
    return [_untimed(item) for item in value] if isinstance(value, list) else value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Compare the results of two versions of the source.")
    parser.add_argument("other", type=Path, help="the checkout to compare this one with")
    parser.add_argument(
        "--keep", type=Path, help="a new folder that keeps what both wrote, to look at differences"
    )
    parser.add_argument("--rows", type=int, default=96, help="training rows of every run [%(default)s]")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
