"""What a benchmark computes: made-up arrays, or a user's own texts from text to label."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deepsparse.backends.base import TensorSpec
from deepsparse.deployment import CONFIG, read_json
from deepsparse.engine import Engine
from deepsparse.errors import EngineError, InputError
from deepsparse.inputs import Row as TextRow
from deepsparse.inputs import parse_row
from deepsparse.pipeline import Pipeline
from deepsparse.tables import Row, open_table, text_columns, wide_fields
from resparse.arrays import Array

_MOST_TEXTS = 10_000
_SEQUENCE_LENGTH = 128
Shapes = list[tuple[int, ...]]


@dataclass(frozen=True)
class Workload:
    """Something to time.

    Attributes:
        work: one run; safe to call from several threads.
        items: rows in one run.
        engine: what computes.
    """

    work: Callable[[], object]
    items: int
    engine: Engine


@dataclass(frozen=True)
class Settings:
    """How an engine is set up, and with what it is fed.

    Attributes:
        model: as the user named it.
        batch_size: rows in one run.
        sequence_length: tokens a row: made up, or the most of a text.
        shapes: of the made-up inputs, where the user gave them.
        texts: the user's own rows, instead of made-up arrays.
        num_cores, num_streams, scheduler: see `Engine`.
    """

    model: str
    batch_size: int = 1
    sequence_length: int | None = None
    shapes: Shapes | None = None
    texts: Sequence[TextRow] | None = None
    num_cores: int | None = None
    num_streams: int | None = None
    scheduler: str | None = None


def prepare(settings: Settings, engine_type: str) -> Workload:
    """Set an engine up, with something to compute.

    Raises:
        UserError: no such engine, or a model that cannot be loaded.
    """
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
    feeds = made_up(engine, settings)
    items = next(iter(feeds.values())).shape[0]
    return Workload(lambda: engine.run(feeds), items, engine)


def read_texts(path: Path) -> list[TextRow]:
    """The texts of a file: CSV, TSV, JSON Lines by their columns; of any other, each line.

    Raises:
        UserError: no such file, or no texts in it.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    found: list[TextRow] = []
    if path.suffix.lower() in (".csv", ".tsv", ".jsonl", ".ndjson", ".json"):
        wide_fields()
        table = open_table(path)
        columns = text_columns(table, None, path)
        candidates = (
            [row.values.get(name) for name in columns]
            for row in table.rows(table.start)
            if isinstance(row, Row)
        )
    else:
        candidates = ([line] for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    for candidate in candidates:
        try:
            found.append(parse_row(candidate, "the row"))
        except InputError:
            continue  # an empty line: nothing to time
        if len(found) == _MOST_TEXTS:
            break
    if not found:
        raise InputError(f"{path} holds no text.")
    return found


def parse_shapes(text: str) -> Shapes:
    """Shapes as DeepSparse takes them: "[1,128],[1,128]".

    Raises:
        EngineError: they are none.
    """
    try:
        value = ast.literal_eval(f"[{text}]")
        shapes = [tuple(int(size) for size in shape) for shape in value]
    except (ValueError, TypeError, SyntaxError) as error:
        raise EngineError(f"{text!r} are no shapes: [1,128],[1,128] for two inputs, for example.") from error
    if any(size < 1 for shape in shapes for size in shape):
        raise EngineError(f"{text!r}: sizes from 1 on are wanted.")
    return shapes


def made_up(engine: Engine, settings: Settings) -> dict[str, Array]:
    """Arrays that the model takes: random token ids, full attention, and random numbers elsewhere.

    Raises:
        EngineError: shapes of another number than inputs.
    """
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


def _texts(settings: Settings, texts: Sequence[TextRow], engine_type: str) -> Workload:
    """From text to label, `batch_size` rows at a time, over and over."""
    pipeline = Pipeline.create(
        "text_classification",
        settings.model,
        engine_type=engine_type,
        num_cores=settings.num_cores,
        num_streams=settings.num_streams,
        scheduler=settings.scheduler,
        sequence_length=settings.sequence_length or _SEQUENCE_LENGTH,
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
