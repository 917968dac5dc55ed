"""Quantized tensors in a graph: their grids, and what was quantized."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from deepsparse.errors import UnsupportedError
from deepsparse.native.encoder import Grid
from deepsparse.native.matching import Matcher
from deepsparse.native.onnx_graph import Node
from resparse.arrays import Array

_MIDDLE: Final = 128
"""What int8 and uint8 of one number differ by."""


@dataclass(frozen=True)
class Quantized:
    """A tensor that goes through QuantizeLinear and DequantizeLinear.

    Attributes:
        source: the float tensor, before quantization and transpositions.
        grid: of QuantizeLinear; uint8 or int8, as `is_signed` says.
        read_scale: of DequantizeLinear; differs from that of the grid where a factor was folded in.
        permutation: of the axes, by all transpositions between source and result.
    """

    source: str
    grid: Grid
    is_signed: bool
    read_scale: float
    permutation: tuple[int, ...]

    def unsigned(self) -> Grid:
        """The same grid for uint8."""
        return _shifted(self.grid, _MIDDLE * self.is_signed)

    def centred(self) -> Grid:
        """The same grid for int8 with zero point 0.

        Raises:
            UnsupportedError: it is not symmetric.
        """
        if self.grid.zero_point != _MIDDLE * (not self.is_signed):
            raise UnsupportedError("keys or values are on a grid with 0 aside from its middle")
        return _shifted(self.grid, -_MIDDLE * (not self.is_signed))


def _shifted(grid: Grid, by: int) -> Grid:
    return replace(grid, zero_point=grid.zero_point + by, least=grid.least + by, most=grid.most + by)


def quantized(matcher: Matcher, value: str) -> Quantized:
    """A quantized tensor, maybe with transpositions around QuantizeLinear.

    Raises:
        UnsupportedError: the tensor is not quantized.
    """
    read = matcher.needed(value, "DequantizeLinear")
    found = integers(matcher, read.inputs[0])
    grid, is_signed = grid_of(matcher, read)
    if (grid.zero_point, is_signed) != (found.grid.zero_point, found.is_signed):
        raise UnsupportedError(f"{value!r} is read with another zero point than it was written with")
    return replace(found, read_scale=grid.scale)


def integers(matcher: Matcher, value: str) -> Quantized:
    """As `quantized`, of the integers themselves: what QuantizeLinear gives, read by its own scale."""
    inner, first = matcher.transposed(value, ())
    written = matcher.needed(inner, "QuantizeLinear")
    grid, is_signed = grid_of(matcher, written)
    clipped, grid = _clipped(matcher, written.inputs[0], grid)
    source, permutation = matcher.transposed(clipped, first)
    return Quantized(source, grid, is_signed, grid.scale, permutation)


def rounded(matcher: Matcher, value: str) -> tuple[Grid | None, str]:
    """The grid for uint8 that a value was rounded to, and the value before; None where it was not rounded."""
    read = matcher.producer(value, "DequantizeLinear")
    if read is None or matcher.producer(read.inputs[0], "QuantizeLinear") is None:
        return None, value
    found = quantized(matcher, value)
    if found.read_scale != found.grid.scale or found.permutation:
        return None, value
    return found.unsigned(), found.source


def _clipped(matcher: Matcher, value: str, grid: Grid) -> tuple[str, Grid]:
    """A value before a Clip, which leaves fewer of the grid's integers, and that grid."""
    clip = matcher.producer(value, "Clip")
    if clip is None:
        return value, grid
    bounds = [matcher.scalar(name) if name else None for name in [*clip.inputs[1:], "", ""][:2]]
    if None in bounds:
        matcher.refuse(value, "a Clip between constants")
    low, high = (float(bound) for bound in bounds if bound is not None)
    least = max(grid.least, round(low / grid.scale) + grid.zero_point)
    most = min(grid.most, round(high / grid.scale) + grid.zero_point)
    if not least <= grid.zero_point <= most:
        matcher.refuse(value, "a Clip around 0")
    return clip.inputs[0], replace(grid, least=least, most=most)


def grid_of(matcher: Matcher, node: Node) -> tuple[Grid, bool]:
    """The grid of a per-tensor QuantizeLinear or DequantizeLinear, and whether it is one of int8."""
    scale = matcher.scalar(node.inputs[1])
    zero_point = matcher.constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros((), np.uint8)
    if (
        scale is None
        or zero_point is None
        or zero_point.size != 1
        or zero_point.dtype not in (np.int8, np.uint8)
    ):
        raise UnsupportedError(f"{node.inputs[0]!r} is not on one grid of 8 bits")
    check_scales(np.array([scale]), node.inputs[0])
    is_signed = zero_point.dtype == np.int8
    least = -_MIDDLE * is_signed
    return Grid(scale, int(zero_point.reshape(())), least, least + 255), bool(is_signed)


def check_scales(scales: Array, what: str) -> None:
    """Raise UnsupportedError unless all scales of a tensor are positive numbers."""
    if not (np.isfinite(scales).all() and (scales > 0).all()):
        raise UnsupportedError(f"{what!r} has a scale that is no positive number")
