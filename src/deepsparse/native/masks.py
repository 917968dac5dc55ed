"""Attention masks in a graph, recognized by their values: exporters write them with very different operators."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, Final

import numpy as np

from deepsparse.native.matching import Matcher
from deepsparse.native.onnx_graph import Node
from resparse.arrays import Array

MASK: Final = "attention_mask"

_FORBIDDEN: Final = -1e4
"""What is added to the scores of padding, at most."""

_ROWS, _TOKENS = 2, 300
"""The sample; longer than the windows of models whose attention is local, which so is recognized."""

_MOST_STEPS: Final = 300
_MOST_VALUES: Final = 1 << 22
_TYPES: Final = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16, 11: np.float64}

_ELEMENTWISE: Final[dict[str, Callable[..., Array]]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Not": np.logical_not,
    "Equal": np.equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Where": np.where,
    "Identity": np.asarray,
}


def is_mask(matcher: Matcher, value: str) -> bool:
    """Whether a value is the additive mask of full attention: 0 for tokens, a large negative number for padding."""
    mask = _sample()
    try:
        found = np.broadcast_to(_Evaluation(matcher, mask).value(value), (_ROWS, 1, _TOKENS, _TOKENS))
    # NumPy's errors for operands that do not fit each other, and those of nodes with too few inputs.
    except (_UnknownError, ValueError, TypeError, IndexError, KeyError, OverflowError, RecursionError):
        return False
    seen = np.broadcast_to(mask[:, None, None, :] != 0, found.shape)
    return bool((found[seen] == 0).all() and (found[~seen] <= _FORBIDDEN).all())


def _sample() -> Array:
    mask = np.ones((_ROWS, _TOKENS), np.int64)
    mask[0, -7:] = mask[1, 5:] = 0
    return mask


class _UnknownError(Exception):
    """A value that does not follow from the mask and from shapes."""


class _Evaluation:
    """Values of a graph for a sample of the attention mask."""

    def __init__(self, matcher: Matcher, mask: Array) -> None:
        self._matcher = matcher
        self._known: dict[str, Array | None] = {MASK: mask}
        self._steps = 0

    def value(self, name: str) -> Array:
        constant = self._matcher.constant(name)
        if constant is not None:
            return constant
        if name not in self._known:
            # What depends on itself, in a damaged file, is found to be None.
            self._known[name] = None
            self._known[name] = self._computed(name)
        known = self._known[name]
        if known is None:
            raise _UnknownError
        return known

    def _computed(self, name: str) -> Array:
        node = self._matcher.producers.get(name)
        self._steps += 1
        if node is None or self._steps > _MOST_STEPS or len(node.outputs) != 1:
            raise _UnknownError
        if node.op_type == "Shape":
            shape = self._shape(node.inputs[0])
            end = _integer(node, "end", len(shape))
            return np.array(shape[_integer(node, "start", 0) : end], np.int64)
        written = self._matcher.producer(node.inputs[0], "QuantizeLinear") if node.inputs else None
        if node.op_type == "DequantizeLinear" and written is not None:
            # 0 is on every grid; and what padding's mask is rounded to does not matter where padding is not computed.
            return self.value(written.inputs[0])
        inputs = [self.value(one) for one in node.inputs]
        function = _ELEMENTWISE.get(node.op_type)
        if function is not None:
            return function(*inputs)
        other = _OTHERS.get(node.op_type)
        if other is None:
            raise _UnknownError
        return other(node, *inputs)

    def _shape(self, name: str) -> tuple[int, ...]:
        """Of what is not known it is taken to be that of token ids or of hidden states."""
        try:
            shape: tuple[int, ...] = self.value(name).shape
        except _UnknownError:
            return (_ROWS, _TOKENS, 1)
        return shape


def _axes(node: Node, axes: Array | None) -> tuple[int, ...]:
    found: Any = node.attributes.get("axes", []) if axes is None else axes.reshape(-1)
    return tuple(int(axis) for axis in found)


def _sized(shape: Any) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in np.asarray(shape).reshape(-1))
    if prod(sizes) > _MOST_VALUES:
        raise _UnknownError
    return sizes


def _unsqueeze(node: Node, x: Array, axes: Array | None = None) -> Array:
    return np.expand_dims(x, _axes(node, axes))


def _cast(node: Node, x: Array) -> Array:
    return x.astype(_TYPES[_integer(node, "to", 0)])


def _integer(node: Node, name: str, default: int) -> int:
    found = node.attributes.get(name, default)
    if not isinstance(found, int):
        raise _UnknownError
    return found


def _expand(_: Node, x: Array, shape: Array) -> Array:
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, _sized(shape)))


def _reshape(_: Node, x: Array, shape: Array) -> Array:
    return x.reshape([x.shape[place] if size == 0 else int(size) for place, size in enumerate(shape)])


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


def _constant_of_shape(node: Node, shape: Array) -> Array:
    value = node.attributes.get("value")
    filling = value.reshape(-1)[0] if isinstance(value, np.ndarray) else np.float32(0)
    return np.full(_sized(shape), filling)


def _flatten(node: Node, x: Array) -> Array:
    return x.reshape(prod(x.shape[: _integer(node, "axis", 1)]), -1)


_OTHERS: Final[dict[str, Callable[..., Array]]] = {
    "Cast": _cast,
    "Concat": lambda node, *parts: np.concatenate(parts, _integer(node, "axis", 0)),
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": lambda node, x, indices: np.take(x, indices, _integer(node, "axis", 0)),
    "Range": _range,
    "Reshape": _reshape,
    "Slice": _slice,
    "Unsqueeze": _unsqueeze,
}
