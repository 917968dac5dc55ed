"""The layers of an ONNX graph: its constant weights, with the operator that uses them, in float or integers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from resparse.arrays import Array
from sparsezoo.analysis.layers import Layer
from sparsezoo.common import ZooError

# Operators with weights, and which inputs may be those; where given, which input is those weights' zero point.
_WEIGHTS: dict[str, tuple[tuple[int, int | None], ...]] = {
    "MatMul": ((0, None), (1, None)),
    "Gemm": ((0, None), (1, None)),
    "Conv": ((1, None),),
    "Gather": ((0, None),),
    "MatMulInteger": ((0, 2), (1, 3)),
    "ConvInteger": ((1, 3),),
    "QLinearMatMul": ((0, 2), (3, 5)),
    "QLinearConv": ((3, 5),),
    "QGemm": ((3, 5),),
}
# Operators between weights and the operator that uses them.
_THROUGH = frozenset(
    {"Transpose", "Reshape", "Cast", "Identity", "DequantizeLinear", "QuantizeLinear", "Unsqueeze"}
)
# Inputs that are scales and zero points, not parameters.
_SCALES = {
    "DequantizeLinear": (1, 2),
    "QuantizeLinear": (1, 2),
    "MatMulInteger": (2, 3),
    "ConvInteger": (2, 3),
}
_FLOAT_BITS = {1: 32, 10: 16, 11: 64, 16: 16}


def layers(path: Path) -> tuple[list[Layer], dict[str, int]]:
    """The layers of a model, and its number of nodes by operator.

    A matrix counts once for each constant, however many operators use it. Embedding tables are the constants of
    `Gather`; biases and norms are "Other".

    Raises:
        ZooError: `onnx` is not installed, or the file is no model.
    """
    graph = _load(path).graph
    try:
        return _layers(graph, _constants(graph, path.parent))
    # What a damaged graph refers to is not there, or is of another type.
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OSError, RuntimeError) as error:
        raise ZooError(f"{path} is no ONNX model that can be read: {error}.") from error


def _layers(graph: Any, constants: Mapping[str, Array]) -> tuple[list[Layer], dict[str, int]]:
    makers = {output: node for node in graph.node for output in node.output}
    found: dict[str, Layer] = {}
    for node in graph.node:
        for place, zero_place in _WEIGHTS.get(node.op_type, ()):
            traced = _trace(node, place, zero_place, makers, constants)
            if traced is None:
                continue
            name, zero, bits = traced
            values = constants[name]
            if values.ndim >= 2 and name not in found:
                op = "Embedding" if node.op_type == "Gather" else node.op_type
                zeros = _at(values, zero)
                found[name] = Layer(_plain(name), op, tuple(values.shape), zeros, bits or 8 * values.itemsize)
    others = [
        Layer(
            name,
            "Other",
            tuple(values.shape),
            values.size - int(np.count_nonzero(values)),
            8 * values.itemsize,
        )
        for name, values in constants.items()
        if name not in found
        and name not in _not_parameters(graph)
        and values.dtype.kind == "f"
        and values.ndim
    ]
    return [*found.values(), *others], dict(Counter(node.op_type for node in graph.node))


def _load(path: Path) -> Any:
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise ZooError(
            f"To analyze {path} the package {error.name!r} is needed: pip install 'resparse[torch]'."
        ) from error
    try:
        model = onnx.load(path)
    except Exception as error:  # its exceptions have no common base but this
        raise ZooError(f"{path} is no ONNX model that can be read: {error}.") from error
    if not model.graph.node:
        raise ZooError(f"{path} is no ONNX model: it has no nodes.")
    names = (name for node in model.graph.node for name in (node.op_type, *node.input, *node.output))
    if not all(
        isinstance(name, str) for name in (*names, *(tensor.name for tensor in model.graph.initializer))
    ):
        raise ZooError(f"{path} is no ONNX model that can be read: a name in it is no UTF-8 text.")
    return model


def _constants(graph: Any, folder: Path) -> dict[str, Array]:
    """Initializers, and tensors of Constant nodes, by name."""
    from onnx import numpy_helper

    found = {tensor.name: numpy_helper.to_array(tensor, str(folder)) for tensor in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.name == "value":
                found[node.output[0]] = numpy_helper.to_array(attribute.t, str(folder))
    return found


def _trace(
    node: Any, place: int, zero_place: int | None, makers: Mapping[str, Any], constants: Mapping[str, Array]
) -> tuple[str, Array | None, int | None] | None:
    """The constant behind an input, its zero point, and its bits where they are not those of the stored type."""
    if place >= len(node.input):
        return None
    name = node.input[place]
    zero = _input(node, zero_place, constants)
    bits = None
    while name not in constants:
        maker = makers.get(name)
        if maker is None or maker.op_type not in _THROUGH:
            return None
        if maker.op_type == "DequantizeLinear":
            zero = _along(_input(maker, 2, constants), maker, constants)
        elif maker.op_type == "QuantizeLinear":
            # Float weights that are rounded at run time: zero is zero again.
            zero, bits = None, 8
        name = maker.input[0]
    return name, zero, bits


def _input(node: Any, place: int | None, constants: Mapping[str, Array]) -> Array | None:
    """A constant input; None where there is none."""
    return constants.get(node.input[place]) if place is not None and place < len(node.input) else None


def _along(zero: Array | None, node: Any, constants: Mapping[str, Array]) -> Array | None:
    """A zero point for each channel, shaped to be broadcast along the node's axis."""
    values = constants.get(node.input[0])
    if zero is None or values is None or zero.ndim != 1 or zero.size == 1:
        return zero
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
    shape = [1] * values.ndim
    shape[axis] = zero.size
    return zero.reshape(shape)


def _at(values: Array, zero: Array | None) -> int:
    """How many values are zero, that is at their zero point."""
    if zero is None:
        return int(values.size - np.count_nonzero(values))
    return int(np.count_nonzero(values == zero))


def _not_parameters(graph: Any) -> set[str]:
    """Constants that are scales and zero points."""
    return {
        node.input[place]
        for node in graph.node
        for place in _SCALES.get(node.op_type, ())
        if place < len(node.input)
    }


def _plain(name: str) -> str:
    """The name of weights without what an export has appended."""
    return name.removesuffix(".transposed").removesuffix(".quantized").removesuffix("_quantized")
