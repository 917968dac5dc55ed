"""`Scorer`: a deployment as a function of blocks of rows, as Ray Data, Spark and joblib call one."""

from __future__ import annotations

import copy
import json
import math
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from deepsparse.errors import InputError
from deepsparse.pipeline import WINDOW, Pipeline
from deepsparse.rows import TableError
from deepsparse.tasks.base import Task

ERROR: Final = "prediction_error"
"""The column that says why a row has no prediction; null where it has one."""

_MOST_PIPELINES: Final = 4
_pipelines: dict[tuple[object, ...], Pipeline[Any, Any]] = {}
_lock = threading.Lock()


class Scorer:
    """Adds a model's predictions to blocks of rows; may be pickled, and has its pipeline made where it is called.

    A block is a dictionary of columns (arrays or lists), a pandas DataFrame, a PyArrow Table or RecordBatch; what comes
    back is of the same kind, with the columns of `fields` added, and has as many rows. An iterator of blocks gives an
    iterator. A row without a prediction has nulls in them, and the reason in `prediction_error`: one bad row in a
    billion is no reason to end a job.

    Engines unpickle their function for each task or partition, so a process keeps the pipelines it has made, and two
    scorers of one model and settings share one.

    Args:
        path: see `Pipeline.create`; wherever the scorer is called, it must be there.
        threads: that compute. One, where an engine starts a process for each core.
        columns: the columns that make a row, as a list or with commas between; None finds them by their usual names.
        settings: of `Pipeline.create`.

    Raises:
        ModelError, EngineError: at the first call, or at `fields`; see `Pipeline.create`.
        TableError: at a call: the block lacks the columns, or has one of the name of an added one.
    """

    def __init__(
        self,
        path: str | Path,
        threads: int = 1,
        *,
        columns: str | Sequence[str] | None = None,
        **settings: Any,
    ) -> None:
        self.path = str(path)
        self.threads = threads
        self.columns = columns if columns is None or isinstance(columns, str) else ",".join(columns)
        self.settings = settings
        self._fields: dict[str, str] | None = None
        # What Spark and joblib call a function in their logs.
        self.__name__ = type(self).__name__

    @property
    def pipeline(self) -> Pipeline[Any, Any]:
        """The pipeline of this process, made when it is first asked for."""
        key = (os.getpid(), self.path, self.threads, json.dumps(self.settings, sort_keys=True, default=repr))
        with _lock:
            if key not in _pipelines:
                while len(_pipelines) >= _MOST_PIPELINES:
                    del _pipelines[next(iter(_pipelines))]
                _pipelines[key] = Pipeline.create(
                    model_path=self.path, num_cores=self.threads, **self.settings
                )
            return _pipelines[key]

    @property
    def fields(self) -> dict[str, str]:
        """The added columns in their order, with their types: "string", "double" or "bigint"."""
        if self._fields is None:
            task = self.pipeline.handler
            shown = task.values(self.pipeline.sample[0])
            kinds = [_kind(value) for value in shown]
            self._fields = {**dict(zip(task.columns(), kinds, strict=True)), ERROR: "string"}
        return self._fields

    def arrow_types(self) -> dict[str, Any]:
        """`fields`, with PyArrow's types."""
        import pyarrow

        kinds = {"string": pyarrow.string(), "double": pyarrow.float64(), "bigint": pyarrow.int64()}
        return {name: kinds[kind] for name, kind in self.fields.items()}

    def schema(self, spark_schema: Any) -> Any:
        """A Spark `StructType` with the added columns behind its own, as `mapInPandas` is told."""
        whole = copy.deepcopy(spark_schema)
        for name, kind in self.fields.items():
            whole = whole.add(name, kind)
        return whole

    def __call__(self, block: Any) -> Any:
        """The block with its predictions; of an iterator of blocks, an iterator."""
        if isinstance(block, Mapping):
            return self._dictionary(block)
        if isinstance(block, Iterator):
            return map(self, block)
        if hasattr(block, "to_pylist") and hasattr(block, "append_column"):
            return self._arrow(block)
        if hasattr(block, "assign") and hasattr(block, "columns"):
            return self._frame(block)
        raise TypeError(
            f"Scorer: {type(block).__name__} is no block of rows. A dictionary of columns, a pandas DataFrame, a "
            "PyArrow Table, or an iterator of these is wanted."
        )

    def find_columns(self, available: Sequence[str]) -> list[str]:
        """The columns of a block that make a row.

        Raises:
            TableError: there are none, or an added column would take the place of one.
        """
        if taken := [name for name in self.fields if name in available]:
            raise TableError(f"The rows have a column {taken[0]!r} already: rename it.")
        task = self.pipeline.handler
        return task.find_columns(available, self.columns, Path("the block"), task.deployment.text_columns())

    def score(
        self, columns: Mapping[str, Sequence[Any]], reasons: Sequence[str | None] | None = None
    ) -> dict[str, list[Any]]:
        """The added columns for columns of plain values.

        Args:
            columns: those that make a row, in their order, all of the same length.
            reasons: why a row is not to be scored; None where it is.
        """
        task = self.pipeline.handler
        rows = zip(*columns.values(), strict=True)
        given = iter(reasons) if reasons is not None else None
        added: dict[str, list[Any]] = {name: [] for name in self.fields}
        while window := list(islice(rows, WINDOW)):
            parsed = [
                (None, reason) if reason is not None else parse(task, tuple(columns), values)
                for values, reason in zip(
                    window, islice(given, len(window)) if given else [None] * len(window), strict=True
                )
            ]
            predictions = iter(self.pipeline.predict([row for row, reason in parsed if reason is None]))
            for _, reason in parsed:
                if reason is None:
                    values = [*task.values(next(predictions)), None]
                else:
                    values = [*[None] * (len(added) - 1), reason]
                for name, value in zip(added, values, strict=True):
                    is_text = value is None or self.fields[name] != "string"
                    added[name].append(value if is_text else str(value))
        return added

    def _dictionary(self, block: Mapping[str, Any]) -> dict[str, Any]:
        if not block:  # Ray's block of no rows
            return {}
        wanted = self.find_columns(list(block))
        added = self.score({name: _listed(block[name]) for name in wanted})
        return {**block, **{name: self._array(name, values) for name, values in added.items()}}

    def _frame(self, frame: Any) -> Any:
        if not len(frame.columns):
            return frame
        wanted = self.find_columns([name for name in frame.columns if isinstance(name, str)])
        added = self.score({name: _listed(frame[name]) for name in wanted})
        return frame.assign(**{name: self._array(name, values) for name, values in added.items()})

    def _arrow(self, table: Any) -> Any:
        if not table.num_columns:
            return table
        import pyarrow

        kinds = self.arrow_types()
        wanted = self.find_columns(table.schema.names)
        added = self.score({name: table.column(name).to_pylist() for name in wanted})
        for name, values in added.items():
            table = table.append_column(name, pyarrow.array(values, kinds[name]))
        return table

    def _array(self, name: str, values: list[Any]) -> np.ndarray[Any, Any]:
        """A column of NumPy: float64 with NaN for null, or objects with None; whole numbers are float64 with nulls."""
        kind = self.fields[name]
        if kind == "bigint" and None not in values:
            return np.array(values, np.int64)
        return np.array(values, object if kind == "string" else np.float64)

    def __getstate__(self) -> dict[str, Any]:
        # What is known of the model here need not be so of the model of that path elsewhere.
        return {**vars(self), "_fields": None}

    def __repr__(self) -> str:
        return f"Scorer({self.path!r}, threads={self.threads})"


def parse(task: Task[Any, Any], names: Sequence[str], values: Sequence[Any]) -> tuple[Any, str | None]:
    """The task's row of the values of these columns, and None; or None, and why they make no row."""
    for name, value in zip(names, values, strict=True):
        if is_null(value):
            return None, f"no {name!r}"
    try:
        return task.parse_values(list(values), "the row"), None
    except InputError as error:
        return None, str(error)


def is_null(value: Any) -> bool:
    """Whether a value is None, or NaN or NA, which stand for it in NumPy and pandas."""
    return (
        value is None or (isinstance(value, float) and math.isnan(value)) or type(value).__name__ == "NAType"
    )


def _kind(value: Any) -> str:
    if isinstance(value, float):
        return "double"
    return "bigint" if isinstance(value, int) and not isinstance(value, bool) else "string"


def _listed(column: Any) -> list[Any]:
    return column.tolist() if hasattr(column, "tolist") else list(column)
