"""What an engine is, whoever wrote it: named arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from resparse.arrays import Array


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a model.

    Attributes:
        name: as in the ONNX file.
        dtype: of its elements.
        shape: its dimensions; None where any size will do.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Resources:
    """What an engine may take of the machine.

    Attributes:
        cores: threads that compute, in all streams together.
        streams: runs that go on side by side.
    """

    cores: int
    streams: int


class Backend(Protocol):
    """A model that is ready to run.

    `run` is called from as many threads at once as there are streams. Engines that compile a kernel for every
    shape state a `length_step` above 1: sequences are then padded to multiples of it, so that shapes are few.
    Engines that compute no padding state `pads = False`: any rows may then share a run, which by itself has all cores.
    """

    name: str
    version: str
    length_step: int
    pads: bool
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """Compute all outputs, in the order of `outputs`, from all inputs by name."""
        ...
