"""How long does a user wait to be told of a mistake? Commands that are refused, as from the shell.

Each command is run several times, in turns, in a folder of small files, and has to end with exit code 2 and the words
that its line expects. The last column says whether PyTorch, whose import takes seconds, was imported.

    python benchmarks/refusals.py
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from process import RunFailedError
from record import keep, table
from resparse.console import run
from resparse.progress import track

_BASE = ("train", "--train_file", "rows.csv")
_LARGE = ("train", "--train_file", "large.csv")
_EVALUATION = ("train", "--do_eval", "--validation_file")
_PREDICT = ("predict", "nowhere", "--output", "labelled.csv", "--input")
# As the installed command, and afterwards the modules that say what was imported.
_SCRIPT = """
import sys
from sparseml.cli import main
code = main(sys.argv[1:])
print("torch" in sys.modules)
raise SystemExit(code)
"""
_MODEL_CONFIG = {"model_type": "bert", "architectures": ["BertForSequenceClassification"]}


@dataclass
class Refusal:
    """A command with a mistake.

    Attributes:
        mistake: what it is.
        words: of the command line.
        says: part of the message.
        seconds: from start to exit, of each run.
        torch: whether PyTorch was imported.
    """

    mistake: str
    words: Sequence[str]
    says: str
    seconds: list[float] = field(default_factory=list)
    torch: bool = False


def refusals() -> list[Refusal]:
    """The commands, from the first thing that is read to the last."""
    return [
        Refusal("no such command", ("trian",), "train"),
        Refusal("flag misspelt", ("train", "--train_fil", "rows.csv"), "--train_file"),
        Refusal("value of a wrong kind", (*_BASE, "--num_train_epochs", "many"), "--num_train_epochs"),
        Refusal("data file not there", ("train", "--train_file", "nowhere.csv"), "no such file"),
        Refusal("model folder not there", (*_BASE, "--model_name_or_path", "./nowhere"), "does not exist"),
        Refusal("recipe not there", (*_BASE, "--recipe", "nowhere.yaml"), "nowhere.yaml"),
        Refusal(
            "recipe with a modifier misspelt",
            (*_BASE, "--recipe", "modifier.yaml"),
            "'ConstantPruningModifer'",
        ),
        Refusal("recipe with a field misspelt", (*_BASE, "--recipe", "field.yaml"), "end_epoch"),
        Refusal("label column not there", (*_BASE, "--label_column_name", "lable"), "lable"),
        Refusal("line with a field too many", ("train", "--train_file", "ragged.csv"), "ragged.csv, line"),
        Refusal("file in another encoding", ("train", "--train_file", "latin.csv"), "UTF-8"),
        Refusal("tags for other words", ("train", "--task", "ner", "--train_file", "tags.jsonl"), "tags"),
        Refusal("start without its tokenizer", (*_BASE, "--model_name_or_path", "bare"), "tokenizer"),
        Refusal("large file, label column not there", (*_LARGE, "--label_column_name", "lable"), "lable"),
        Refusal("evaluation, data file not there", (*_EVALUATION, "nowhere.csv"), "no such file"),
        Refusal("export of no model", ("export", "nowhere"), "nowhere"),
        Refusal("prediction by no deployment", (*_PREDICT, "rows.csv"), "nowhere"),
        Refusal("report of no folder", ("report", "nowhere"), "nowhere"),
    ]


def write_files(folder: Path) -> None:
    """The files that the commands name."""
    rows = [("a fine film", "good"), ("a dull film", "bad")] * 50
    for name, count in (("rows.csv", 1), ("large.csv", 3_000)):
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *(rows * count)])
    (folder / "ragged.csv").write_text("text,label\na,good\nb,bad,worse\n", encoding="utf-8")
    (folder / "latin.csv").write_bytes("text,label\ncafé,good\n".encode("latin-1"))
    (folder / "tags.jsonl").write_text('{"tokens": ["a", "b"], "ner_tags": ["O"]}\n', encoding="utf-8")
    (folder / "modifier.yaml").write_text("modifiers:\n  - !ConstantPruningModifer {}\n", encoding="utf-8")
    (folder / "field.yaml").write_text(
        "modifiers:\n  - !EpochRangeModifier {end_epch: 3}\n", encoding="utf-8"
    )
    bare = folder / "bare"
    bare.mkdir()
    (bare / "config.json").write_text(json.dumps(_MODEL_CONFIG), encoding="utf-8")


def refuse(one: Refusal, folder: Path) -> None:
    """Run the command once."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, *one.words], cwd=folder, capture_output=True, text=True, check=False
    )
    one.seconds.append(time.perf_counter() - began)
    if done.returncode != 2 or one.says not in " ".join(done.stderr.split()):
        raise RunFailedError(f"{one.words}: exit code {done.returncode}, and not 2; {done.stderr[-500:]}")
    one.torch = done.stdout.split()[-1] == "True"


def main() -> None:
    """Run all commands and keep the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    found = refusals()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_files(folder)
        for _ in track(range(arguments.rounds), "rounds"):
            for one in found:
                refuse(one, folder)
    lines = [
        [
            one.mistake,
            f"`sparseml {' '.join(one.words)}`",
            f"{statistics.median(one.seconds):.2f}",
            f"{max(one.seconds):.2f}",
            "yes" if one.torch else "",
        ]
        for one in found
    ]
    header = ["mistake", "command", "s, median", "s, longest", "PyTorch imported"]
    keep(
        "refusals",
        "How long a refusal takes",
        [table(header, lines)],
        {"refusals": [vars(one) | {"words": list(one.words)} for one in found]},
    )


if __name__ == "__main__":
    raise SystemExit(run(main))
