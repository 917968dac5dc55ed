"""A reader of ONNX files: the graph, its constants, inputs and outputs. Needs neither onnx nor protobuf.

Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deepsparse.errors import ModelError
from deepsparse.native.onnx_tensors import (
    BYTES,
    ExternalDataError,
    TensorReader,
    WireError,
    as_bytes,
    as_integer,
    as_text,
    fields,
    map_file,
    signed,
    varints,
)
from resparse.arrays import Array

Attribute = int | float | str | list[int] | list[float] | Array


@dataclass
class Node:
    """A node of the graph.

    Attributes:
        op_type: the operator, after its domain and a dot where that is not ONNX's own.
        name: of the node; may be empty.
        attributes: numbers, strings, lists of numbers and tensors; others are left out.
    """

    op_type: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: dict[str, Attribute] = field(default_factory=dict)
    name: str = ""


@dataclass
class ValueInfo:
    """An input or output of the graph; elem_type is a TensorProto.DataType, dynamic dimensions are None."""

    name: str = ""
    elem_type: int = 0
    shape: tuple[int | None, ...] = ()


@dataclass
class Graph:
    """An ONNX model.

    Attributes:
        opset: the version of the default operator set.
        constants: initializers and values of Constant nodes, by name; only of types that NumPy has.
        files: the mapped files: the model, and its external data.
    """

    opset: int = 0
    inputs: list[ValueInfo] = field(default_factory=list)
    outputs: list[ValueInfo] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    files: dict[Path, memoryview] = field(default_factory=dict)


def read(model: Path) -> Graph:
    """Read an ONNX file.

    Raises:
        ModelError: it is damaged, or its external data is missing.
    """
    try:
        data = map_file(model)
        reader = TensorReader(model.parent)
        graph = _model(data, reader)
    except ExternalDataError as error:
        raise ModelError(f"{model} cannot be read: {error}. Copy the whole folder again.") from error
    # NumPy raises ValueError for impossible shapes; WireError is one, too.
    except (ValueError, OverflowError) as error:
        size = model.stat().st_size
        raise ModelError(
            f"{model} is not a whole ONNX model ({size:,} bytes): {error}. Was a copy or an export cut short? "
            "Copy it again, or export again."
        ) from error
    graph.files = {model: data, **reader.files}
    return graph


def _model(data: memoryview, reader: TensorReader) -> Graph:
    found: Graph | None = None
    opset = 0
    for number, _, value in fields(data):
        if number == 7:
            found = _graph(as_bytes(value), reader)
        elif number == 8:
            domain, version = _opset(as_bytes(value))
            opset = opset if domain else version
    if found is None or not opset:
        raise WireError("it holds no graph" if found is None else "it does not say which operators it means")
    found.opset = opset
    return found


def _graph(data: memoryview, reader: TensorReader) -> Graph:
    graph = Graph()
    for number, _, value in fields(data):
        if number == 1:
            node = _node(as_bytes(value), reader)
            constant = node.attributes.get("value")
            if node.op_type == "Constant" and isinstance(constant, np.ndarray) and len(node.outputs) == 1:
                graph.constants[node.outputs[0]] = constant
            else:
                graph.nodes.append(node)
        elif number == 5:
            name, tensor = reader.tensor(as_bytes(value))
            if tensor is not None:
                graph.constants[name] = tensor
        elif number == 11:
            graph.inputs.append(_value_info(as_bytes(value)))
        elif number == 12:
            graph.outputs.append(_value_info(as_bytes(value)))
    # Before IR version 4, initializers were listed among the inputs.
    graph.inputs = [one for one in graph.inputs if one.name not in graph.constants]
    return graph


def _node(data: memoryview, reader: TensorReader) -> Node:
    node = Node()
    domain = ""
    for number, _, value in fields(data):
        if number == 1:
            node.inputs.append(as_text(value))
        elif number == 2:
            node.outputs.append(as_text(value))
        elif number == 3:
            node.name = as_text(value)
        elif number == 4:
            node.op_type = as_text(value)
        elif number == 5:
            name, attribute = _attribute(as_bytes(value), reader)
            if attribute is not None:
                node.attributes[name] = attribute
        elif number == 7:
            domain = as_text(value)
    if domain not in ("", "ai.onnx"):
        node.op_type = f"{domain}.{node.op_type}"
    return node


def _attribute(data: memoryview, reader: TensorReader) -> tuple[str, Attribute | None]:
    name = ""
    found: Attribute | None = None
    floats: list[float] = []
    integers: list[int] = []
    for number, kind, value in fields(data):
        if number == 1:
            name = as_text(value)
        elif number == 2:
            found = _floats(value)[0]
        elif number == 3:
            found = as_integer(value)
        elif number == 4:
            found = str(as_bytes(value), "utf-8", "replace")
        elif number == 5:
            _, found = reader.tensor(as_bytes(value))
        elif number == 7:
            floats += _floats(value)
        elif number == 8:
            integers += _integers(kind, value)
    return name, floats or integers or found


def _floats(value: int | memoryview) -> list[float]:
    data = as_bytes(value)
    if not data or len(data) % 4:
        raise WireError("a number is cut short")
    return [float(number) for number in np.frombuffer(data, "<f4")]


def _integers(kind: int, value: int | memoryview) -> Iterator[int]:
    if kind == BYTES:
        yield from (signed(int(number)) for number in varints(as_bytes(value)))
    else:
        yield as_integer(value)


def _opset(data: memoryview) -> tuple[str, int]:
    domain, version = "", 0
    for number, _, value in fields(data):
        if number == 1:
            domain = as_text(value)
        elif number == 2:
            version = as_integer(value)
    return ("" if domain == "ai.onnx" else domain), version


def _value_info(data: memoryview) -> ValueInfo:
    value_info = ValueInfo()
    for number, _, value in fields(data):
        if number == 1:
            value_info.name = as_text(value)
        elif number == 2:
            for tensor in _messages(value, 1):
                value_info.elem_type = next(_numbers(tensor, 1), 0)
                shapes = _messages(tensor, 2)
                value_info.shape = tuple(_dimension(size) for shape in shapes for size in _messages(shape, 1))
    return value_info


def _dimension(data: memoryview) -> int | None:
    size = next(_numbers(data, 1), 0)
    return size if size > 0 else None


def _messages(data: int | memoryview, wanted: int) -> Iterator[memoryview]:
    """The submessages in a field of a message."""
    yield from (as_bytes(value) for number, _, value in fields(as_bytes(data)) if number == wanted)


def _numbers(data: memoryview, wanted: int) -> Iterator[int]:
    """The integers in a field of a message."""
    yield from (as_integer(value) for number, _, value in fields(data) if number == wanted)
