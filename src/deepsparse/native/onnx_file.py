"""A small reader of ONNX files: what a graph takes, gives, holds and computes. Needs neither onnx nor protobuf.

Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deepsparse.errors import ModelError
from deepsparse.native import wire
from deepsparse.native.tensors import ExternalDataError, Reader, map_file
from deepsparse.native.wire import WireError
from resparse.arrays import Array

Attribute = int | float | str | list[int] | list[float] | Array


@dataclass
class Node:
    """An operator of the graph.

    Attributes:
        kind: its name, with the domain before it where that is not ONNX's own.
        attributes: numbers, text, lists of numbers and tensors; others are left out.
    """

    kind: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: dict[str, Attribute] = field(default_factory=dict)


@dataclass
class Port:
    """An input or output of the graph: its type is ONNX's number; sizes that are not fixed are None."""

    name: str = ""
    kind: int = 0
    shape: tuple[int | None, ...] = ()


@dataclass
class Graph:
    """An ONNX model.

    Attributes:
        opset: the version of ONNX's own operators.
        constants: initializers and the values of Constant nodes, by name; only of types that NumPy has.
        files: what was read: the model, and files of weights beside it, as their bytes.
    """

    opset: int = 0
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    files: dict[Path, memoryview] = field(default_factory=dict)


def read(model: Path) -> Graph:
    """Read an ONNX file.

    Raises:
        ModelError: it is damaged, or a file of weights that belongs to it is missing.
    """
    try:
        data = map_file(model)
        reader = Reader(model.parent)
        graph = _model(data, reader)
    except ExternalDataError as error:
        raise ModelError(f"{model} cannot be read: {error}. Copy the whole folder again.") from error
    # NumPy's own complaints about sizes that no array can have are ValueErrors, as WireError is.
    except (ValueError, OverflowError) as error:
        size = model.stat().st_size
        raise ModelError(
            f"{model} is not a whole ONNX model ({size:,} bytes): {error}. Was a copy or an export cut short? "
            "Copy it again, or export again."
        ) from error
    graph.files = {model: data, **reader.files}
    return graph


def _model(data: memoryview, reader: Reader) -> Graph:
    found: Graph | None = None
    opset = 0
    for number, _, value in wire.fields(data):
        if number == 7:
            found = _graph(wire.view(value), reader)
        elif number == 8:
            domain, version = _opset(wire.view(value))
            opset = opset if domain else version
    if found is None or not opset:
        raise WireError("it holds no graph" if found is None else "it does not say which operators it means")
    found.opset = opset
    return found


def _graph(data: memoryview, reader: Reader) -> Graph:
    graph = Graph()
    for number, _, value in wire.fields(data):
        if number == 1:
            node = _node(wire.view(value), reader)
            constant = node.attributes.get("value")
            if node.kind == "Constant" and isinstance(constant, np.ndarray) and len(node.outputs) == 1:
                graph.constants[node.outputs[0]] = constant
            else:
                graph.nodes.append(node)
        elif number == 5:
            name, tensor = reader.tensor(wire.view(value))
            if tensor is not None:
                graph.constants[name] = tensor
        elif number == 11:
            graph.inputs.append(_port(wire.view(value)))
        elif number == 12:
            graph.outputs.append(_port(wire.view(value)))
    # Before IR version 4, initializers were listed among the inputs.
    graph.inputs = [port for port in graph.inputs if port.name not in graph.constants]
    return graph


def _node(data: memoryview, reader: Reader) -> Node:
    node = Node()
    domain = ""
    for number, _, value in wire.fields(data):
        if number == 1:
            node.inputs.append(wire.text(value))
        elif number == 2:
            node.outputs.append(wire.text(value))
        elif number == 4:
            node.kind = wire.text(value)
        elif number == 5:
            name, attribute = _attribute(wire.view(value), reader)
            if attribute is not None:
                node.attributes[name] = attribute
        elif number == 7:
            domain = wire.text(value)
    if domain not in ("", "ai.onnx"):
        node.kind = f"{domain}.{node.kind}"
    return node


def _attribute(data: memoryview, reader: Reader) -> tuple[str, Attribute | None]:
    name = ""
    found: Attribute | None = None
    floats: list[float] = []
    integers: list[int] = []
    for number, kind, value in wire.fields(data):
        if number == 1:
            name = wire.text(value)
        elif number == 2:
            found = _floats(value)[0]
        elif number == 3:
            found = wire.integer(value)
        elif number == 4:
            found = str(wire.view(value), "utf-8", "replace")
        elif number == 5:
            _, found = reader.tensor(wire.view(value))
        elif number == 7:
            floats += _floats(value)
        elif number == 8:
            integers += _integers(kind, value)
    return name, floats or integers or found


def _floats(value: int | memoryview) -> list[float]:
    data = wire.view(value)
    if not data or len(data) % 4:
        raise WireError("a number is cut short")
    return [float(number) for number in np.frombuffer(data, "<f4")]


def _integers(kind: int, value: int | memoryview) -> Iterator[int]:
    if kind == wire.BYTES:
        yield from (wire.signed(int(number)) for number in wire.varints(wire.view(value)))
    else:
        yield wire.integer(value)


def _opset(data: memoryview) -> tuple[str, int]:
    domain, version = "", 0
    for number, _, value in wire.fields(data):
        if number == 1:
            domain = wire.text(value)
        elif number == 2:
            version = wire.integer(value)
    return ("" if domain == "ai.onnx" else domain), version


def _port(data: memoryview) -> Port:
    port = Port()
    for number, _, value in wire.fields(data):
        if number == 1:
            port.name = wire.text(value)
        elif number == 2:
            for tensor in _messages(value, 1):
                port.kind = next(_numbers(tensor, 1), 0)
                shapes = _messages(tensor, 2)
                port.shape = tuple(_dimension(size) for shape in shapes for size in _messages(shape, 1))
    return port


def _dimension(data: memoryview) -> int | None:
    size = next(_numbers(data, 1), 0)
    return size if size > 0 else None


def _messages(data: int | memoryview, wanted: int) -> Iterator[memoryview]:
    """The messages in one field of a message."""
    yield from (wire.view(value) for number, _, value in wire.fields(wire.view(data)) if number == wanted)


def _numbers(data: memoryview, wanted: int) -> Iterator[int]:
    """The numbers in one field of a message."""
    yield from (wire.integer(value) for number, _, value in wire.fields(data) if number == wanted)
