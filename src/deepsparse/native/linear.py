"""Linear layers in a graph: on quantized inputs, on inputs quantized by their range, or in float."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from deepsparse.errors import UnsupportedError
from deepsparse.native import settings
from deepsparse.native.encoder import AnyLinear, FloatLinear, Grid, Linear
from deepsparse.native.matching import Matcher
from deepsparse.native.onnx_graph import Node
from deepsparse.native.quantized import (
    IntegerProduct,
    Quantized,
    check_scales,
    integer_product,
    integers,
    quantized,
    rounded,
)
from resparse.arrays import Array

_MOST_ROUNDINGS: Final = 3
"""Of a linear layer, one after the other."""

_MIDDLE: Final = 128
"""What int8 and uint8 of one number differ by."""


class _TooWideError(UnsupportedError):
    """Weights that are not of 8 bits around their zero point."""


@dataclass
class _Sum:
    """A linear layer as a sum: its product, its bias, the other terms, and the grids that it is rounded to.

    That of the product, before the bias is added, and that of both together.
    """

    product: str
    bias: str | None
    others: list[str]
    product_rounding: Grid | None = None
    rounding: Grid | None = None

    @property
    def roundings(self) -> tuple[Grid | None, Grid | None]:
        """As the last two fields of a `Linear`."""
        return self.rounding, self.product_rounding


def is_sum_with_product(matcher: Matcher, value: str, steps: int = _MOST_ROUNDINGS) -> bool:
    """Whether one of the terms of a sum, maybe rounded, is a linear layer."""
    _, inner = rounded(matcher, value)
    return any(_is_or_rounds_product(matcher, term, steps) for term in matcher.terms(inner))


def _is_or_rounds_product(matcher: Matcher, term: str, steps: int) -> bool:
    if _is_product(matcher, term):
        return True
    return (
        steps > 0 and rounded(matcher, term)[0] is not None and is_sum_with_product(matcher, term, steps - 1)
    )


def linear(matcher: Matcher, value: str) -> tuple[AnyLinear, str]:
    """A linear layer, and its input.

    Raises:
        UnsupportedError: the value is computed otherwise.
    """
    grid, inner = rounded(matcher, value)
    parts = _sum(matcher, inner)
    if parts.others or (grid is not None and parts.rounding is not None):
        matcher.refuse(value, "a linear layer")
    return _layer(matcher, replace(parts, rounding=grid or parts.rounding))


def added_linear(matcher: Matcher, value: str) -> tuple[AnyLinear, str, str]:
    """A linear layer and a residual added to it: the layer, its input, the residual.

    Raises:
        UnsupportedError: as for `linear`.
    """
    parts = _sum(matcher, value)
    if len(parts.others) != 1:
        matcher.refuse(value, "the sum of a linear layer and its layer's input")
    found, source = _layer(matcher, parts)
    return found, source, parts.others[0]


def _sum(matcher: Matcher, value: str) -> _Sum:
    terms = matcher.terms(value)
    products = [term for term in terms if _is_product(matcher, term)]
    if not products:
        # A residual may be rounded, too, but is used elsewhere as well.
        for term in sorted(terms, key=matcher.uses):
            if _is_or_rounds_product(matcher, term, _MOST_ROUNDINGS):
                return _of_rounded(matcher, term, [one for one in terms if one != term])
    if len(products) != 1:
        matcher.refuse(value, "a linear layer")
    node = matcher.producers[products[0]]
    added = [*(filter(None, node.inputs[2:]) if node.op_type == "Gemm" else ())]
    added += [term for term in terms if term != products[0]]
    return _with_terms(matcher, _Sum(products[0], None, []), added)


def _of_rounded(matcher: Matcher, term: str, added: list[str]) -> _Sum:
    """A sum of a rounded linear layer, or of its rounded product, and other terms."""
    grid, before = rounded(matcher, term)
    parts = _sum(matcher, before)
    if parts.others:
        matcher.refuse(term, "a linear layer, rounded", settings.OUTPUTS)
    is_product = any(matcher.constant(one) is not None for one in added)
    if not is_product and parts.rounding is None:
        return _with_terms(matcher, replace(parts, rounding=grid), added)
    if parts.bias is not None or parts.rounding is not None or parts.product_rounding is not None:
        matcher.refuse(term, "a linear layer that is rounded twice at most", settings.OUTPUTS)
    return _with_terms(matcher, replace(parts, product_rounding=grid), added)


def _with_terms(matcher: Matcher, parts: _Sum, added: list[str]) -> _Sum:
    constants = [term for term in added if matcher.constant(term) is not None]
    if len(constants) > 1:
        matcher.refuse(parts.product, "a linear layer with one bias")
    bias = next(iter(constants), parts.bias)
    return replace(parts, bias=bias, others=[term for term in added if term not in constants])


def _is_product(matcher: Matcher, value: str) -> bool:
    return (
        matcher.producer(value, "MatMul", "Gemm") is not None or integer_product(matcher, value) is not None
    )


def _layer(matcher: Matcher, parts: _Sum) -> tuple[AnyLinear, str]:
    integer = integer_product(matcher, parts.product)
    if integer is not None and matcher.producer(integer.node.inputs[0], "DynamicQuantizeLinear") is not None:
        return _by_range(matcher, integer, parts)
    if integer is not None:
        return _of_integers(matcher, integer, parts)
    node = matcher.needed(parts.product, "MatMul", "Gemm")
    grid, source = _input(matcher, node)
    weights, scales = _weights(matcher, node, parts)
    biases = _biases(matcher, parts.bias, len(weights))
    if scales is None or grid is None:
        floats = weights if scales is None else weights * scales[:, None]
        return FloatLinear(floats, biases, grid, *parts.roundings), source
    return Linear(weights, biases, scales, grid, *parts.roundings), source


def _input(matcher: Matcher, node: Node) -> tuple[Grid | None, str]:
    """The grid of a product's input, and that; None where it is not quantized."""
    name = node.inputs[0]
    if matcher.producer(name, "DequantizeLinear") is None:
        return None, name
    x = quantized(matcher, name)
    if x.permutation or x.read_scale != x.grid.scale:
        matcher.refuse(node.outputs[0], "a product of a tensor on one grid", settings.INPUTS)
    return x.unsigned(), x.source


def _by_range(matcher: Matcher, product: IntegerProduct, parts: _Sum) -> tuple[Linear, str]:
    """A layer on inputs that are quantized by their range, as ONNX Runtime's `quantize_dynamic` writes it."""
    node = product.node
    x = matcher.needed(node.inputs[0], "DynamicQuantizeLinear")
    factors = matcher.needed(product.scale, "Mul").inputs
    scales = next((matcher.constant(name) for name in factors if name != x.outputs[1]), None)
    if x.outputs[1] not in factors or node.inputs[2:3] != x.outputs[2:3] or scales is None or product.bias:
        matcher.refuse(
            parts.product,
            "the product of a tensor quantized by its range with constant weights",
            settings.INPUTS,
        )
    if any(parts.roundings):
        matcher.refuse(
            parts.product,
            "an output that is not rounded, of a layer on a tensor quantized by its range",
            settings.OUTPUTS,
        )
    weights = _integer_weights(matcher, node)
    by_output = _by_output(scales, len(weights), node.inputs[1])
    biases = _biases(matcher, parts.bias, len(weights))
    return Linear(weights, biases, by_output, None), x.inputs[0]


def _of_integers(matcher: Matcher, product: IntegerProduct, parts: _Sum) -> tuple[Linear, str]:
    """A layer on a grid's integers, as DeepSparse's form has it."""
    node, x = product.node, integers(matcher, product.node.inputs[0])
    scales = matcher.constant(product.scale)
    if x.permutation or scales is None or not is_zero_point(matcher, node, 2, x):
        matcher.refuse(
            parts.product, "the product of a tensor on one grid with constant weights", settings.INPUTS
        )
    weights = _integer_weights(matcher, node)
    by_output = _by_output(scales, len(weights), node.inputs[1])
    biases = _biases(matcher, parts.bias, len(weights))
    if product.bias is not None:
        whole = matcher.constant(product.bias)
        if whole is None or whole.dtype != np.int32 or whole.shape != biases.shape:
            matcher.refuse(parts.product, "a product with a bias of int32")
        biases = biases + whole.astype(np.float32) * by_output
    return Linear(
        weights, biases, by_output / np.float32(x.grid.scale), x.unsigned(), *parts.roundings
    ), x.source


def is_zero_point(matcher: Matcher, node: Node, place: int, of: Quantized) -> bool:
    """Whether a MatMulInteger's input at this place is the zero point of a tensor."""
    found = matcher.scalar(node.inputs[place]) if len(node.inputs) > place and node.inputs[place] else 0.0
    return found == of.grid.zero_point


def _integer_weights(matcher: Matcher, node: Node) -> Array:
    """The weights of a MatMulInteger, int8 [outputs, inputs] with zero point 0."""
    name = node.inputs[1]
    found = matcher.constant(name)
    zero_points: Array | None = np.zeros((), np.int8)
    if len(node.inputs) > 3 and node.inputs[3]:
        zero_points = matcher.constant(node.inputs[3])
    if found is None:
        matcher.refuse(node.outputs[0], "a product with constant weights")
    return around_zero(found, zero_points, name).T


def _float_weights(matcher: Matcher, node: Node, parts: _Sum) -> Array:
    """float32 [outputs, inputs]."""
    name, permutation = matcher.transposed(node.inputs[1], ())
    weights = matcher.constant(name)
    if weights is None:
        raise UnsupportedError(
            f"the weights of the linear layer with {parts.bias or parts.product!r} are no constant"
        )
    if weights.dtype != np.float32 or weights.ndim != 2:
        raise UnsupportedError(f"the weights {name!r} are no matrix of float32 numbers", settings.PRECISION)
    return weights.T if _is_by_inputs(node) != (permutation == (1, 0)) else weights


def _biases(matcher: Matcher, name: str | None, size: int) -> Array:
    return matcher.vector(name, size) if name is not None else np.zeros(size, np.float32)


def _is_by_inputs(node: Node) -> bool:
    """Whether the weights of a product are [inputs, outputs]; else [outputs, inputs]."""
    if node.op_type == "MatMul":
        return True
    get = node.attributes.get
    if (get("alpha", 1.0), get("beta", 1.0), get("transA", 0)) != (1.0, 1.0, 0):
        raise UnsupportedError(f"the product with {node.inputs[1]!r} has factors of its own")
    return get("transB", 0) == 0


def _weights(matcher: Matcher, node: Node, parts: _Sum) -> tuple[Array, Array | None]:
    """Weights, int8 [outputs, inputs] with zero point 0, and their scales, float32 [outputs].

    Where they are in float, or no int8 can say them: float32 [outputs, inputs], and None.
    """
    if matcher.producer(node.inputs[1], "DequantizeLinear") is None:
        return _float_weights(matcher, node, parts), None
    try:
        return _integer_matrix(matcher, node)
    except _TooWideError:
        return _float_weights(matcher, node, parts), None


def _integer_matrix(matcher: Matcher, node: Node) -> tuple[Array, Array]:
    name = node.inputs[1]
    read = matcher.needed(name, "DequantizeLinear")
    stored = matcher.constant(read.inputs[0])
    if stored is None:
        raise UnsupportedError(f"the weights {name!r} are no constant")
    is_transposed = _is_by_inputs(node)
    scales, axis = matcher.constant(read.inputs[1]), read.attributes.get("axis", 1)
    if stored.ndim != 2 or scales is None or not isinstance(axis, int):
        raise UnsupportedError(
            f"the weights {name!r} are no matrix of integers with constant scales", settings.WEIGHTS
        )
    weights = stored.T if is_transposed else stored
    if scales.size > 1 and (axis % 2 != int(is_transposed) or scales.shape != (len(weights),)):
        raise UnsupportedError(
            f"the weights {name!r} have scales by inputs, not by outputs", settings.WEIGHTS
        )
    zero_points = matcher.constant(read.inputs[2]) if len(read.inputs) > 2 else np.zeros((), stored.dtype)
    if zero_points is not None and zero_points.size > 1:
        zero_points = zero_points.reshape(-1, 1)
    return around_zero(weights, zero_points, name), _by_output(scales, len(weights), name)


def around_zero(weights: Array, zero_points: Array | None, name: str) -> Array:
    """Integer weights, 8 bits, as int8 with zero point 0.

    Args:
        weights: int8 or uint8.
        zero_points: one, or as many as one axis is long, shaped to go with them.
        name: of the weights.

    Raises:
        UnsupportedError: they are other integers, or no int8 with zero point 0 can say them.
    """
    if weights.dtype not in (np.int8, np.uint8) or weights.ndim != 2 or zero_points is None:
        raise UnsupportedError(f"the weights {name!r} are no matrix of 8-bit integers", settings.WEIGHTS)
    if weights.dtype == np.int8 and not zero_points.any():
        return weights
    if weights.dtype == np.uint8 and (zero_points == _MIDDLE).all():
        return (weights ^ 0x80).view(np.int8)
    centred = weights.astype(np.int16) - zero_points.astype(np.int16)
    if centred.min(initial=0) < -_MIDDLE or centred.max(initial=0) >= _MIDDLE:
        raise _TooWideError(
            f"the weights {name!r} reach further than 8 bits from their zero point", settings.WEIGHTS
        )
    return centred.astype(np.int8)


def _by_output(scales: Array, outputs: int, name: str) -> Array:
    if scales.size not in (1, outputs):
        raise UnsupportedError(
            f"the weights {name!r} have {scales.size} scales for {outputs} outputs", settings.WEIGHTS
        )
    full = np.broadcast_to(scales.astype(np.float32).reshape(-1), (outputs,))
    check_scales(full, name)
    return full
