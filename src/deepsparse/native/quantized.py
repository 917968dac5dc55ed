"""Quantized tensors in a graph: their grids, and what was quantized."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from deepsparse.errors import UnsupportedError
from deepsparse.native import settings
from deepsparse.native.encoder import Grid
from deepsparse.native.matching import Matcher
from deepsparse.native.onnx_graph import Node
from deepsparse.native.shapes import number
from resparse.arrays import Array

_MIDDLE: Final = 128
"""What int8 and uint8 of one number differ by."""

_MOST_STEPS: Final = 8


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

    def is_centred(self) -> bool:
        """Whether `centred` can say it."""
        return self.grid.zero_point == _MIDDLE * (not self.is_signed)

    def centred(self) -> Grid:
        """The same grid for int8 with zero point 0.

        Raises:
            UnsupportedError: it is not symmetric.
        """
        if not self.is_centred():
            raise UnsupportedError(
                "keys or values are on a grid with 0 aside from its middle", settings.ATTENTION
            )
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
        raise UnsupportedError(
            f"{value!r} is read with another zero point than it was written with", settings.INPUTS
        )
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
    written = matcher.producer(read.inputs[0], "QuantizeLinear") if read is not None else None
    if read is None or written is None:
        return None, value
    grid, is_signed = grid_of(matcher, written)
    if grid_of(matcher, read) != (grid, is_signed):
        return None, value
    source, grid = _clipped(matcher, written.inputs[0], grid)
    return _shifted(grid, _MIDDLE * is_signed), source


@dataclass
class IntegerProduct:
    """`Cast(MatMulInteger(...) + bias) * scale`; without a bias it is None."""

    node: Node
    scale: str
    bias: str | None


def integer_product(matcher: Matcher, value: str) -> IntegerProduct | None:
    """A product of integers, as a float; None for other values."""
    product = matcher.producer(value, "Mul")
    for integer, scale in (product.inputs, product.inputs[::-1]) if product is not None else ():
        cast = matcher.producer(integer, "Cast")
        inner, bias = (cast.inputs[0] if cast is not None else ""), None
        added = matcher.producer(inner, "Add")
        if added is not None:
            inner, bias = (
                added.inputs if matcher.constant(added.inputs[1]) is not None else added.inputs[::-1]
            )
        node = matcher.producer(inner, "MatMulInteger")
        if node is not None:
            return IntegerProduct(node, scale, bias)
    return None


def steps_of(matcher: Matcher, value: str) -> tuple[list[Grid | float], str]:
    """The roundings, by grids of uint8, and factors that a value went through, last one first; and the value before.

    Raises:
        UnsupportedError: they are more than a few.
    """
    steps: list[Grid | float] = []
    while len(steps) <= _MOST_STEPS:
        step: Grid | float | None
        step, inner = rounded(matcher, value)
        if step is None and integer_product(matcher, value) is None:
            inner, step = scaled(matcher, value)
        if inner == value or step is None:
            break
        steps.append(step)
        value = inner
    if len(steps) > _MOST_STEPS:
        matcher.refuse(value, "a value that is rounded and scaled a few times", settings.OUTPUTS)
    return steps, value


def scaled(matcher: Matcher, value: str) -> tuple[str, float]:
    """A value before it is multiplied or divided by a constant, or by what shapes tell, and that factor."""
    node = matcher.producer(value, "Mul", "Div")
    if node is None:
        return value, 1.0
    numbers = [number(matcher, name) for name in node.inputs[:2]]
    if numbers[1]:
        return node.inputs[0], numbers[1] if node.op_type == "Mul" else 1 / numbers[1]
    if numbers[0] and node.op_type == "Mul":
        return node.inputs[1], numbers[0]
    return value, 1.0


def in_final_units(steps: list[Grid | float]) -> tuple[tuple[Grid, ...], float]:
    """Roundings in the order of the computation, as if all factors came before them; and the product of the factors.

    Args:
        steps: as `steps_of` gives them.

    Raises:
        UnsupportedError: a factor after a rounding is not positive.
    """
    after = 1.0
    grids: list[Grid] = []
    for step in steps:
        if isinstance(step, Grid):
            if not after > 0:
                raise UnsupportedError("it multiplies what it has rounded by a number that is not positive")
            grids.insert(0, replace(step, scale=step.scale * after))
        else:
            after *= step
    return tuple(grids), after


def _clipped(matcher: Matcher, value: str, grid: Grid) -> tuple[str, Grid]:
    """A value before a Clip, which leaves fewer of the grid's integers, and that grid."""
    clip = matcher.producer(value, "Clip")
    if clip is None:
        return value, grid
    bounds = [matcher.scalar(name) if name else None for name in [*clip.inputs[1:], "", ""][:2]]
    if None in bounds:
        matcher.refuse(value, "a Clip between constants", settings.INPUTS)
    low, high = (float(bound) for bound in bounds if bound is not None)
    least = max(grid.least, round(low / grid.scale) + grid.zero_point)
    most = min(grid.most, round(high / grid.scale) + grid.zero_point)
    if not least <= grid.zero_point <= most:
        matcher.refuse(value, "a Clip around 0", settings.INPUTS)
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
        raise UnsupportedError(f"{node.inputs[0]!r} is not on one grid of 8 bits", settings.INPUTS)
    check_scales(np.array([scale]), node.inputs[0])
    is_signed = zero_point.dtype == np.int8
    least = -_MIDDLE * is_signed
    return Grid(scale, int(zero_point.reshape(())), least, least + 255), bool(is_signed)


def check_scales(scales: Array, what: str) -> None:
    """Raise UnsupportedError unless all scales of a tensor are positive numbers."""
    if not (np.isfinite(scales).all() and (scales > 0).all()):
        raise UnsupportedError(f"{what!r} has a scale that is no positive number", settings.RANGES)
