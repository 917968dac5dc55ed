"""Batching: rows of mixed lengths are grouped with little padding, run, and their outputs put in the rows' order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import numpy as np
from tokenizers import Encoding

from deepsparse.engine import Engine
from deepsparse.errors import ModelError
from deepsparse.lengths import Lengths
from deepsparse.tasks import Outputs, Task
from deepsparse.tasks.base import Row
from deepsparse.tokenizer import INPUTS, Tokenizer
from resparse.arrays import Array

TOKEN_BUDGET = 512
"""Tokens of one batch, padding included: enough to occupy the cores, few enough to stay in the caches."""

RUN_COST = 8
"""Fixed cost of one run, in tokens: measured on six layers of 384, in processor time."""

UNPADDED_ROWS = 256
"""Rows of one run on engines that do not compute padding: only the padded input arrays grow with them."""


class BatchRunner:
    """Runs rows through an engine; the task says how rows become tokens, and which outputs it wants.

    Args:
        engine: a model with the inputs `input_ids`, `attention_mask`, `token_type_ids`, or some of them.
        batch_size: rows of one batch at most; None lets `TOKEN_BUDGET` decide.

    Attributes:
        lengths: how many rows were longer than the model takes.

    Raises:
        ModelError: the model wants inputs that no tokenizer makes, or lacks outputs.
    """

    def __init__(
        self, engine: Engine, tokenizer: Tokenizer, task: Task[Any, Any], batch_size: int | None = None
    ) -> None:
        if unknown := [name for name in engine.input_names if name not in INPUTS]:
            raise ModelError(
                f"{engine.model_path} wants the input {unknown[0]!r}, which no tokenizer makes; a {task.noun} "
                f"takes {', '.join(INPUTS)}."
            )
        self.engine = engine
        self.tokenizer = tokenizer
        self._task = task
        self.lengths = Lengths(tokenizer.max_length, task.windows)
        self._outputs = _positions(engine, task)
        # Some exports have fixed shapes: every batch is padded to them.
        self._fixed_rows, self._fixed_length, *_ = (*engine.inputs[0].shape, None, None)
        self._most_rows = self._fixed_rows or batch_size
        if self._fixed_length and self._fixed_length < tokenizer.max_length:
            raise ModelError(
                f"{engine.model_path} takes {self._fixed_length} tokens and no more: give "
                f"sequence_length={self._fixed_length}."
            )
        # Engines that do not pad use all cores in one run: several at once gain nothing.
        self._threads = (
            ThreadPoolExecutor(engine.num_streams, "deepsparse")
            if engine.pads and engine.num_streams > 1
            else None
        )

    def run(
        self,
        rows: Sequence[Row],
        spread: bool = True,
        on_tokenized: Callable[[], object] | None = None,
    ) -> Outputs:
        """The outputs, in the order of the rows; safe to call from several threads.

        Args:
            rows: one or more.
            spread: run batches in the engine's streams; False runs them in the caller's thread.
            on_tokenized: called between the tokenizer and the engine.
        """
        sequences = self._task.sequences(self.tokenizer, rows)
        if on_tokenized is not None:
            on_tokenized()
        self.lengths.add(sequences.longer, sequences.unread)
        encodings = sequences.encodings
        batches = self._batches(list(map(len, encodings)))
        parts = [[encodings[index] for index in batch] for batch in batches]
        if self._threads is None or len(parts) == 1 or not spread:
            found = [self._run(part) for part in parts]
        else:
            found = list(self._threads.map(self._run, parts))
        order = list(chain.from_iterable(batches))
        arrays = {
            name: _in_order(outputs, order)
            for name, outputs in zip(self._task.output_names, zip(*found, strict=True), strict=True)
        }
        return self._task.reduce(Outputs(arrays, encodings, sequences.starts))

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown()

    def _batches(self, lengths: Sequence[int]) -> list[list[int]]:
        if self.engine.pads:
            return plan(lengths, self._most_rows)
        step = self._most_rows or UNPADDED_ROWS
        rows = range(len(lengths))
        return [list(rows[start : start + step]) for start in rows[::step]]

    def _run(self, encodings: Sequence[Encoding]) -> list[Any]:
        """Each output for one batch: an array, or a list of arrays where the task is token-level."""
        length = self._fixed_length or self._rounded(max(map(len, encodings)))
        feeds = self.tokenizer.arrays(encodings, length, self.engine.input_names)
        missing = (self._fixed_rows or 0) - len(encodings)
        if missing > 0:
            feeds = {name: np.pad(array, ((0, missing), (0, 0))) for name, array in feeds.items()}
        computed = self.engine.run(feeds)
        found = [computed[position][: len(encodings)] for position in self._outputs]
        if not self._task.token_level:
            return found
        return [self._unpadded(array, length, list(map(len, encodings))) for array in found]

    def _unpadded(self, array: Array, length: int, counts: Sequence[int]) -> list[Array]:
        """Each row's own tokens of a token-level output, (tokens, ...)."""
        if array.shape[1:2] != (length,):
            raise ModelError(
                f"{self.engine.model_path} gives an array of shape {array.shape} for {len(counts)} x {length} tokens, "
                f"which is not an output of a {self._task.noun}. Was it exported for another task?"
            )
        if self.tokenizer.pads_left:
            return [row[length - count :] for row, count in zip(array, counts, strict=True)]
        return [row[:count] for row, count in zip(array, counts, strict=True)]

    def _rounded(self, length: int) -> int:
        step = self.engine.length_step
        return min(-(-length // step) * step, max(length, self.tokenizer.max_length))


def _positions(engine: Engine, task: Task[Any, Any]) -> list[int]:
    """Where a task's outputs are among the model's: by name, else the first ones."""
    given, wanted = engine.output_names, task.output_names
    if all(name in given for name in wanted):
        return [given.index(name) for name in wanted]
    if len(given) < len(wanted):
        raise ModelError(
            f"{engine.model_path} gives {', '.join(given)}; a {task.noun} gives {', '.join(wanted)}. Was it exported "
            "for another task?"
        )
    return list(range(len(wanted)))


def _in_order(parts: Sequence[Any], order: Sequence[int]) -> Any:
    """An output of all batches, arrays or lists of arrays, in the order of the sequences.

    `order` holds the position of each sequence among all.
    """
    if len(order) == 1:
        return parts[0]
    if isinstance(parts[0], list):
        by_position = dict(zip(order, chain.from_iterable(parts), strict=True))
        return [by_position[position] for position in range(len(order))]
    merged = parts[0] if len(parts) == 1 else np.concatenate(parts)
    ordered = np.empty_like(merged)
    ordered[order] = merged
    return ordered


def plan(lengths: Sequence[int], most_rows: int | None = None, budget: int = TOKEN_BUDGET) -> list[list[int]]:
    """Group rows of similar length at the least cost: tokens with padding, and `RUN_COST` for each run.

    Among the groupings of the rows in order of length, this is the cheapest, found by dynamic programming.

    Args:
        lengths: tokens of each row.
        most_rows: rows of one batch at most.
        budget: tokens of one batch at most, padding included; a single row may have more.

    Returns:
        Positions of rows, each once, longest first; so threads that share the batches end together.
    """
    longest_first = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    # cost[i]: of all rows from i on; end[i]: of the batch that begins at i.
    cost = [0] * (len(lengths) + 1)
    end = [0] * len(lengths)
    for start in reversed(range(len(lengths))):
        longest = max(1, lengths[longest_first[start]])
        most = max(1, min(budget // longest, most_rows or budget, len(lengths) - start))
        stops = range(start + 1, start + most + 1)
        end[start] = min(stops, key=lambda stop: (stop - start) * longest + cost[stop])
        cost[start] = RUN_COST + (end[start] - start) * longest + cost[end[start]]
    batches: list[list[int]] = []
    start = 0
    while start < len(lengths):
        batches.append(longest_first[start : end[start]])
        start = end[start]
    return batches
