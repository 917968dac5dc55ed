"""The reader of ONNX files, against the onnx package; damaged files give one clear error."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from deepsparse.errors import ModelError
from deepsparse.native.onnx_graph import Graph, read
from deepsparse.native.onnx_tensors import TensorReader, as_bytes, fields, signed, varints
from support.deployment import model, weights

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

TYPES = [
    *("bool", "float16", "float32", "float64", "complex64", "complex128"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
]
SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)


def tensors() -> st.SearchStrategy[np.ndarray]:
    return st.sampled_from(TYPES).flatmap(lambda kind: arrays.arrays(np.dtype(kind), SHAPES))


def parsed(message: Any) -> tuple[str, np.ndarray | None]:
    return TensorReader(Path()).tensor(memoryview(message.SerializeToString()))


@settings(deadline=None)
@given(tensors())
def test_tensors_of_every_type_as_bytes(array: np.ndarray):
    name, found = parsed(numpy_helper.from_array(array, "weights"))
    assert name == "weights" and found is not None and found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@settings(deadline=None)
@given(tensors())
def test_tensors_of_every_type_as_numbers(array: np.ndarray):
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    message = helper.make_tensor("weights", kind, array.shape, array.reshape(-1).tolist())
    _, found = parsed(message)
    assert found is not None and found.dtype == array.dtype
    np.testing.assert_array_equal(found, numpy_helper.to_array(message))


def test_bfloat16_becomes_float32_and_text_is_left_out():
    values = [1.5, -2.0, 0.0]
    _, found = parsed(helper.make_tensor("weights", TensorProto.BFLOAT16, (3,), values))
    assert found is not None and found.tolist() == values
    assert parsed(helper.make_tensor("words", TensorProto.STRING, (1,), [b"a"])) == ("words", None)


@settings(deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_varints(numbers: list[int]):
    message = TensorProto(int64_data=numbers).SerializeToString()
    packed = [as_bytes(value) for _, _, value in fields(memoryview(message))]
    found = varints(packed[0]) if packed else np.empty(0, np.uint64)
    assert [signed(int(number)) for number in found] == numbers


def same(graph: Graph, reference: Any) -> None:
    for tensor in reference.graph.initializer:
        np.testing.assert_array_equal(graph.constants[tensor.name], numpy_helper.to_array(tensor))
    assert [port.name for port in graph.inputs] == [port.name for port in reference.graph.input]
    assert [(node.op_type, node.inputs, node.outputs) for node in graph.nodes] == [
        (node.op_type, list(node.input), list(node.output)) for node in reference.graph.node
    ]
    for node, wanted in zip(graph.nodes, reference.graph.node, strict=True):
        for attribute in wanted.attribute:
            value = helper.get_attribute_value(attribute)
            assert node.attributes[attribute.name] == (value.decode() if isinstance(value, bytes) else value)


def test_a_whole_file(tmp_path: Path):
    reference = model(weights(), batch=1)
    onnx.save(reference, tmp_path / "model.onnx")
    graph = read(tmp_path / "model.onnx")
    same(graph, reference)
    assert graph.opset == 17
    assert [(port.elem_type, port.shape) for port in graph.inputs] == [(TensorProto.INT64, (1, None))] * 3
    assert graph.outputs[0].shape == (1, 3)


def test_constants_and_attributes(tmp_path: Path):
    nodes = [
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.arange(3))),
        helper.make_node("Own", ["c"], ["d"], domain="mine", f=1.5, i=-2, s="x", fs=[1.0, 2.0], ints=[-1, 5]),
    ]
    made = helper.make_model(helper.make_graph(nodes, "g", [], [helper.make_tensor_value_info("d", 1, None)]))
    onnx.save(made, tmp_path / "model.onnx")
    graph = read(tmp_path / "model.onnx")
    assert graph.constants["c"].tolist() == [0, 1, 2]
    (node,) = graph.nodes
    assert node.op_type == "mine.Own"
    assert node.attributes == {"f": 1.5, "i": -2, "s": "x", "fs": [1.0, 2.0], "ints": [-1, 5]}


@pytest.fixture
def external(tmp_path: Path) -> Path:
    """A model whose weights lie in a file of their own."""
    path = tmp_path / "model.onnx"
    onnx.save(model(weights()), path, save_as_external_data=True, location="model.data", size_threshold=0)
    return path


def test_weights_in_a_file_of_their_own(external: Path):
    graph = read(external)
    same(graph, onnx.load(external))
    assert [path.name for path in graph.files] == ["model.onnx", "model.data"]


def test_a_file_of_weights_that_is_missing_short_or_elsewhere(external: Path, tmp_path: Path):
    data = tmp_path / "model.data"
    whole = data.read_bytes()
    data.write_bytes(whole[:-8])
    with pytest.raises(ModelError, match="cut short"):
        read(external)
    data.unlink()
    with pytest.raises(ModelError, match=r"model\.data cannot be read"):
        read(external)
    outside = tmp_path.parent / f"{tmp_path.name}.data"
    outside.write_bytes(whole)
    data.symlink_to(outside)
    with pytest.raises(ModelError, match="not beside it"):
        read(external)
    for location in (str(outside), f"../{outside.name}", ""):
        changed = onnx.load(external, load_external_data=False)
        for tensor in changed.graph.initializer:
            tensor.external_data[0].value = location
        onnx.save(changed, external)
        with pytest.raises(ModelError, match="not beside it"):
            read(external)


def in_the_hubs_cache(external: Path, root: Path, below: str = "") -> Path:
    """The same model as the Hub's cache holds it: links in a snapshot, to blobs beside it."""
    blobs = root / "models--a--b" / "blobs"
    snapshot = root / "models--a--b" / "snapshots" / "0123" / below
    for folder in (blobs, snapshot):
        folder.mkdir(parents=True)
    for number, name in enumerate(("model.onnx", "model.data")):
        external.with_name(name).rename(blobs / f"{number:064}")
        (snapshot / name).symlink_to(os.path.relpath(blobs / f"{number:064}", snapshot))
    return snapshot / "model.onnx"


@pytest.mark.parametrize("below", ["", "onnx"])
def test_weights_that_are_a_blob_of_the_same_snapshot(external: Path, tmp_path: Path, below: str):
    expected = read(external).constants
    found = read(in_the_hubs_cache(external, tmp_path, below)).constants
    assert found.keys() == expected.keys() and expected
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("elsewhere", ["../../models--c--d/blobs/1", "../secret", "../blobs/below/1"])
def test_links_of_a_snapshot_to_anything_else_are_not_followed(
    external: Path, tmp_path: Path, elsewhere: str
):
    cached = in_the_hubs_cache(external, tmp_path)
    data = cached.with_name("model.data")
    content = data.read_bytes()
    other = cached.parents[1] / elsewhere
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_bytes(content)
    data.unlink()
    data.symlink_to(other.resolve())
    with pytest.raises(ModelError, match="not beside it"):
        read(cached)


def test_a_model_of_a_snapshot_cannot_name_a_blob_itself(external: Path, tmp_path: Path):
    cached = in_the_hubs_cache(external, tmp_path)
    changed = onnx.load(cached, load_external_data=False)
    for tensor in changed.graph.initializer:
        tensor.external_data[0].value = f"../../blobs/{1:064}"
    onnx.save(changed, cached.resolve())
    with pytest.raises(ModelError, match="not beside it"):
        read(cached)


def test_every_truncation_is_one_clear_error(tmp_path: Path):
    path = tmp_path / "model.onnx"
    whole = model(weights()).SerializeToString()
    for kept in range(0, len(whole), 7):
        path.write_bytes(whole[:kept])
        with pytest.raises(ModelError, match="cut short") as caught:
            read(path)
        assert str(path) in str(caught.value) and f"{kept:,} bytes" in str(caught.value)


def test_damaged_bytes_never_crash(tmp_path: Path):
    from deepsparse.native.recognition import recognize

    path = tmp_path / "model.onnx"
    whole = model(weights()).SerializeToString()
    source = random.Random(0)
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(source.randint(1, 8)):
            damaged[source.randrange(len(damaged))] = source.randrange(256)
        path.write_bytes(damaged)
        with pytest.raises(ModelError):
            recognize(read(path))


def test_sizes_that_no_array_can_have(tmp_path: Path):
    for dims in ([2**62, 2**62], [-1], [0, 2**62, 2**62], [5]):
        tensor = TensorProto(name="w", data_type=1, dims=dims, raw_data=b"\0" * 16)
        if 0 in dims:
            tensor.raw_data = b""
        made = helper.make_model(helper.make_graph([], "g", [], [], [tensor]))
        (tmp_path / "model.onnx").write_bytes(made.SerializeToString())
        with pytest.raises(ModelError, match="cut short"):
            read(tmp_path / "model.onnx")
