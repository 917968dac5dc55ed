"""Each rewrite on a graph of a few nodes: the same answers from ONNX Runtime before and after, and the form wanted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper, parser

from resparse.arrays import Array
from sparseml.export import formats, graph, passes
from sparseml.export.trace import ExportError

RANDOM = np.random.default_rng(0)
ROWS, IN, OUT = 5, 8, 6


def parsed(text: str, constants: dict[str, Array], operator_set: int = 18) -> ir.Model:
    """A model from ONNX's own text form, with initializers."""
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : {operator_set}]> {text}')
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return ir.from_proto(model)


def answers(model: ir.Model, **feed: Array) -> list[Array]:
    """What ONNX Runtime makes of it, without rewrites of its own."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, feed))


def kinds(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


def same_after(
    model: ir.Model, *passes: Callable[[ir.Model], None], tolerance: float = 1e-5, **feed: Array
) -> Counter[str]:
    """Run passes, check that answers stay, and tell the operators left."""
    before = answers(model, **feed)
    for change in passes:
        change(model)
    graph.remove_unused(model)
    for old, new in zip(before, answers(model, **feed), strict=True):
        np.testing.assert_allclose(new, old, atol=tolerance, rtol=tolerance)
    return kinds(model)


def linear() -> tuple[ir.Model, dict[str, Array]]:
    """x · Wᵀ + b with fake-quantized input and weight, as the exporter writes it; a quarter of W is pruned."""
    weight = RANDOM.normal(size=(OUT, IN)).astype(np.float32)
    weight[np.abs(weight) < 0.4] = 0
    model = parsed(
        f"""linear (float[2,{ROWS},{IN}] x) => (float[2,{ROWS},{OUT}] y) {{
            xq = QuantizeLinear(x, xs, xz)
            xd = DequantizeLinear(xq, xs, xz)
            wq = QuantizeLinear(w, ws, wz)
            wd = DequantizeLinear(wq, ws, wz)
            wt = Transpose<perm=[1,0]>(wd)
            p = MatMul(xd, wt)
            y = Add(p, b)
        }}""",
        {
            "w": weight,
            "b": RANDOM.normal(size=OUT).astype(np.float32),
            "xs": np.float32(0.03),
            "xz": np.uint8(120),
            "ws": np.float32(np.abs(weight).max() / 127),
            "wz": np.int8(0),
        },
    )
    return model, {"x": RANDOM.normal(size=(2, ROWS, IN)).astype(np.float32)}


def test_weights_are_stored_as_integers_once_in_the_layout_of_the_product() -> None:
    model, feed = linear()
    weight = graph.array_of(model.graph.initializers["w"])
    left = same_after(model, passes.store_integers, passes.transpose_stored, **feed)
    assert left == {"QuantizeLinear": 1, "DequantizeLinear": 2, "MatMul": 1, "Add": 1}
    stored = graph.array_of(model.graph.initializers["w.quantized.transposed"])
    assert stored.dtype == np.int8 and stored.shape == (IN, OUT)
    assert ((stored.T == 0) >= (weight == 0)).all() and np.abs(stored).max() == 127
    assert "w" not in model.graph.initializers and "w.quantized" not in model.graph.initializers


@settings(deadline=None, max_examples=60)
@given(
    values=st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=12),
    scale=st.floats(0.015625, 1, width=32),
    zero=st.integers(-128, 127),
)
def test_integers_are_those_of_onnx(values: list[float], scale: float, zero: int) -> None:
    array = np.array(values, np.float32)
    grid = passes.QuantParams(np.array(scale, np.float32), np.array(zero, np.int8), axis=1)
    model = parsed(
        f"q (float[{len(array)}] x) => (int8[{len(array)}] y) {{ y = QuantizeLinear(x, s, z) }}",
        {"s": grid.scale, "z": grid.zero_point},
    )
    np.testing.assert_array_equal(grid.integers(array), answers(model, x=array)[0])


def test_a_scale_for_every_row_moves_with_the_transposition() -> None:
    model, feed = linear()
    scales = (0.01 + RANDOM.random(OUT) / 50).astype(np.float32)
    for name, array in (("ws", scales), ("wz", np.zeros(OUT, np.int8))):
        value = model.graph.initializers[name]
        value.const_value, value.shape = ir.tensor(array, name=name), ir.Shape(array.shape)
    for node in graph.nodes(model, "QuantizeLinear", "DequantizeLinear"):
        if node.inputs[1] is not None and node.inputs[1].name == "ws":
            node.attributes["axis"] = ir.AttrInt64("axis", 0)
    same_after(model, passes.store_integers, passes.transpose_stored, **feed)
    (matmul,) = graph.nodes(model, "MatMul")
    scaled = graph.producer(matmul.inputs[1], "DequantizeLinear")
    assert scaled is not None and scaled.attributes.get_int("axis", 1) == 1


def test_rows_looked_up_in_a_quantized_table_come_from_an_integer_table() -> None:
    table = RANDOM.normal(size=(10, 4)).astype(np.float32)
    model = parsed(
        """embed (int64[2,3] ids) => (float[2,3,4] y) {
            r = Gather(t, ids)
            q = QuantizeLinear(r, s, z)
            y = DequantizeLinear(q, s, z)
        }""",
        {"t": table, "s": np.float32(np.abs(table).max() / 127), "z": np.int8(0)},
    )
    left = same_after(model, passes.store_integers, ids=RANDOM.integers(0, 10, (2, 3)), tolerance=0)
    assert left == {"Gather": 1, "DequantizeLinear": 1}
    assert "t" not in model.graph.initializers


def test_the_form_for_deepsparse_multiplies_integers() -> None:
    model, feed = linear()
    left = same_after(
        model,
        passes.store_integers,
        passes.transpose_stored,
        passes.make_unsigned,
        passes.multiply_integers,
        **feed,
    )
    assert left == {"QuantizeLinear": 1, "MatMulInteger": 1, "Cast": 1, "Mul": 1, "Add": 1}
    (product,) = graph.nodes(model, "MatMulInteger")
    assert graph.array_of(product.inputs[1]).dtype == np.uint8
    assert graph.array_of(product.inputs[3]) == 128


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_gemm_becomes_a_product_of_integers(transposed: int) -> None:
    shape = (OUT, IN) if transposed else (IN, OUT)
    model = parsed(
        f"""gemm (float[{ROWS},{IN}] x) => (float[{ROWS},{OUT}] y) {{
            xq = QuantizeLinear(x, xs, xz)
            xd = DequantizeLinear(xq, xs, xz)
            wd = DequantizeLinear(w, ws, wz)
            y = Gemm<transB={transposed}>(xd, wd, b)
        }}""",
        {
            "w": RANDOM.integers(-127, 128, shape).astype(np.int8),
            "b": RANDOM.normal(size=OUT).astype(np.float32),
            "xs": np.float32(0.02),
            "xz": np.uint8(100),
            "ws": np.float32(0.01),
            "wz": np.int8(0),
        },
    )
    feed = {"x": RANDOM.normal(size=(ROWS, IN)).astype(np.float32)}
    left = same_after(model, passes.make_unsigned, passes.multiply_integers, **feed)
    assert left["MatMulInteger"] == transposed, "x · W without transposition is no Linear layer: left alone"
    assert [value.name for value in model.graph.outputs] == ["y"]


def test_gelu_is_put_in_the_order_that_runtimes_know() -> None:
    model = parsed(
        """gelu (float[4] x) => (float[4] y) {
            d = Div(x, root) e = Erf(d) a = Add(e, one) h = Mul(half, a) y = Mul(x, h)
        }""",
        {"root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)},
    )
    same_after(model, passes.order_gelu, x=RANDOM.normal(size=4).astype(np.float32))
    (erf,) = graph.nodes(model, "Erf")
    shifted = graph.consumer(erf.outputs[0], "Add")
    assert shifted is not None
    product = graph.consumer(shifted.outputs[0], "Mul")
    assert product is not None and model.graph.inputs[0] in product.inputs


def test_scores_are_scaled_and_keys_transposed_before_they_are_floats() -> None:
    model = parsed(
        """scores (float[2,3,4] q, float[2,3,4] k) => (float[2,3,3] y) {
            a = QuantizeLinear(q, s, u) b = DequantizeLinear(a, s, u)
            c = QuantizeLinear(k, s, i) d = DequantizeLinear(c, s, i)
            t = Transpose<perm=[0,2,1]>(d) p = MatMul(b, t) y = Mul(p, f)
        }""",
        {"s": np.float32(0.02), "u": np.uint8(128), "i": np.int8(0), "f": np.float32(0.5)},
    )
    feed = {name: RANDOM.normal(size=(2, 3, 4)).astype(np.float32) for name in "qk"}
    left = same_after(model, passes.transpose_integers, passes.fold_score_scale, **feed)
    assert left == {"QuantizeLinear": 2, "DequantizeLinear": 2, "Transpose": 1, "MatMul": 1}
    (moved,) = graph.nodes(model, "Transpose")
    assert graph.producer(moved.inputs[0], "QuantizeLinear")


def test_each_stored_weight_has_a_zero_point_of_its_own() -> None:
    """Quantized activations go on sharing theirs."""
    model = parsed(
        """two (float[2,4] x) => (float[2,4] y) {
            a = QuantizeLinear(x, s, i) b = DequantizeLinear(a, s, i)
            c = DequantizeLinear(v, s, i) p = MatMul(b, c)
            d = QuantizeLinear(p, s, i) e = DequantizeLinear(d, s, i)
            f = DequantizeLinear(w, s, i) y = MatMul(e, f)
        }""",
        {
            "s": np.float32(0.02),
            "i": np.int8(0),
            **{name: RANDOM.integers(-128, 128, (4, 4)).astype(np.int8) for name in "vw"},
        },
    )
    same_after(model, passes.own_zero_points, tolerance=0, x=RANDOM.normal(size=(2, 4)).astype(np.float32))
    of = {node.inputs[0].name: node.inputs[2].name for node in graph.nodes(model, "DequantizeLinear")}
    assert of == {"v": "v.zero_point", "w": "w.zero_point", "a": "i", "d": "i"}


def test_residuals_before_a_norm_are_one_sum() -> None:
    model = parsed(
        """norm (float[2,3,4] x, float[2,3,4] r) => (float[2,3,4] y) {
            a = Add(x, b) c = Add(a, r) y = LayerNormalization<axis=-1>(c, g, h)
        }""",
        {name: RANDOM.normal(size=4).astype(np.float32) for name in "bgh"},
    )
    feed = {name: RANDOM.normal(size=(2, 3, 4)).astype(np.float32) for name in "xr"}
    assert same_after(model, passes.sum_residuals, **feed) == {"Sum": 1, "LayerNormalization": 1}


def test_norms_means_and_shapes_are_written_in_an_older_operator_set() -> None:
    model = parsed(
        """old (float[2,3,4] x) => (float[2,3,4] y, float[2,3,1] m, int64[1] s) {
            y = LayerNormalization<axis=-1, epsilon=0.001>(x, g, h)
            m = ReduceMean<keepdims=1>(x, axes)
            s = Shape<start=1, end=2>(x)
        }""",
        {"g": np.full(4, 2, np.float32), "h": np.ones(4, np.float32), "axes": np.array([-1])},
    )
    left = same_after(
        model,
        lambda graph: formats.lower_opset(graph, 14),
        x=RANDOM.normal(size=(2, 3, 4)).astype(np.float32),
    )
    assert "LayerNormalization" not in left and model.graph.opset_imports[""] == 14


def test_an_operator_that_did_not_exist_is_named() -> None:
    model = parsed("gelu (float[4] x) => (float[4] y) { y = Gelu(x) }", {}, operator_set=20)
    with pytest.raises(ExportError, match=r"operator set 14 has no Gelu.*--opset 20"):
        formats.lower_opset(model, 14)


def test_what_only_the_exporters_authors_would_read_is_dropped() -> None:
    model = parsed("relu (float[4] x) => (float[4] y) { y = Relu(x) }", {"unused": np.zeros(3, np.float32)})
    node = model.graph.node(0)
    node.metadata_props["pkg.torch.onnx.stack_trace"] = "File /home/somebody/model.py"
    model.graph.inputs[0].metadata_props["where"] = "/home/somebody"
    graph.remove_unused(model)
    assert b"somebody" not in ir.to_proto(model).SerializeToString()
    assert "unused" not in model.graph.initializers


# Grids of fewer bits: clipped before they are quantized.

CLIPPED = """a (int64[N] i) => (float[N, 3] y) {
    rows = Gather(table, i)
    held = Clip(rows, low, high)
    q = QuantizeLinear(held, scale, zero)
    y = DequantizeLinear(q, scale, zero)
}"""


def test_a_clipped_table_is_stored_as_integers():
    constants = {
        "table": RANDOM.normal(0, 1, (7, 3)).astype(np.float32),
        "low": np.float32(-0.7),
        "high": np.float32(0.7),
        "scale": np.float32(0.1),
        "zero": np.int8(0),
    }
    model = parsed(CLIPPED, {name: np.asarray(array) for name, array in constants.items()})
    left = same_after(model, passes.store_integers, i=np.arange(7))
    assert left == {"Gather": 1, "DequantizeLinear": 1}
    (stored,) = (
        one for one in model.graph.initializers.values() if one.dtype == ir.DataType.INT8 and one.shape.rank()
    )
    assert np.abs(stored.const_value.numpy()).max() == 7


TWICE = """a (float[N, 3] x) => (float[N, 3] y) {
    a = Clip(x, low, high)
    b = Clip(x, low_too, high_too)
    y = Add(a, b)
}"""


def test_constants_that_the_graph_has_lost_come_back_once():
    numbers = {"low": -1, "high": 1, "low_too": -1, "high_too": 1}
    model = parsed(TWICE, {name: np.asarray(number, np.float32) for name, number in numbers.items()})
    for name in ("low_too", "high", "high_too"):
        del model.graph.initializers[name]
    graph.restore_initializers(model)
    assert kinds(model) == {"Clip": 1, "Add": 1}
    x = RANDOM.normal(0, 2, (4, 3)).astype(np.float32)
    np.testing.assert_allclose(answers(model, x=x)[0], 2 * np.clip(x, -1, 1))
