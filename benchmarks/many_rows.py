"""Memory against the number of rows: reading, tokenizing, training and prediction of up to ten million of them.

Each step runs in a process of its own, on synthetic rows of a dozen words, with a classifier of a few kilobytes: what
is asked is how memory grows, not how fast a model is. Private memory is what a process cannot give back; pages of
mapped files count in the resident set, and the system takes them away when others want the memory.

    python benchmarks/many_rows.py --work FOLDER --rows 100000 1000000 10000000
    python benchmarks/many_rows.py --work FOLDER --rows 1000000 10000000 100000000 \\
        --steps "upstream training" --name many_documents

Steps that are measured already (in the folder `--work`) are not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from record import keep, table
from resparse.console import run, say
from resparse.files import whole_file, write_json

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

_DISTINCT = 20_000
_LENGTH = 12
_EVERY = 0.02  # seconds between looks at the memory
LIMIT_MIB = 2560
_KINDS = ("csv", "jsonl", "parquet", "txt")


def texts() -> list[str]:
    """Distinct texts, which the rows take in turns."""
    from support.deployment import WORDS

    source = random.Random(0)
    return [" ".join(source.choices(WORDS[:11], k=_LENGTH)) for _ in range(_DISTINCT)]


def rows_file(folder: Path, kind: str, rows: int) -> Path:
    """A file of so many rows, made where it is missing."""
    path = folder / f"rows-{rows}.{kind}"
    if path.is_file():
        return path
    pool = texts()
    with whole_file(path) as temporary:
        if kind == "parquet":
            _write_parquet(temporary, pool, rows)
        else:
            with temporary.open("w", encoding="utf-8") as file:
                if kind == "csv":
                    file.write("id,text,label\n")
                for begin in range(0, rows, _DISTINCT):
                    chunk = enumerate(pool[: rows - begin], start=begin)
                    file.write("".join(_line(kind, index, text) for index, text in chunk))
    return path


def _line(kind: str, index: int, text: str) -> str:
    if kind == "csv":
        return f"{index},{text},{'no' if index % 2 else 'yes'}\n"
    if kind == "jsonl":
        return f'{{"id": {index}, "text": "{text}", "label": {index % 2}}}\n'
    return f"{text}\n"


def _write_parquet(path: Path, pool: list[str], rows: int) -> None:
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([("id", pyarrow.int64()), ("text", pyarrow.string()), ("label", pyarrow.int64())])
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for begin in range(0, rows, _DISTINCT):
            ids = range(begin, min(begin + _DISTINCT, rows))
            columns = [list(ids), pool[: len(ids)], [index % 2 for index in ids]]
            writer.write_table(pyarrow.table(dict(zip(schema.names, columns, strict=True)), schema))


def classifier(folder: Path) -> Path:
    """The deployment of a tiny classifier, made where it is missing."""
    from support.deployment import deployment

    path = folder / "classifier"
    return path if path.is_dir() else deployment(path)


def predict(folder: Path, rows: int, kind: str) -> None:
    """`sparseml predict`."""
    from deepsparse.predict import main

    output = folder / f"labelled.{kind}"
    files = ["--input", str(rows_file(folder, kind, rows)), "--output", str(output), "--overwrite"]
    main([str(classifier(folder)), *files, "--num-cores", "1"])
    output.unlink()


def actor(folder: Path, rows: int, kind: str) -> None:
    """What an actor of `sparseml predict --ray` does, were it alone: the blocks are planned here, too."""
    import shutil

    from deepsparse import Scorer, blocks
    from deepsparse.remote_files import Folder, find_files

    output = folder / f"scored-{kind}"
    files = find_files(str(rows_file(folder, kind, rows)), blocks.ENDINGS)
    schema, scorer = blocks.read_schema(files), Scorer(classifier(folder))
    labelled = 0
    for block in blocks.plan(files, 50_000):
        labelled += blocks.score_block(scorer, block, schema, Folder(str(output))).labelled
    assert labelled == rows
    shutil.rmtree(output)


def classification_data(folder: Path, rows: int, kind: str) -> None:
    """Reading, checking and tokenizing the training data of a classifier."""
    from sparseml.data import DataOptions, load_text_data, tokenize

    path = rows_file(folder, kind, rows)
    data = load_text_data(DataOptions(train_file=str(path), needs_eval=False, needs_train=True))
    assert data.train is not None
    encoded = tokenize(data.train, data.columns, _tokenizer(), 128)
    assert len(encoded) == rows


def corpus(folder: Path, rows: int, kind: str) -> None:
    """Tokenizing plain text for upstream training, a document a row."""
    from sparseml.data.text_sources import FileSource
    from sparseml.data.token_file import tokenize_corpus

    path = rows_file(folder, kind, rows)
    tokens = tokenize_corpus([FileSource(path, line_by_line=True)], _tokenizer(), again=True)
    assert tokens.documents == rows


def upstream(folder: Path, rows: int, kind: str) -> None:
    """A few steps of upstream training on the token file of so many documents, with memory limited.

    A small corpus is tokenized, and its token file grown: tokenizing so many has a step of its own.
    """
    from sparseml.transformers.masked_language_modeling import main

    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_MIB << 20, LIMIT_MIB << 20))
    path = rows_file(folder, kind, _DISTINCT)
    recipe = folder / "recipe.yaml"
    recipe.write_text("modifiers:\n  - !PerLayerDistillationModifier {}\n", encoding="utf-8")
    words = ["--train_file", str(path), "--line_by_line", "true", "--recipe", str(recipe)]
    words += ["--distill_teacher", "self", "--output_dir", str(folder / "upstream"), "--overwrite_output_dir"]
    words += [
        "--do_train",
        "--max_steps",
        "10",
        "--per_device_train_batch_size",
        "4",
        "--max_seq_length",
        "64",
    ]
    main(words)
    (tokens,) = Path(os.environ["SPARSEZOO_MODELS_PATH"]).glob(".cache/tokens/*/about.json")
    _grow(tokens.parent, rows)
    main(words)


def _grow(folder: Path, documents: int) -> None:
    """Repeat the documents of a token file until there are so many."""
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    tokens, ends = (
        np.fromfile(folder / "tokens.bin", about["dtype"]),
        np.fromfile(folder / "ends.bin", np.int64),
    )
    times = -(-documents // len(ends))
    with (folder / "tokens.bin").open("wb") as file, (folder / "ends.bin").open("wb") as bounds:
        for index in range(times):
            tokens.tofile(file)
            (ends + index * len(tokens)).tofile(bounds)
    write_json(folder / "about.json", {**about, "tokens": times * len(tokens)})


def _tokenizer() -> Any:
    from process import SPARSE_MODEL
    from sparseml.session.models import load_tokenizer, resolve

    return load_tokenizer(resolve(SPARSE_MODEL))


UPSTREAM = "upstream training"
STEPS: dict[str, tuple[Callable[[Path, int, str], None], str]] = {
    "predict, CSV": (predict, "csv"),
    "predict, JSON Lines": (predict, "jsonl"),
    "actor of predict --ray, Parquet": (actor, "parquet"),
    "actor of predict --ray, CSV": (actor, "csv"),
    "plain text tokenized, text": (corpus, "txt"),
    "plain text tokenized, JSON Lines": (corpus, "jsonl"),
    "plain text tokenized, Parquet": (corpus, "parquet"),
    UPSTREAM: (upstream, "txt"),
    "classification data, CSV": (classification_data, "csv"),
    "classification data, JSON Lines": (classification_data, "jsonl"),
    "classification data, Parquet": (classification_data, "parquet"),
}


class _Watch(threading.Thread):
    """Looks at this process's private memory until the process ends."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_kib = 0

    def run(self) -> None:
        while True:
            self.look()
            time.sleep(_EVERY)

    def look(self) -> None:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        private = next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
        self.peak_kib = max(self.peak_kib, private)


def _work(name: str, folder: Path, rows: int) -> None:
    step, kind = STEPS[name]
    watch = _Watch()
    watch.start()
    started, before = time.perf_counter(), time.process_time()
    step(folder, rows, kind)
    seconds, busy = time.perf_counter() - started, time.process_time() - before
    watch.look()
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps(
            {
                "seconds": seconds,
                "cpu_seconds": busy,
                "private_mib": watch.peak_kib / 1024,
                "resident_mib": resident / 1024,
            }
        )
    )


def measured(folder: Path, name: str, rows: int) -> dict[str, Any] | None:
    """What a step takes of so many rows; None where it fails."""
    step, kind = STEPS[name]
    path = folder / "outcomes" / f"{step.__name__}-{kind}-{rows}.json"
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    rows_file(folder, kind, _DISTINCT if name == UPSTREAM else rows)
    classifier(folder)
    command = [sys.executable, __file__, "--work", str(folder), "--step", name, "--rows", str(rows)]
    environment = {**os.environ, "SPARSEZOO_MODELS_PATH": str(folder / f"zoo-{step.__name__}")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        say(f"{name}, {rows:,} rows: {(done.stderr.strip().splitlines() or ['it was ended'])[-1]}")
        return None
    found = json.loads(done.stdout.splitlines()[-1])
    write_json(path, found)
    return found


def slope(points: list[tuple[int, float]]) -> float:
    """Bytes a row between the first point and the last; points are rows and MiB."""
    (few, less), (many, more) = points[0], points[-1]
    return (more - less) * 2**20 / (many - few)


def lines(found: dict[str, dict[int, dict[str, Any]]], counts: list[int]) -> Iterator[list[str]]:
    """The table's lines."""
    for name, by_rows in found.items():
        cells = [f"{by_rows[rows]['private_mib']:,.0f} MiB" if rows in by_rows else "-" for rows in counts]
        points = [(rows, by_rows[rows]["private_mib"]) for rows in counts if rows in by_rows]
        if not points:
            continue
        most = points[-1][0]
        a_row = f"{slope(points):,.1f}" if len(points) > 1 else "-"
        resident = f"{by_rows[most]['resident_mib']:,.0f} MiB"
        # Upstream training reads a few of its documents.
        pace = "-" if name == UPSTREAM else f"{most / by_rows[most]['cpu_seconds']:,.0f}"
        yield [name, *cells, a_row, resident, pace]


def main() -> int | None:
    """Measure, and keep the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument(
        "--steps",
        nargs="+",
        default=[name for name in STEPS if name != UPSTREAM],
        metavar="STEP",
        help=", ".join(STEPS),
    )
    parser.add_argument("--work", type=Path, required=True, help="rows and outcomes; to resume")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--name", default="many_rows")
    given = parser.parse_args()
    if given.step:
        _work(given.step, given.work, given.rows[0])
        return None
    given.work.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in given.steps}
    for rows in given.rows:
        for name in given.steps:
            if (outcome := measured(given.work, name, rows)) is not None:
                found[name][rows] = outcome
                say(f"{name}, {rows:,} rows: {outcome['private_mib']:,.0f} MiB, {outcome['seconds']:,.0f} s")
    header = ["private memory at its peak", *(f"{rows:,} rows" for rows in given.rows)]
    header += ["bytes a row", "resident set", "rows a CPU second"]
    keep(
        given.name,
        "Memory against the number of rows",
        [table(header, lines(found, given.rows)), _NOTES],
        {"steps": found},
    )


_NOTES = f"""\
A row is a text of {_LENGTH} words, with an id and a label. "Bytes a row" is the slope between the fewest rows and the
most; "resident set" and "rows a CPU second" are of the most. Upstream training is allowed {LIMIT_MIB:,} MiB of private
memory (RLIMIT_DATA)."""


if __name__ == "__main__":
    raise SystemExit(run(main))
