"""The Open Inference Protocol (KServe's V2), REST, with Triton's extension for binary tensors: texts in, tensors out.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md and
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md. Requests go to the
same route as those of DeepSparse, and are told apart by their field `inputs`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np

from deepsparse.errors import InputError
from deepsparse.tasks.base import Task, TaskOutput

EXTENSIONS: Final = ("binary_tensor_data",)

LENGTH_HEADER: Final = "Inference-Header-Content-Length"
"""Of a body with binary tensors: the bytes of its JSON, which they follow."""

# The model is named in the address; KServe's client names it here, too.
_KNOWN: Final = ("id", "parameters", "inputs", "outputs", "model_name", "model_version")
_BINARY: Final = ("binary_data_size", "binary_data", "binary_data_output")
_PREFIX: Final = 4  # bytes of the length that precedes each string

SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["inputs"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "string"},
        "model_name": {"description": "Without effect: the address names the model."},
        "model_version": {"description": "Without effect."},
        "parameters": {"type": "object", "description": "Options of the model's task, such as top_k."},
        "inputs": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "shape", "datatype", "data"],
                "properties": {
                    "name": {"type": "string"},
                    "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
                    "datatype": {"const": "BYTES"},
                    "data": {"type": "array", "items": {"type": "string"}},
                    "parameters": {"type": "object"},
                },
            },
        },
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "parameters": {"type": "object"}},
            },
        },
    },
    "example": {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["What a day!"]}]},
}
"""JSON schema of a request's body."""


@dataclass(frozen=True)
class Asked:
    """What an answer has to look like.

    Attributes:
        id: of the request, given back; None where it has none.
        outputs: names of the tensors that are wanted, and whether each in binary; None: all.
        binary: whether all are wanted in binary, where `outputs` names none.
    """

    id: str | None
    outputs: Mapping[str, bool] | None
    binary: bool


@dataclass(frozen=True)
class Tensor:
    """One output: its data are flat, in the order of `shape`; `binary` says in which form it is wanted."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any]
    binary: bool


def is_one(fields: Mapping[str, Any], task: Task[Any, Any]) -> bool:
    """Whether a request's fields are of this protocol, and not of the task's own body."""
    return "inputs" in fields and "inputs" not in task.request["properties"]


def read(fields: Mapping[str, Any], binary: bytes, task: Task[Any, Any]) -> tuple[dict[str, Any], Asked]:
    """The fields of the task's own body, and what is asked.

    Tensors are taken by their names where these are the task's inputs; of a task of texts, one tensor holds texts (or,
    with a last dimension of 2, pairs), and two hold the first and the second texts.

    Args:
        fields: the JSON.
        binary: what follows it.

    Raises:
        InputError: a tensor that is no text, or another number of them; says which.
    """
    for name in fields:
        if name not in _KNOWN:
            raise InputError(f"There is no field {name[:60]!r} in a request of the Open Inference Protocol.")
    tensors = _tensors(fields["inputs"], binary)
    parameters = _object(fields.get("parameters"), "parameters")
    options = {key: value for key, value in parameters.items() if key not in _BINARY}
    for name in options:
        if name not in task.request["properties"] or name in task.request["required"]:
            raise InputError(f"parameters has {name[:60]!r}, which is no option of this model.")
    wanted: dict[str, bool] | None = None
    if fields.get("outputs"):
        wanted = {}
        for place, output in enumerate(_list(fields["outputs"], "outputs")):
            where = f"outputs[{place}]"
            key = _object(output, where).get("name")
            if not isinstance(key, str):
                raise InputError(f"{where} has no name.")
            wanted[key] = _object(output.get("parameters"), f"{where}.parameters").get("binary_data") is True
    identity = fields.get("id")
    if identity is not None and not isinstance(identity, str):
        raise InputError("id is no text.")
    asked = Asked(identity, wanted, parameters.get("binary_data_output") is True)
    return {**_inputs(tensors, task), **options}, asked


def answer(name: str, asked: Asked, output: TaskOutput) -> tuple[bytes, dict[str, str]]:
    """The body of an answer, and its headers.

    Raises:
        InputError: a tensor is asked for that the model does not give.
    """
    described, binaries = [], []
    for tensor in tensors(asked, output):
        fields: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if tensor.binary:
            binaries.append(packed(tensor))
            fields["parameters"] = {"binary_data_size": len(binaries[-1])}
        else:
            fields["data"] = tensor.data
        described.append(fields)
    content = {"model_name": name, **({"id": asked.id} if asked.id is not None else {}), "outputs": described}
    text = json.dumps(content, ensure_ascii=False).encode()
    if not binaries:
        return text, {"Content-Type": "application/json"}
    headers = {"Content-Type": "application/octet-stream", LENGTH_HEADER: str(len(text))}
    return b"".join([text, *binaries]), headers


def tensors(asked: Asked, output: TaskOutput) -> list[Tensor]:
    """The tensors that are asked for; raises as `answer`."""
    given = output.tensors()
    wanted = dict.fromkeys(given, asked.binary) if asked.outputs is None else asked.outputs
    found = []
    for name, is_binary in wanted.items():
        if name not in given:
            raise InputError(f"outputs names {name[:60]!r}; the model gives {', '.join(given)}.")
        found.append(Tensor(name, *_tensor(given[name]), is_binary))
    return found


def metadata(task: Task[Any, Any], output: TaskOutput) -> dict[str, Any]:
    """The tensors of a model, as its metadata name them.

    Args:
        output: for the task's example.
    """
    required = task.request["required"]
    names = ["text"] if required == ["sequences"] else required
    given = {key: _tensor(value)[0] for key, value in output.tensors().items()}
    return {
        "inputs": [{"name": key, "datatype": "BYTES", "shape": [-1]} for key in names],
        "outputs": [{"name": key, "datatype": kind, "shape": [-1]} for key, kind in given.items()],
    }


def _tensors(inputs: Any, binary: bytes) -> dict[str, tuple[list[int], list[str]]]:
    """Shape and texts of each tensor, by name."""
    found: dict[str, tuple[list[int], list[str]]] = {}
    for place, value in enumerate(_list(inputs, "inputs")):
        where = f"inputs[{place}]"
        tensor = _object(value, where)
        name, shape = tensor.get("name"), tensor.get("shape")
        if not isinstance(name, str) or name in found:
            raise InputError(f"{where} has no name of its own.")
        if tensor.get("datatype") != "BYTES":
            raise InputError(f"{where} ({name[:60]}) is of {tensor.get('datatype')!r:.20}; texts are BYTES.")
        if (
            not isinstance(shape, list)
            or not shape
            or not all(type(size) is int and size >= 0 for size in shape)
        ):
            raise InputError(f"{where} ({name[:60]}) has no shape.")
        size = _object(tensor.get("parameters"), f"{where}.parameters").get("binary_data_size")
        if size is None:
            texts = _flat(tensor.get("data"), where)
        else:
            if type(size) is not int or not 0 <= size <= len(binary):
                raise InputError(f"{where} ({name[:60]}) states more binary data than the body has.")
            texts, binary = _unpacked(binary[:size], where), binary[size:]
        if prod(shape) != len(texts):
            raise InputError(f"{where} ({name[:60]}) has {len(texts)} texts, but the shape {shape}.")
        found[name] = (shape, texts)
    if binary:
        raise InputError(f"The body has {len(binary):,} bytes more than its tensors state.")
    return found


def _inputs(tensors: Mapping[str, tuple[list[int], list[str]]], task: Task[Any, Any]) -> dict[str, Any]:
    """The inputs of the task's own body."""
    required = task.request["required"]
    if set(tensors) == set(required) and required != ["sequences"]:
        lists = {name: texts for name, (_, texts) in tensors.items()}
        return {name: texts[0] if len(texts) == 1 else texts for name, texts in lists.items()}
    if required != ["sequences"]:
        raise InputError(f"inputs are {', '.join(tensors)[:120]}; wanted are {' and '.join(required)}.")
    if len(tensors) == 1:
        ((shape, texts),) = tensors.values()
        if len(shape) > 1 and shape[-1] == 2:
            return {"sequences": [list(pair) for pair in zip(texts[::2], texts[1::2], strict=True)]}
        return {"sequences": texts}
    if len(tensors) == 2:
        (_, first), (_, second) = tensors.values()
        if len(first) == len(second):
            return {"sequences": [list(pair) for pair in zip(first, second, strict=True)]}
    raise InputError(
        "inputs are to be one tensor of texts, or two of as many texts: the pairs' first and second."
    )


def _tensor(values: Sequence[Any]) -> tuple[str, list[int], list[Any]]:
    """Datatype, shape and flat data. Rows of different lengths, and values of several kinds, are JSON texts."""
    rows = list(values)
    if rows and all(isinstance(row, list) for row in rows):
        widths = {len(row) for row in rows}
        flat = [item for row in rows for item in row]
        if len(widths) == 1 and (kind := _kind(flat)) is not None:
            return kind, [len(rows), *widths], flat
    elif (kind := _kind(rows)) is not None:
        return kind, [len(rows)], rows
    return "BYTES", [len(rows)], [json.dumps(row, ensure_ascii=False) for row in rows]


def _kind(flat: Sequence[Any]) -> str | None:
    if all(isinstance(item, str) for item in flat):
        return "BYTES"
    if all(isinstance(item, float) for item in flat):
        return "FP32"
    return "INT64" if all(type(item) is int for item in flat) else None


def packed(tensor: Tensor) -> bytes:
    """The data in binary: numbers in little endian, each text behind its length."""
    if tensor.datatype == "BYTES":
        encoded = [text.encode() for text in tensor.data]
        return b"".join(len(text).to_bytes(_PREFIX, "little") + text for text in encoded)
    return np.asarray(tensor.data, {"FP32": "<f4", "INT64": "<i8"}[tensor.datatype]).tobytes()


def _unpacked(data: bytes, where: str) -> list[str]:
    texts, place = [], 0
    while place < len(data):
        size = int.from_bytes(data[place : place + _PREFIX], "little")
        place += _PREFIX
        if place + size > len(data):
            raise InputError(f"{where}: a text in its binary data is longer than the data.")
        try:
            texts.append(data[place : place + size].decode())
        except UnicodeDecodeError as error:
            raise InputError(f"{where}: a text is not UTF-8.") from error
        place += size
    return texts


def _flat(data: Any, where: str) -> list[str]:
    """The texts of a list, or of lists of lists (the protocol allows both)."""
    texts = []
    for item in _list(data, f"{where}.data"):
        if isinstance(item, list):
            texts.extend(_flat(item, where))
        elif isinstance(item, str):
            texts.append(item)
        else:
            raise InputError(f"{where}.data holds something that is no text.")
    return texts


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(f"{where} is no list.")
    return value


def _object(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError(f"{where} is no object.")
    return value
