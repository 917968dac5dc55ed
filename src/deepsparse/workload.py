"""What a benchmark runs, and its timing: made-up arrays through an engine, or a user's rows through a pipeline."""

from __future__ import annotations

import ast
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deepsparse import tasks
from deepsparse.backends.base import TensorSpec
from deepsparse.deployment import CONFIG, read_json
from deepsparse.engine import Engine
from deepsparse.errors import EngineError, InputError
from deepsparse.pipeline import USUAL_LENGTH, Pipeline
from deepsparse.rows import Row as TableRow
from deepsparse.tables import open_table
from deepsparse.tasks.base import Row, Task
from resparse.arrays import Array

_MOST_TEXTS = 10_000
_SEQUENCE_LENGTH = 128
_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
PERCENTILES = (25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9)
Shapes = list[tuple[int, ...]]


@dataclass(frozen=True)
class Workload:
    """A run of `items` rows, to be timed again and again; `work` is safe to call from several threads."""

    work: Callable[[], object]
    items: int
    engine: Engine


@dataclass(frozen=True)
class Settings:
    """How an engine is set up, and its inputs.

    Attributes:
        model: as the user named it.
        batch_size: rows in one run.
        sequence_length: tokens of a made-up row, or at most of a text.
        shapes: of the made-up inputs, where the user gave them.
        texts: the user's own rows, instead of made-up arrays.
        num_cores, num_streams, scheduler: see `Engine`.
    """

    model: str
    batch_size: int = 1
    sequence_length: int | None = None
    shapes: Shapes | None = None
    texts: Sequence[Row] | None = None
    num_cores: int | None = None
    num_streams: int | None = None
    scheduler: str | None = None


def prepare(settings: Settings, engine_type: str) -> Workload:
    """Load an engine, and prepare its inputs."""
    if settings.texts is not None:
        return _texts(settings, settings.texts, engine_type)
    engine = Engine(
        settings.model,
        settings.batch_size,
        settings.num_cores,
        settings.num_streams,
        settings.scheduler,
        engine_type=engine_type,
    )
    feeds = random_feeds(engine, settings)
    items = next(iter(feeds.values())).shape[0]
    return Workload(lambda: engine.run(feeds), items, engine)


def read_texts(
    path: Path, task: type[Task[Any, Any]] | None = None, trained: Sequence[str] = ()
) -> list[Row]:
    """The rows of a file: of CSV, TSV, JSON Lines by their columns; of any other, each line.

    `task` makes rows of the columns; by default text classification. `trained` are those of the model's training.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    task = task or tasks.find(tasks.DEFAULT)
    found: list[Row] = []
    for values in _values(path, task, trained):
        try:
            found.append(task.parse_values(values, "the row"))
        except InputError:
            continue  # an empty line: nothing to time
        if len(found) == _MOST_TEXTS:
            break
    if not found:
        raise InputError(f"{path} holds no text.")
    return found


def parse_shapes(text: str) -> Shapes:
    """Shapes as DeepSparse takes them, "[1,128],[1,128]"; an EngineError where they are none."""
    try:
        value = ast.literal_eval(f"[{text}]")
        shapes = [tuple(int(size) for size in shape) for shape in value]
    except (ValueError, TypeError, SyntaxError) as error:
        raise EngineError(f"{text!r} are no shapes: [1,128],[1,128] for two inputs, for example.") from error
    if any(size < 1 for shape in shapes for size in shape):
        raise EngineError(f"{text!r}: sizes from 1 on are wanted.")
    return shapes


def random_feeds(engine: Engine, settings: Settings) -> dict[str, Array]:
    """Arrays that the model takes: random token ids, full attention, and random numbers elsewhere."""
    shapes = settings.shapes or [_shape(spec, settings) for spec in engine.inputs]
    if len(shapes) != len(engine.inputs):
        raise EngineError(
            f"{len(shapes)} shapes for {len(engine.inputs)} inputs ({', '.join(engine.input_names)})."
        )
    source = np.random.default_rng(0)
    vocabulary = _vocabulary(engine.model_path.parent)
    feeds = {}
    for spec, shape in zip(engine.inputs, shapes, strict=True):
        if spec.name == "attention_mask":
            feeds[spec.name] = np.ones(shape, spec.dtype)
        elif spec.name == "input_ids":
            feeds[spec.name] = source.integers(0, vocabulary, shape).astype(spec.dtype)
        elif spec.dtype.kind in "iub":
            feeds[spec.name] = np.zeros(shape, spec.dtype)
        else:
            feeds[spec.name] = source.random(shape).astype(spec.dtype)
    return feeds


@dataclass
class Timings:
    """How long each run of `items` rows took, and the time from the start of the first run to the end of the last."""

    items: int
    seconds: list[float] = field(default_factory=list)
    elapsed: float = 0.0

    @property
    def items_per_second(self) -> float:
        return self.items * len(self.seconds) / self.elapsed if self.elapsed else 0.0

    def milliseconds(self, percentile: float) -> float:
        """A percentile of the runs' durations."""
        return float(np.percentile(self.seconds, percentile)) * 1e3

    def add(self, other: Timings) -> None:
        self.seconds += other.seconds
        self.elapsed += other.elapsed

    def summary(self) -> dict[str, Any]:
        """The statistics under DeepSparse's names: milliseconds, and items per second."""
        spent = np.asarray(self.seconds) * 1e3
        return {
            "items_per_sec": self.items_per_second,
            "seconds_ran": self.elapsed,
            "iterations": len(self.seconds),
            "mean": float(spent.mean()),
            "median": float(np.median(spent)),
            "std": float(spent.std()),
            **{f"{percentile:g}%": float(np.percentile(spent, percentile)) for percentile in PERCENTILES},
        }


def measure(work: Callable[[], object], seconds: float, items: int, callers: int = 1) -> Timings:
    """Repeat `work`, of `items` rows, from `callers` threads at once, from each at least once.

    No run starts after `seconds`. Raises the first error that `work` raised.
    """
    if callers == 1:
        return _repeat(work, seconds, items)
    results: list[Timings | BaseException] = []

    def caller() -> None:
        try:
            results.append(_repeat(work, seconds, items))
        except BaseException as error:
            results.append(error)

    threads = [threading.Thread(target=caller) for _ in range(callers)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = Timings(items)
    for result in results:
        if isinstance(result, BaseException):
            raise result
        total.add(result)
    total.elapsed = time.perf_counter() - begun
    return total


def _values(path: Path, task: type[Task[Any, Any]], trained: Sequence[str]) -> Iterable[Sequence[Any]]:
    """The values of each row of a file."""
    if path.suffix.lower() not in _TABLES:
        return ([line] for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    table = open_table(path)
    columns = task.find_columns(table.columns, None, path, trained)
    rows = (row.values for row in table.rows(table.start) if isinstance(row, TableRow))
    return ([row.get(name) for name in columns] for row in rows)


def _texts(settings: Settings, texts: Sequence[Row], engine_type: str) -> Workload:
    """From text to prediction, `batch_size` rows at a time, over and over."""
    pipeline = Pipeline.create(
        model_path=settings.model,
        engine_type=engine_type,
        num_cores=settings.num_cores,
        num_streams=settings.num_streams,
        scheduler=settings.scheduler,
        sequence_length=settings.sequence_length or USUAL_LENGTH,
    )
    size = settings.batch_size
    batches = [list(texts[start : start + size]) for start in range(0, len(texts) - size + 1, size)]
    if not batches:
        raise EngineError(f"A batch of {size} is more than the {len(texts)} texts.")
    order = itertools.cycle(batches)
    return Workload(lambda: pipeline.predict(next(order)), size, pipeline.engine)


def _shape(spec: TensorSpec, settings: Settings) -> tuple[int, ...]:
    usual = (settings.batch_size, settings.sequence_length or _SEQUENCE_LENGTH)
    return tuple(
        size if size is not None else (usual[place] if place < len(usual) else 1)
        for place, size in enumerate(spec.shape)
    )


def _vocabulary(folder: Path) -> int:
    if not (folder / CONFIG).is_file():
        return 100
    return int(read_json(folder / CONFIG, "").get("vocab_size", 100))


def _repeat(work: Callable[[], object], seconds: float, items: int) -> Timings:
    found = Timings(items)
    begun = now = time.perf_counter()
    while not found.seconds or now - begun < seconds:
        work()
        after = time.perf_counter()
        found.seconds.append(after - now)
        now = after
    found.elapsed = now - begun
    return found
