"""`sparseml predict`: predictions for a file of any size; a run that was cut off goes on where it stopped."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from deepsparse import tasks
from deepsparse.backends import AUTOMATIC
from deepsparse.command_line import ArgumentsError, Parser, normal_options
from deepsparse.deployment import open_deployment
from deepsparse.errors import DeepsparseError
from deepsparse.lengths import longer_text
from deepsparse.pipeline import USUAL_LENGTH, WINDOW, Pipeline
from deepsparse.rows import BadRow, Place, Row, TableError
from deepsparse.scorer import parse
from deepsparse.tables import NOT_UTF8, Table, Writer, open_table, writer_for
from resparse.confidence import KEYS
from resparse.console import say, warn
from resparse.files import WriteError, remove_leftovers, write_json
from resparse.long_texts import KEY as LONG_TEXTS
from resparse.long_texts import POOLINGS, READS
from resparse.progress import share

_SHOWN = 5
# Settings that some task has; the options are of the same names.
_SETTINGS = (
    *("top_k", "threshold", "min_score", "out_of_scope_label"),
    *("long_texts", "window_stride", "window_pooling", "max_windows"),
)
_OF_RAY = ("ray-address", "actors", "block-rows")


class PredictError(DeepsparseError):
    """An output file that must not be written."""


@dataclass(frozen=True)
class Paths:
    """The files of one run."""

    rows: Path
    output: Path

    @property
    def rejected(self) -> Path:
        """The rows that could not be labelled, beside the output; only there when there are any."""
        return self.output.with_name(f"{self.output.stem}.rejected.jsonl")

    @property
    def progress(self) -> Path:
        """The file that notes how far a run has come."""
        return self.output.with_name(f".{self.output.name}.progress.json")

    def part(self, whole: Path) -> Path:
        """Where a file is written until it is complete."""
        return whole.with_name(f".{whole.name}.part")


@dataclass
class Progress:
    """How far a run has come: everything before these positions is done and on the disk."""

    place: Place
    labelled: int = 0
    refused: int = 0
    longer: int = 0
    unread: int = 0
    output_bytes: int = 0
    rejected_bytes: int = 0


def main(words: Sequence[str]) -> int:
    """Run the command."""
    arguments = _parser().parse_args(normal_options(words))
    # Not every task has such a setting; it is an error only where it is asked for.
    asked_for = {name: getattr(arguments, name) for name in _SETTINGS}
    settings = {
        "sequence_length": arguments.sequence_length,
        "engine_type": arguments.engine,
        **{name: value for name, value in asked_for.items() if value is not None},
    }
    if arguments.ray:
        _with_ray(arguments, settings)
        return 0
    if given := [name for name in _OF_RAY if getattr(arguments, name.replace("-", "_")) is not None]:
        raise ArgumentsError(f"--{given[0]} is of --ray: give that, too, or leave it out.")
    paths = Paths(Path(arguments.input), Path(arguments.output))
    _check(paths, arguments.overwrite)
    table = open_table(paths.rows)
    deployment = open_deployment(arguments.model)
    asked = arguments.input_column_names
    columns = tasks.of_deployment(deployment).find_columns(
        table.columns, asked, paths.rows, deployment.text_columns()
    )
    pipeline = Pipeline.create(model_path=deployment, num_cores=arguments.num_cores, **settings)
    _Run(paths, table, columns, pipeline).go()
    return 0


def _with_ray(arguments: argparse.Namespace, settings: dict[str, Any]) -> None:
    try:
        from deepsparse import ray_predict
    except ImportError as error:
        if error.name not in ("ray", "pyarrow", "fsspec"):
            raise
        raise PredictError(f"--ray needs the package {error.name}: pip install 'resparse[ray]'.") from error
    ray_predict.predict(arguments, settings)


class _Run:
    """Predictions for one file, window by window; after each, output and progress are on the disk."""

    def __init__(
        self, paths: Paths, table: Table, columns: Sequence[str], pipeline: Pipeline[Any, Any]
    ) -> None:
        self._paths = paths
        self._table = table
        self._columns = columns
        self._pipeline = pipeline
        self._task = pipeline.handler
        self._added = self._task.columns()
        if taken := [name for name in self._added if name in table.columns]:
            raise TableError(f"{paths.rows} has a column {taken[0]!r} already: rename it.")
        self._first_refused: list[BadRow] = []
        # The summary says it for the whole file.
        pipeline.lengths.told = lambda longer, unread: None

    def go(self) -> None:
        paths = self._paths
        key = self._key()
        progress = _resumed(paths, key) or Progress(self._table.start)
        self._longer_before = progress.longer, progress.unread
        try:
            with ExitStack() as stack:
                output = stack.enter_context(_opened(paths.part(paths.output), progress.output_bytes))
                refused = stack.enter_context(_opened(paths.part(paths.rejected), progress.rejected_bytes))
                writer = writer_for(paths.output, paths.rows, output, [*self._table.columns, *self._added])
                if progress.output_bytes == 0:
                    writer.writeheader()
                advance = stack.enter_context(
                    share(f"labelling {paths.rows.name}", paths.rows.stat().st_size)
                )
                source = self._table.rows(progress.place)
                while window := list(islice(source, WINDOW)):
                    self._label(window, writer, refused, progress)
                    for file in (output, refused):
                        file.flush()
                        os.fsync(file.fileno())
                    progress.place = window[-1].after
                    lengths, (longer, unread) = self._pipeline.lengths, self._longer_before
                    progress.longer, progress.unread = longer + lengths.longer, unread + lengths.unread
                    progress.output_bytes, progress.rejected_bytes = output.tell(), refused.tell()
                    done = {**vars(progress), "place": [progress.place.byte, progress.place.line]}
                    write_json(paths.progress, {"key": key, "done": done})
                    advance(progress.place.byte)
        except OSError as error:
            raise WriteError(
                f"Could not write {paths.output}: {error.strerror or error}. What is done is kept: run the same "
                "command again to go on."
            ) from error
        self._finish(progress)

    def _label(
        self, window: Sequence[Row | BadRow], writer: Writer, refused: TextIO, progress: Progress
    ) -> None:
        """Write a window's rows: predictions to the output, rows that cannot be read to the rejected ones."""
        for found in self._labelled(window):
            if isinstance(found, BadRow):
                progress.refused += 1
                self._first_refused = [*self._first_refused, found][:_SHOWN]
                entry = {"line": found.line, "reason": found.reason, "row": found.raw}
                refused.write(json.dumps(entry, ensure_ascii=False) + "\n")
            else:
                progress.labelled += 1
                writer.writerow(found)

    def _labelled(self, window: Sequence[Row | BadRow]) -> Iterator[dict[str, Any] | BadRow]:
        """Each row with its prediction, or what is wrong with it, in order."""
        parsed = [row if isinstance(row, BadRow) else self._parsed(row) for row in window]
        predictions = iter(self._pipeline.predict([row for row in parsed if not isinstance(row, BadRow)]))
        for row, inputs in zip(window, parsed, strict=True):
            if isinstance(inputs, BadRow):
                yield inputs
            elif isinstance(row, Row):
                values = self._task.values(next(predictions))
                yield {**row.values, **dict(zip(self._added, values, strict=True))}

    def _parsed(self, row: Row) -> Any:
        """The task's row from a file's row; a BadRow where the task cannot read it."""
        inputs, reason = parse(self._task, self._columns, [row.values.get(name) for name in self._columns])
        return inputs if reason is None else BadRow(row.line, row.after, reason, row.raw)

    def _key(self) -> dict[str, Any]:
        """What must be unchanged for a run to be resumed."""
        rows, model = self._paths.rows.stat(), self._pipeline.model_path.stat()
        return {
            "input": [rows.st_size, rows.st_mtime_ns],
            "model": [str(self._pipeline.model_path.resolve()), model.st_size, model.st_mtime_ns],
            "labels": self._pipeline.handler.deployment.config.get("id2label"),
            "columns": list(self._columns),
            "settings": [
                self._added,
                self._pipeline.sequence_length,
                self._pipeline.describe().get("threshold"),
                self._pipeline.describe().get(LONG_TEXTS),
                *([sure] if (sure := self._confidence()) else []),
            ],
        }

    def _confidence(self) -> dict[str, Any]:
        """What decides whether a row gets a label; {} where every row does."""
        described = self._pipeline.describe()
        return {name: described[name] for name in KEYS if name in described}

    def _finish(self, progress: Progress) -> None:
        paths = self._paths
        if progress.labelled == 0 and progress.refused == 0:
            warn(f"{paths.rows} has no rows below its header.")
        paths.rejected.unlink(missing_ok=True)
        if progress.refused:
            paths.part(paths.rejected).replace(paths.rejected)
        else:
            paths.part(paths.rejected).unlink()
        paths.progress.unlink(missing_ok=True)
        remove_leftovers(paths.progress)  # of a run that was killed while it noted its progress
        if progress.refused and not progress.labelled:
            paths.part(paths.output).unlink()
            raise self._nothing_labelled(progress.refused)
        paths.part(paths.output).replace(paths.output)
        say(f"{paths.output}: {progress.labelled:,} rows labelled")
        lengths = self._pipeline.lengths
        longer = longer_text(progress.longer, progress.unread, lengths.tokens, lengths.windows)
        if longer is not None:
            say(longer)
        if progress.refused:
            warn(f"{progress.refused:,} rows could not be labelled; they are in {paths.rejected}:")
            for row in self._first_refused:
                say(f"  {paths.rows}, line {row.line}: {row.reason}")

    def _nothing_labelled(self, refused: int) -> PredictError:
        paths, first = self._paths, self._first_refused[0] if self._first_refused else None
        why = f" Line {first.line}: {first.reason}." if first is not None else ""
        if first is not None and first.reason == NOT_UTF8:
            target = paths.rows.with_name(f"{paths.rows.stem}-utf8{paths.rows.suffix}")
            why += (
                f" Convert the file, for instance: iconv -f WINDOWS-1252 -t UTF-8 '{paths.rows}' > '{target}'"
            )
        return PredictError(
            f"None of the {refused:,} rows of {paths.rows} could be labelled; they are in {paths.rejected}.{why}"
        )


def _opened(path: Path, size: int) -> Any:
    """A file opened for writing after its first `size` bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("r+" if size else "w", encoding="utf-8", newline="")
    file.truncate(size)
    file.seek(size)
    return file


def _resumed(paths: Paths, key: dict[str, Any]) -> Progress | None:
    """The progress of an earlier run; None where there is none, or its file, model or settings were others."""
    try:
        noted = json.loads(paths.progress.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(noted, dict) or noted.get("key") != key:
        say(f"{paths.rows} is labelled from its beginning: file, model or settings have changed.")
        return None
    done = noted["done"]
    progress = Progress(Place(*done.pop("place")), **done)
    parts = (
        (paths.part(paths.output), progress.output_bytes),
        (paths.part(paths.rejected), progress.rejected_bytes),
    )
    if any(not part.is_file() or part.stat().st_size < size for part, size in parts):
        return None
    say(f"going on at line {progress.place.line:,} of {paths.rows}; {progress.labelled:,} rows are labelled")
    return progress


def _check(paths: Paths, overwrite: bool) -> None:
    if paths.output.exists() and not overwrite:
        raise PredictError(f"{paths.output} is there already: give another --output, or --overwrite.")
    if paths.output.exists() and paths.rows.exists() and paths.output.samefile(paths.rows):
        raise PredictError("--output is the --input itself: give another.")


def _parser() -> Parser:
    parser = Parser(
        "sparseml predict",
        "Label each row of a CSV, TSV or JSON Lines file. A run that was cut off goes on when repeated.",
        "for example:\n  sparseml predict deployment/ --input rows.csv --output labelled.csv",
    )
    add = parser.add_argument
    add("model", help="a deployment folder, an .onnx file, or a zoo: stub")
    add("--input", required=True, help="the rows, with a header line (or JSON Lines)")
    add("--output", required=True, help="the same rows, with predicted_label and predicted_score")
    add("--input-column-names", help="the text column, or two with a comma between [found by their names]")
    add(
        "--top-k", type=parser.count, help="labels for each row, best first [1; of several, those that count]"
    )
    add("--threshold", type=float, help="of several labels, those with a higher score count [the model's]")
    add(
        "--min-score",
        type=float,
        help="no label for rows whose best has a lower score; 0: all get one [the model's]",
    )
    add("--out-of-scope-label", help="the label of such rows [the model's, or none]")
    add(
        "--sequence-length",
        type=parser.count,
        default=USUAL_LENGTH,
        help="tokens that a text, or a window of a passage, is cut to [128, or the model's own]",
    )
    add(
        "--long-texts",
        choices=READS,
        help="of longer texts, read the first window or all [as the model was trained]",
    )
    add("--window-stride", type=int, help="tokens that neighbouring windows have in common [the model's]")
    add("--window-pooling", choices=POOLINGS, help="of the windows' logits [the model's]")
    add("--max-windows", type=parser.count, help="windows of a text, at most [the model's]")
    add("--engine", default=AUTOMATIC, help="native, onnxruntime, openvino, ... [the best here]")
    add("--num-cores", type=parser.count, help="threads that compute [all cores]")
    add("--overwrite", action="store_true", help="replace an output that is there already")
    add = parser.add_argument_group(
        "on a Ray cluster",
        "Parquet, CSV, TSV or JSON Lines to a folder of Parquet; of any file system of fsspec.",
    ).add_argument
    add("--ray", action="store_true", help="--input is a file, a folder or a pattern, --output a folder")
    add("--ray-address", metavar="ADDRESS", help="of the cluster [RAY_ADDRESS, else this machine alone]")
    add(
        "--actors", type=parser.count, help="processes of --num-cores threads each [all cores, a thread each]"
    )
    add("--block-rows", type=parser.count, help="rows of an output file at most [50,000]")
    return parser
