"""Values of a part of a graph, computed with NumPy for a sample: what is recognized by its values, is by these.

Exporters write a mask, a bias or a rotation with three operators or with forty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from math import prod
from typing import Any, Final

import numpy as np

from deepsparse.native.matching import Matcher
from deepsparse.native.onnx_graph import Node
from resparse.arrays import Array

_MOST_STEPS: Final = 300
_MOST_VALUES: Final = 1 << 25
_TYPES: Final = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16, 11: np.float64}


class UnknownError(Exception):
    """A value that does not follow from what is known."""


FAILURES: Final = (
    UnknownError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    OverflowError,
    RecursionError,
    ZeroDivisionError,
)
"""What `Evaluation.value` raises: besides UnknownError, NumPy's errors for operands that do not fit each other, and
those of nodes with too few inputs."""


class Evaluation:
    """Values of a graph.

    Args:
        matcher: of the graph.
        known: values by name.
        rows, tokens: of the sample: what token ids and hidden states have as their first dimensions.
        through_roundings: values that are quantized and dequantized are taken as they were before.
    """

    def __init__(
        self,
        matcher: Matcher,
        known: Mapping[str, Array],
        rows: int,
        tokens: int,
        through_roundings: bool = False,
    ) -> None:
        self._through_roundings = through_roundings
        self._matcher = matcher
        self._known: dict[str, Array | None] = dict(known)
        self._shape = (rows, tokens, 1)
        self._steps = 0

    def value(self, name: str) -> Array:
        """A value.

        Raises:
            One of FAILURES: it is unknown, or cannot be computed.
        """
        with np.errstate(all="ignore"):
            return self._value(name)

    def _value(self, name: str) -> Array:
        constant = self._matcher.constant(name)
        if constant is not None:
            return constant
        if name not in self._known:
            # What depends on itself, in a damaged file, is found to be None.
            self._known[name] = None
            self._known[name] = self._computed(name)
        known = self._known[name]
        if known is None:
            raise UnknownError
        return known

    def _computed(self, name: str) -> Array:
        node = self._matcher.producers.get(name)
        self._steps += 1
        if node is None or self._steps > _MOST_STEPS:
            raise UnknownError
        if node.op_type == "Shape":
            shape = self._shape_of(node.inputs[0])
            end = _integer(node, "end", len(shape))
            return np.array(shape[_integer(node, "start", 0) : end], np.int64)
        if node.op_type == "DequantizeLinear" and self._through_roundings:
            written = self._matcher.producer(node.inputs[0], "QuantizeLinear")
            if written is not None:
                return self._value(written.inputs[0])
        inputs: list[Any] = [self._value(one) if one else None for one in node.inputs]
        if node.op_type == "Split":
            return _split(node, *inputs)[node.outputs.index(name)]
        if len(node.outputs) != 1:
            raise UnknownError
        function = _ELEMENTWISE.get(node.op_type)
        if function is not None:
            return function(*inputs)
        other = _OTHERS.get(node.op_type)
        if other is None:
            raise UnknownError
        return other(node, *inputs)

    def _shape_of(self, name: str) -> tuple[int, ...]:
        """Of what is not known it is taken to be that of token ids or of hidden states."""
        try:
            shape: tuple[int, ...] = self._value(name).shape
        except UnknownError:
            return self._shape
        return shape


def _divided(x: Array, y: Array) -> Array:
    """Quotients of integers are integers in ONNX, rounded towards 0."""
    whole = x.dtype.kind in "iu"
    return np.trunc(x / y).astype(x.dtype) if whole else np.divide(x, y)


_ELEMENTWISE: Final[dict[str, Callable[..., Array]]] = {
    "Abs": np.abs,
    "Add": np.add,
    "And": np.logical_and,
    "Cos": np.cos,
    "Div": _divided,
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Identity": np.asarray,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Log": np.log,
    "MatMul": np.matmul,
    "Max": lambda *parts: reduce(np.maximum, parts),
    "Min": lambda *parts: reduce(np.minimum, parts),
    "Mul": np.multiply,
    "Neg": np.negative,
    "Not": np.logical_not,
    "Or": np.logical_or,
    "Sin": np.sin,
    "Sub": np.subtract,
    "Sum": lambda *parts: reduce(np.add, parts),
    "Where": np.where,
}


def _axes(node: Node, axes: Array | None) -> tuple[int, ...]:
    found: Any = node.attributes.get("axes", []) if axes is None else axes.reshape(-1)
    return tuple(int(axis) for axis in found)


def _sized(shape: Any) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in np.asarray(shape).reshape(-1))
    if prod(sizes) > _MOST_VALUES:
        raise UnknownError
    return sizes


def _unsqueeze(node: Node, x: Array, axes: Array | None = None) -> Array:
    return np.expand_dims(x, _axes(node, axes))


def _squeeze(node: Node, x: Array, axes: Array | None = None) -> Array:
    return np.squeeze(x, _axes(node, axes) or None)


def _cast(node: Node, x: Array) -> Array:
    return x.astype(_TYPES[_integer(node, "to", 0)])


def _integer(node: Node, name: str, default: int) -> int:
    found = node.attributes.get(name, default)
    if not isinstance(found, int):
        raise UnknownError
    return found


def _expand(_: Node, x: Array, shape: Array) -> Array:
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, _sized(shape)))


def _reshape(_: Node, x: Array, shape: Array) -> Array:
    return x.reshape([x.shape[place] if size == 0 else int(size) for place, size in enumerate(shape)])


def _transpose(node: Node, x: Array) -> Array:
    found: Any = node.attributes.get("perm")
    return np.transpose(x, found)


def _range(_: Node, start: Array, end: Array, step: Array) -> Array:
    _sized([abs(int(end) - int(start))])
    return np.arange(int(start), int(end), int(step))


def _slice(
    _: Node, x: Array, starts: Array, ends: Array, axes: Array | None = None, steps: Any = None
) -> Array:
    places = range(len(starts)) if axes is None else axes
    parts = [slice(None)] * x.ndim
    for index, place in enumerate(places):
        step = 1 if steps is None else int(steps[index])
        parts[int(place)] = slice(int(starts[index]), int(ends[index]), step)
    return x[tuple(parts)]


def _split(node: Node, x: Array, sizes: Array | None = None) -> list[Array]:
    given: Any = node.attributes.get("split") if sizes is None else sizes
    axis = _integer(node, "axis", 0)
    return np.split(x, len(node.outputs) if given is None else np.cumsum(given)[:-1], axis)


def _constant_of_shape(node: Node, shape: Array) -> Array:
    value = node.attributes.get("value")
    filling = value.reshape(-1)[0] if isinstance(value, np.ndarray) else np.float32(0)
    return np.full(_sized(shape), filling)


def _flatten(node: Node, x: Array) -> Array:
    return x.reshape(prod(x.shape[: _integer(node, "axis", 1)]), -1)


def _gather(node: Node, x: Array, indices: Array) -> Array:
    axis = _integer(node, "axis", 0)
    _sized([*indices.shape, x.size // x.shape[axis]])
    return np.take(x, indices, axis)


def _gather_nd(node: Node, x: Array, indices: Array) -> Array:
    if _integer(node, "batch_dims", 0):
        raise UnknownError
    found: Array = x[tuple(np.moveaxis(indices, -1, 0))]
    return found


def _reduce_sum(node: Node, x: Array, axes: Array | None = None) -> Array:
    total: Array = np.sum(x, axis=_axes(node, axes) or None, keepdims=bool(_integer(node, "keepdims", 1)))
    return total


def _dequantize(_: Node, x: Array, scale: Array, zero_point: Array | None = None) -> Array:
    if scale.size != 1:
        raise UnknownError
    shift = np.int32(0) if zero_point is None else zero_point.astype(np.int32)
    return (x.astype(np.int32) - shift).astype(np.float32) * scale


_OTHERS: Final[dict[str, Callable[..., Array]]] = {
    "Cast": _cast,
    "Concat": lambda node, *parts: np.concatenate(parts, _integer(node, "axis", 0)),
    "ConstantOfShape": _constant_of_shape,
    "DequantizeLinear": _dequantize,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherND": _gather_nd,
    "Range": _range,
    "ReduceSum": _reduce_sum,
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
