"""Rewrites that change no result and let runtimes find what they run fast."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sparseml.export.graph import before, constant, consumer, nodes, other_input, producer, replace, store
from sparseml.export.weights import integer_type


def order_gelu(model: ir.Model) -> None:
    """x · (½ · (1 + erf)) as (x · (1 + erf)) · ½: the order in which runtimes know GELU (and fuse it)."""
    for erf in nodes(model, "Erf"):
        shifted = consumer(erf.outputs[0], "Add")
        halved = consumer(shifted.outputs[0], "Mul") if shifted is not None else None
        last = consumer(halved.outputs[0], "Mul") if halved is not None else None
        if shifted is None or halved is None or last is None:
            continue
        half = other_input(halved, shifted.outputs[0])
        if not _is_scalar(half, 0.5):
            continue
        x = other_input(last, halved.outputs[0])
        # The first product now needs x, which may be computed after it.
        product = before(last, "Mul", x, shifted.outputs[0])
        replace(last, before(last, "Mul", product, half))


def transpose_integers(model: ir.Model) -> None:
    """Transpose before dequantizing, not after it: bytes are moved, and products see dequantized tensors at once."""
    for node in nodes(model, "Transpose"):
        scaled = producer(node.inputs[0], "DequantizeLinear")
        scale = constant(scaled.inputs[1]) if scaled is not None else None
        if scaled is None or scale is None or scale.ndim or len(scaled.outputs[0].uses()) != 1:
            continue
        perm = list(node.attributes["perm"].as_ints())
        moved = before(node, "Transpose", scaled.inputs[0], dtype=integer_type(scaled), perm=perm)
        result = before(node, "DequantizeLinear", moved, *scaled.inputs[1:])
        result.shape = node.outputs[0].shape
        replace(node, result)


def fold_score_scale(model: ir.Model) -> None:
    """The factor of attention's scores goes into the scale of the dequantized queries: one pass less over them."""
    for node in nodes(model, "Mul"):
        product = producer(node.inputs[0], "MatMul")
        factor = constant(node.inputs[1])
        if product is None or factor is None or factor.size != 1 or len(product.outputs[0].uses()) != 1:
            continue
        query = producer(product.inputs[0], "DequantizeLinear")
        scale = constant(query.inputs[1]) if query is not None else None
        if query is None or scale is None or scale.ndim or len(query.outputs[0].uses()) != 1:
            continue
        assert query.inputs[1] is not None
        name = f"{query.inputs[1].name}.times_score_scale"
        query.replace_input_with(1, store(model, name, (scale * factor.reshape(())).astype(np.float32)))
        replace(node, product.outputs[0])


def sum_residuals(model: ir.Model) -> None:
    """Additions before a layer normalization as one Sum.

    ONNX Runtime turns Add and LayerNormalization into SkipLayerNormalization, which takes several times as long
    on CPUs as the two; a Sum it leaves alone.
    """
    for norm in nodes(model, "LayerNormalization"):
        outer = producer(norm.inputs[0], "Add")
        if outer is None:
            continue
        terms: list[ir.Value] = []
        for value in outer.inputs:
            assert value is not None
            inner = producer(value, "Add")
            if inner is not None and consumer(value, "Add") is not None:
                terms += [term for term in inner.inputs if term is not None]
            else:
                terms.append(value)
        total = before(outer, "Sum", *terms)
        total.shape = outer.outputs[0].shape
        replace(outer, total)


def _is_scalar(value: ir.Value, wanted: float) -> bool:
    found = constant(value)
    return found is not None and found.size == 1 and float(found.reshape(())) == wanted
