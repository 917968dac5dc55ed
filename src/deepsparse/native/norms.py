"""Layer normalizations in a graph: as one operator, or by the operators that older exports have in its place."""

from __future__ import annotations

import numpy as np

from deepsparse.native.encoder import Norm
from deepsparse.native.matching import Matcher
from resparse.arrays import Array


def norm(matcher: Matcher, value: str) -> tuple[Norm, str]:
    """A layer normalization over the last axis, and its input.

    Raises:
        UnsupportedError: the value is computed otherwise.
    """
    found = find_norm(matcher, value)
    if found is None:
        matcher.refuse(value, "a LayerNormalization of the last axis")
    return found


def find_norm(matcher: Matcher, value: str) -> tuple[Norm, str] | None:
    """As `norm`, but None where the value is computed otherwise."""
    node = matcher.producer(value, "LayerNormalization")
    if node is None:
        return _decomposed(matcher, value)
    weight = matcher.constant(node.inputs[1])
    if not _is_vector(weight) or node.attributes.get("axis", -1) not in (-1, 2):
        return None
    assert weight is not None
    bias = matcher.vector(node.inputs[2], weight.size) if len(node.inputs) > 2 else np.zeros_like(weight)
    epsilon = node.attributes.get("epsilon", 1e-5)
    return Norm(weight, bias, epsilon if isinstance(epsilon, float) else 1e-5), node.inputs[0]


def _is_vector(array: Array | None) -> bool:
    return array is not None and array.dtype == np.float32 and array.ndim == 1


def _decomposed(matcher: Matcher, value: str) -> tuple[Norm, str] | None:
    """(x - mean(x)) / sqrt(mean((x - mean(x))²) + epsilon) * weight + bias."""
    shifted, bias = _with_vector(matcher, value, "Add")
    scaled, weight = _with_vector(matcher, shifted, "Mul")
    divided = matcher.producer(scaled, "Div")
    centred = matcher.producer(divided.inputs[0], "Sub") if divided is not None else None
    root = matcher.producer(divided.inputs[1], "Sqrt") if divided is not None else None
    variance = matcher.producer(root.inputs[0], "Add") if root is not None else None
    if bias is None or weight is None or divided is None or centred is None or variance is None:
        return None
    epsilon = matcher.scalar(variance.inputs[1])
    source, squares = centred.inputs[0], _mean_of(matcher, variance.inputs[0])
    power = matcher.producer(squares, "Pow")
    if (
        epsilon is None
        or _mean_of(matcher, centred.inputs[1]) != source
        or power is None
        or power.inputs[0] != divided.inputs[0]
        or matcher.scalar(power.inputs[1]) != 2
        or bias.shape != weight.shape
    ):
        return None
    return Norm(weight, bias, epsilon), source


def _with_vector(matcher: Matcher, value: str, kind: str) -> tuple[str, Array | None]:
    """The other operand, and the constant vector, of a sum or product."""
    node = matcher.producer(value, kind)
    for name, other in (node.inputs[:2], node.inputs[1::-1]) if node is not None else ():
        found = matcher.constant(name)
        if _is_vector(found):
            return other, found
    return "", None


def _mean_of(matcher: Matcher, value: str) -> str:
    """What a value is the mean of, over the last axis; empty where it is none."""
    node = matcher.producer(value, "ReduceMean")
    if node is None:
        return ""
    axes = node.attributes.get("axes")
    if axes is None and len(node.inputs) > 1:
        found = matcher.constant(node.inputs[1])
        axes = found.reshape(-1).tolist() if found is not None else None
    return node.inputs[0] if axes in ([-1], [2]) and node.attributes.get("keepdims", 1) == 1 else ""
