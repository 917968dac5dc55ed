"""Batches of texts of similar length, in an order that depends on seed and epoch alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from accelerate.data_loader import SeedableRandomSampler
from numpy.typing import NDArray
from torch.utils.data import Sampler
from transformers import TrainerCallback, TrainerState

from sparseml.data.rows import numbers

_AT_ONCE = 100_000  # indices that are made Python's at once


def by_length(rows: Any) -> tuple[Any, NDArray[np.int64]]:
    """A tokenized dataset sorted by length, so that evaluation pads little, and each sorted row's own index.

    One of whole batches stays as it is.
    """
    if getattr(rows, "whole_batches", False):
        return rows, np.arange(len(rows))
    order = np.argsort(numbers(rows, "length"), kind="stable")
    return rows.select(order), order


def _grouped_by_length(
    lengths: NDArray[np.int32], batch_size: int, generator: torch.Generator
) -> NDArray[np.int64]:
    """The order of Transformers' `get_length_grouped_indices`, by arrays: its lists are a hundred bytes a row."""
    order = torch.randperm(len(lengths), generator=generator).numpy()
    run = batch_size * (min(len(lengths) // (batch_size * 4), 50) or 1)
    starts = range(0, len(order), run)
    for start in starts:
        part = order[start : start + run]
        order[start : start + run] = part[np.argsort(-lengths[part], kind="stable")]
    # The longest of all comes first, so that a batch that is too large for memory fails at once.
    longest = run * int(np.argmax(lengths[order[::run]]))
    order[[0, longest]] = order[[longest, 0]]
    return order


class LengthGroupedSampler(Sampler[int]):
    """Shuffled indices, sorted by length within runs of some fifty batches, so that little is padded.

    Transformers' sampler of this name draws from the global random state, which a resumed run does not
    have at the start of the epoch that it was stopped in: its order would differ. `batch_size` is of an optimizer step.
    """

    def __init__(self, lengths: Sequence[int] | NDArray[Any], batch_size: int, seed: int) -> None:
        self._lengths = np.asarray(lengths, dtype=np.int32)
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader before each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        order = _grouped_by_length(self._lengths, self._batch_size, generator)
        for start in range(0, len(order), _AT_ONCE):
            yield from order[start : start + _AT_ONCE].tolist()


class EpochSampler(Sampler[int]):
    """For datasets that are functions of epoch and index: each epoch continues the count of the one before."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader before each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._epoch * self._count, (self._epoch + 1) * self._count))


class ShareSampler(Sampler[list[int]]):
    """The batches of one of several processes: its share of every step's rows, and of the last ones of an epoch, too.

    Accelerate's sampler fills the last step up with rows from the beginning of the epoch, which are learned from twice.

    Args:
        sampler: of all rows, in one order for all processes.
        batch_size: rows of a process.
        process, processes: which this one is, and how many there are.
        drop_last: leave out the last rows of an epoch where they fill no step.
    """

    def __init__(
        self, sampler: Iterable[int], batch_size: int, process: int, processes: int, drop_last: bool = False
    ) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last
        self._process, self._processes = process, processes

    def __len__(self) -> int:
        steps, rest = divmod(len(self.sampler), self.batch_size * self._processes)  # type: ignore[arg-type]
        return steps + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        whole, rows = self.batch_size * self._processes, iter(self.sampler)
        while step := list(itertools.islice(rows, whole)):
            if len(step) == whole:
                yield step[self._process * self.batch_size : (self._process + 1) * self.batch_size]
            elif not self.drop_last:
                yield self._part(step)

    def _part(self, rows: list[int]) -> list[int]:
        """A part of an epoch's last rows; where they are fewer than the processes, some have the same one."""
        if len(rows) < self._processes:
            return [rows[self._process % len(rows)]]
        bounds = [len(rows) * process // self._processes for process in (self._process, self._process + 1)]
        return rows[slice(*bounds)]


class EpochCallback(TrainerCallback):
    """Tells the sampler of a training which epoch begins.

    The data loader does so too, but does not reach the sampler in a run of several processes that was resumed within an
    epoch: three batch samplers are wrapped around it there, and it looks through two.
    """

    def on_epoch_begin(
        self, args: Any, state: TrainerState, control: Any, train_dataloader: Any = None, **kwargs: Any
    ) -> None:
        batches: Any = getattr(train_dataloader, "batch_sampler", None)
        while hasattr(batches, "batch_sampler"):
            batches = batches.batch_sampler
        sampler = getattr(batches, "sampler", None)
        if isinstance(sampler, LengthGroupedSampler | EpochSampler | SeedableRandomSampler):
            sampler.set_epoch(int(round(state.epoch or 0.0, 6)))
