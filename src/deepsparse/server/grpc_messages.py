"""Messages of the Open Inference Protocol over gRPC: protobuf classes, made at run time.

Names and numbers of the fields are those of
https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/open_inference_grpc.proto, with the
two parameters that Triton adds (double, uint64). The classes live in a pool of their own: the clients of Triton and of
KServe each register the same names in protobuf's common one, and this server may share a process with either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE: Final = "inference.GRPCInferenceService"

_PACKAGE: Final = "inference"
_TENSOR_PARAMETERS: Final = "map InferParameter parameters"

# By message: its fields in the form "[repeated|map|oneof] type name number". A message is nested in the one before its
# dot.
_MESSAGES: Final[Mapping[str, tuple[str, ...]]] = {
    "ServerLiveRequest": (),
    "ServerLiveResponse": ("bool live 1",),
    "ServerReadyRequest": (),
    "ServerReadyResponse": ("bool ready 1",),
    "ModelReadyRequest": ("string name 1", "string version 2"),
    "ModelReadyResponse": ("bool ready 1",),
    "ServerMetadataRequest": (),
    "ServerMetadataResponse": ("string name 1", "string version 2", "repeated string extensions 3"),
    "ModelMetadataRequest": ("string name 1", "string version 2"),
    "ModelMetadataResponse": (
        "string name 1",
        "repeated string versions 2",
        "string platform 3",
        "repeated ModelMetadataResponse.TensorMetadata inputs 4",
        "repeated ModelMetadataResponse.TensorMetadata outputs 5",
    ),
    "ModelMetadataResponse.TensorMetadata": ("string name 1", "string datatype 2", "repeated int64 shape 3"),
    "InferParameter": (
        "oneof bool bool_param 1",
        "oneof int64 int64_param 2",
        "oneof string string_param 3",
        "oneof double double_param 4",
        "oneof uint64 uint64_param 5",
    ),
    "InferTensorContents": (
        "repeated bool bool_contents 1",
        "repeated int32 int_contents 2",
        "repeated int64 int64_contents 3",
        "repeated uint32 uint_contents 4",
        "repeated uint64 uint64_contents 5",
        "repeated float fp32_contents 6",
        "repeated double fp64_contents 7",
        "repeated bytes bytes_contents 8",
    ),
    "ModelInferRequest": (
        "string model_name 1",
        "string model_version 2",
        "string id 3",
        f"{_TENSOR_PARAMETERS} 4",
        "repeated ModelInferRequest.InferInputTensor inputs 5",
        "repeated ModelInferRequest.InferRequestedOutputTensor outputs 6",
        "repeated bytes raw_input_contents 7",
    ),
    "ModelInferRequest.InferInputTensor": (
        "string name 1",
        "string datatype 2",
        "repeated int64 shape 3",
        f"{_TENSOR_PARAMETERS} 4",
        "InferTensorContents contents 5",
    ),
    "ModelInferRequest.InferRequestedOutputTensor": ("string name 1", f"{_TENSOR_PARAMETERS} 2"),
    "ModelInferResponse": (
        "string model_name 1",
        "string model_version 2",
        "string id 3",
        f"{_TENSOR_PARAMETERS} 4",
        "repeated ModelInferResponse.InferOutputTensor outputs 5",
        "repeated bytes raw_output_contents 6",
    ),
    "ModelInferResponse.InferOutputTensor": (
        "string name 1",
        "string datatype 2",
        "repeated int64 shape 3",
        f"{_TENSOR_PARAMETERS} 4",
        "InferTensorContents contents 5",
    ),
}

METHODS: Final = (
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
    "ModelInfer",
)
"""Of the service; the messages of each are its name and "Request" or "Response"."""

_Field = descriptor_pb2.FieldDescriptorProto


def _file() -> Any:
    """The descriptor of all messages, as a .proto file's would be."""
    file = descriptor_pb2.FileDescriptorProto(
        name="deepsparse/open_inference.proto", package=_PACKAGE, syntax="proto3"
    )
    made: dict[str, Any] = {}
    for name, fields in _MESSAGES.items():
        outer, _, inner = name.rpartition(".")
        message = made[outer].nested_type.add() if outer else file.message_type.add()
        message.name = inner
        made[name] = message
        for field in fields:
            _add_field(message, name, field)
    return file


def _add_field(message: Any, owner: str, text: str) -> None:
    *before, kind, name, number = text.split()
    how = before[0] if before else ""
    field = message.field.add(
        name=name,
        number=int(number),
        label=_Field.LABEL_REPEATED if how in ("repeated", "map") else _Field.LABEL_OPTIONAL,
    )
    if how == "map":
        entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        _add_field(entry, "", "string key 1")
        _add_field(entry, "", f"{kind} value 2")
        kind = f"{owner}.{entry.name}"
    elif how == "oneof":
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    if kind[0].isupper():
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    else:
        field.type = _Field.Type.Value(f"TYPE_{kind.upper()}")


_pool = descriptor_pool.DescriptorPool()
_pool.AddSerializedFile(_file().SerializeToString())


def message(name: str) -> Callable[..., Any]:
    """The class of a message by its name, such as "ModelInferRequest"."""
    made: Callable[..., Any] = message_factory.GetMessageClass(
        _pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")
    )
    return made
