"""Numbers that a graph computes from shapes, as exporters write the scale of attention: 1 / sqrt(head size)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from deepsparse.native.matching import Matcher
from deepsparse.native.onnx_graph import Node

_MOST_STEPS: Final = 8
_FUNCTIONS: Final[dict[str, Callable[..., float]]] = {
    "Cast": lambda x: x,
    "Identity": lambda x: x,
    "Sqrt": lambda x: x**0.5,
    "Div": lambda x, y: x / y,
    "Mul": lambda x, y: x * y,
}


def number(matcher: Matcher, value: str, steps: int = _MOST_STEPS) -> float | None:
    """A constant, or what follows from constants and the last dimension of a tensor; None for other values."""
    found = matcher.scalar(value)
    node = matcher.producers.get(value)
    if found is not None or node is None or steps == 0:
        return found
    function = _FUNCTIONS.get(node.op_type)
    if function is None:
        size = _dimension(matcher, node)
        return float(size) if size else None
    parts = [number(matcher, name, steps - 1) for name in node.inputs]
    known = [part for part in parts if part is not None and part > 0]
    return function(*known) if len(known) == len(parts) == function.__code__.co_argcount else None


def last_size(matcher: Matcher, shape: str) -> int:
    """The last dimension of a shape that may be partly computed; 0 where it is unknown."""
    joined = matcher.producer(shape, "Concat")
    known = matcher.constant(joined.inputs[-1] if joined is not None else shape)
    return int(known.reshape(-1)[-1]) if known is not None and known.size and known.dtype.kind == "i" else 0


def _dimension(matcher: Matcher, node: Node) -> int:
    """The last entry of the shape of vectors parted into heads; 0 for other nodes."""
    place = (
        matcher.scalar(node.inputs[1])
        if node.op_type in ("Slice", "Gather") and len(node.inputs) > 1
        else None
    )
    shape = matcher.producer(node.inputs[0], "Shape") if place is not None else None
    if shape is None or place not in (-1, 3):
        return 0
    source, permutation = matcher.transposed(shape.inputs[0], ())
    parted = matcher.producer(source, "Reshape")
    if parted is None or (permutation and permutation[-1] != 3):
        return 0
    return last_size(matcher, parted.inputs[1])
