"""Helpers to read and rewrite ONNX graphs of `onnx_ir`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from resparse.arrays import Array


def nodes(model: ir.Model, *kinds: str) -> Iterator[ir.Node]:
    """The nodes of these operators, in order; the graph may be changed while iterating."""
    yield from [node for node in model.graph if node.op_type in kinds]


def constant(value: ir.Value | None) -> Array | None:
    """The array of a value that does not depend on the inputs; None for others."""
    if value is None:
        return None
    if value.const_value is not None:
        return value.const_value.numpy()
    producer = value.producer()
    if producer is not None and producer.op_type == "Constant":
        tensor: Array = producer.attributes["value"].as_tensor().numpy()
        return tensor
    return None


def array_of(value: ir.Value | None) -> Array:
    """The array of a value that is known to be constant."""
    array = constant(value)
    assert array is not None
    return array


def producer(value: ir.Value | None, kind: str) -> ir.Node | None:
    """The node that computes a value, if it is of this operator."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == kind else None


def consumer(value: ir.Value, kind: str) -> ir.Node | None:
    """The only node that uses a value, if it is of this operator."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return None
    node = uses[0].node
    return node if node.op_type == kind else None


def other_input(node: ir.Node, value: ir.Value) -> ir.Value:
    """The input of a node with two inputs that is not `value`."""
    first, second = node.inputs
    other = second if first is value else first
    assert other is not None
    return other


def store(model: ir.Model, name: str, array: Array) -> ir.Value:
    """The initializer of this name, created on first use."""
    known = model.graph.initializers.get(name)
    if known is not None:
        assert np.array_equal(array_of(known), array), f"two values called {name}"
        return known
    tensor = ir.tensor(np.array(array, order="C"), name=name)
    kind, shape = ir.TensorType(tensor.dtype), ir.Shape(array.shape)
    value = ir.Value(name=name, shape=shape, type=kind, const_value=tensor)
    model.graph.register_initializer(value)
    return value


def restore_initializers(model: ir.Model) -> None:
    """Register constants that nodes use and the graph has lost, equal ones once, and merge what then is computed twice.

    The exporter's optimizer names the bounds of a Clip after its input, so that of several Clips of one tensor, such as
    the input of query, key and value, only the last keeps its bounds.
    """
    initializers = model.graph.initializers
    found = {
        _key(value): value
        for value in initializers.values()
        if value.const_value is not None and value.const_value.size == 1
    }
    lost = False
    for node in model.graph:
        for index, value in enumerate(node.inputs):
            if value is None or value.const_value is None or value.producer() is not None:
                continue
            name = value.name or "constant"
            if initializers.get(name) is value:
                continue
            lost = True
            if _key(value) not in found:
                while name in initializers:
                    name += ".other"
                found[_key(value)] = store(model, name, array_of(value))
            node.replace_input_with(index, found[_key(value)])
    if lost:
        common.CommonSubexpressionEliminationPass()(model)


def _key(value: ir.Value) -> tuple[bytes, str, tuple[int, ...]]:
    array = array_of(value)
    return array.tobytes(), array.dtype.str, array.shape


def insert_before(
    anchor: ir.Node,
    kind: str,
    *inputs: ir.Value | None,
    dtype: ir.DataType = ir.DataType.FLOAT,
    **attributes: Any,
) -> ir.Value:
    """Insert a node of one output before another node; returns its output."""
    node = ir.node(kind, list(inputs), attributes=attributes or None)
    assert anchor.graph is not None
    anchor.graph.insert_before(anchor, node)
    (value,) = node.outputs
    value.dtype = dtype
    return value


def replace(node: ir.Node, value: ir.Value) -> None:
    """Replace a node's only output by a value, and remove the node."""
    (old,) = node.outputs
    if old.is_graph_output():
        name, kind, shape = old.name, old.type, old.shape
        old.name = None
        value.name, value.type, value.shape = name, kind, shape
    old.replace_all_uses_with(value, replace_graph_outputs=True)
    assert node.graph is not None
    node.graph.remove(node, safe=True)


def remove_unused(model: ir.Model) -> None:
    """Remove unused nodes, and the exporter's metadata: it holds paths of this machine."""
    common.RemoveUnusedNodesPass()(model)
    common.ClearMetadataAndDocStringPass()(model)
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.metadata_props.clear()
