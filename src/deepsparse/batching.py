"""Rows of mixed lengths through an engine: batched with next to no padding, answered in order."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tokenizers import Encoding

from deepsparse.engine import Engine
from deepsparse.errors import ModelError
from deepsparse.inputs import Row
from deepsparse.tokenization import Tokenizer
from resparse.arrays import Array

TOKEN_BUDGET = 512
"""Tokens of one batch, padding included: enough to keep the cores busy, few enough to stay in the caches."""

RUN_COST = 8
"""What one run costs whatever is in it, in tokens: measured on six layers of 384, on the processor's own time."""

UNPADDED_ROWS = 256
"""Rows of one run where padding is not computed: only the arrays that hold it grow with them."""


class Classifier:
    """Rows in, logits out.

    Args:
        engine: a model with the inputs `input_ids`, `attention_mask`, `token_type_ids`, or some of them.
        tokenizer: the model's.
        batch_size: rows of one batch at most; None lets `TOKEN_BUDGET` decide.

    Raises:
        ModelError: the model wants inputs that no tokenizer makes.
    """

    def __init__(self, engine: Engine, tokenizer: Tokenizer, batch_size: int | None = None) -> None:
        known = ("input_ids", "attention_mask", "token_type_ids")
        if unknown := [name for name in engine.input_names if name not in known]:
            raise ModelError(
                f"{engine.model_path} wants the input {unknown[0]!r}, which no tokenizer makes; a text "
                f"classifier takes {', '.join(known)}."
            )
        self.engine = engine
        self.tokenizer = tokenizer
        # Old exports are made for one shape: then every batch is padded to it.
        rows, length, *_ = (*engine.inputs[0].shape, None, None)
        self._fixed_rows, self._fixed_length = rows, length
        self._most_rows = self._fixed_rows or batch_size
        if self._fixed_length and self._fixed_length < tokenizer.max_length:
            raise ModelError(
                f"{engine.model_path} takes {self._fixed_length} tokens and no more: give "
                f"sequence_length={self._fixed_length}."
            )
        # Without padding there is nothing to be gained from several runs: one has all cores.
        self._threads = (
            ThreadPoolExecutor(engine.num_streams, "deepsparse")
            if engine.pads and engine.num_streams > 1
            else None
        )

    def logits(self, rows: Sequence[Row], spread: bool = True) -> Array:
        """Logits of (rows, labels), in the order of the rows; safe to call from several threads.

        Args:
            rows: one or more.
            spread: over the engine's streams; False stays in the thread of the caller, who has several.
        """
        encodings = self.tokenizer.encode(rows)
        batches = self._batches(list(map(len, encodings)))
        parts = [[encodings[index] for index in batch] for batch in batches]
        if self._threads is None or len(parts) == 1 or not spread:
            found = [self._run(part) for part in parts]
        else:
            found = list(self._threads.map(self._run, parts))
        merged = np.concatenate(found)
        logits = np.empty_like(merged)
        logits[np.concatenate(batches)] = merged
        return logits

    def close(self) -> None:
        """Let the threads go."""
        if self._threads is not None:
            self._threads.shutdown()

    def _batches(self, lengths: Sequence[int]) -> list[list[int]]:
        if self.engine.pads:
            return plan(lengths, self._most_rows)
        step = self._most_rows or UNPADDED_ROWS
        rows = range(len(lengths))
        return [list(rows[start : start + step]) for start in rows[::step]]

    def _run(self, encodings: Sequence[Encoding]) -> Array:
        length = self._fixed_length or self._rounded(max(map(len, encodings)))
        feeds = self.tokenizer.arrays(encodings, length, self.engine.input_names)
        missing = (self._fixed_rows or 0) - len(encodings)
        if missing > 0:
            feeds = {name: np.pad(array, ((0, missing), (0, 0))) for name, array in feeds.items()}
        return self.engine.run(feeds)[0][: len(encodings)]

    def _rounded(self, length: int) -> int:
        step = self.engine.length_step
        return min(-(-length // step) * step, max(length, self.tokenizer.max_length))


def plan(lengths: Sequence[int], most_rows: int | None = None, budget: int = TOKEN_BUDGET) -> list[list[int]]:
    """Group rows of similar length so that least is computed: all tokens, padding included, and each run's own cost.

    Among the groupings of the rows in order of length, this is the cheapest, found by dynamic programming.

    Args:
        lengths: tokens of each row.
        most_rows: rows of one batch at most.
        budget: tokens of one batch at most, padding included; a single row may have more.

    Returns:
        Positions of rows, each once, longest first; so threads that share the batches end together.
    """
    longest_first = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    # The cost of all rows from a place on, and where the batch that begins there ends.
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
