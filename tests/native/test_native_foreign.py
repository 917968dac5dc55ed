"""Exports by others: PyTorch's older exporter, as optimum calls it, with eager attention and SDPA, and their masks."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deepsparse import Engine
from deepsparse.native import library
from deepsparse.native.masks import added, bias_of
from deepsparse.native.matching import Matcher
from deepsparse.native.onnx_graph import Graph, Node, read
from deepsparse.native.recognition import recognize
from support import encoders, exports
from support.reference import reference_engine

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
needs_library = pytest.mark.skipif(library.file() is None, reason="the native engine is not built here")

CLOSE, STEP = 1e-4, 0.06
"""What float32 sums in another order come to, and what one step of an 8-bit grid may."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """A function from attention's implementation and an operator set to an export; of 14, norms are decomposed."""
    folder = tmp_path_factory.mktemp("foreign")

    def make(attention: str, opset: int) -> Path:
        path = folder / f"{attention}-{opset}.onnx"
        if not path.exists():
            model = encoders.dense("bert", max_position_embeddings=exports.POSITIONS)
            encoders._spread(model)
            model.set_attn_implementation(attention)
            ids = torch.randint(2, encoders.VOCABULARY, (2, 7))
            mask = torch.ones_like(ids)
            mask[1, 5:] = 0
            names = list(exports.INPUTS)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    model,
                    (ids, mask, torch.zeros_like(ids)),
                    str(path),
                    input_names=names,
                    output_names=["logits"],
                    dynamic_axes={name: {0: "batch", 1: "sequence"} for name in names},
                    opset_version=opset,
                    dynamo=False,
                )
        return path

    return make


def feeds(rows: int, columns: int, seed: int, padded: bool = True) -> dict[str, np.ndarray]:
    source = np.random.default_rng(seed)
    ids = source.integers(2, encoders.VOCABULARY, (rows, columns))
    mask = np.ones_like(ids)
    if padded:
        mask = (np.arange(columns) < source.integers(1, columns + 1, (rows, 1))).astype(np.int64)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


WAYS = [
    ("eager", 14),
    ("sdpa", 17),
    *(pytest.param(*one, marks=pytest.mark.slow) for one in (("eager", 17), ("sdpa", 14))),
]


@needs_library
@pytest.mark.parametrize(("attention", "opset"), WAYS)
def test_in_float(made: Callable[[str, int], Path], attention: str, opset: int):
    path = made(attention, opset)
    native = Engine(path, num_cores=2, engine_type="native")
    reference = reference_engine(path)
    for seed, (rows, columns) in enumerate([(1, 1), (3, 20), (40, 30), (2, 300)]):
        given = feeds(rows, columns, seed)
        np.testing.assert_allclose(native.run(given)[0], reference.run(given)[0], atol=CLOSE)


@needs_library
@pytest.mark.parametrize(("attention", "opset"), WAYS)
def test_quantized_by_onnxruntime(made: Callable[[str, int], Path], attention: str, opset: int):
    from onnxruntime import quantization

    path = made(attention, opset)
    small = path.with_suffix(".int8.onnx")
    quantization.quantize_dynamic(path, small, weight_type=quantization.QuantType.QInt8)
    native = Engine(small, num_cores=2, engine_type="native")
    reference = reference_engine(small)
    for seed in range(8):
        given = feeds(1, 3 + 9 * seed, seed, padded=False)
        np.testing.assert_allclose(native.run(given)[0], reference.run(given)[0], atol=STEP)


def test_the_same_model_as_from_our_own_exporter(made: Callable[[str, int], Path]):
    one, other = (recognize(read(made(*way))) for way in (("eager", 14), ("sdpa", 17)))
    assert len(one.layers) == len(other.layers) == 2
    for first, second in zip(one.layers, other.layers, strict=True):
        assert first.score_scale == pytest.approx(second.score_scale) == pytest.approx(8**-0.5)
        np.testing.assert_array_equal(first.query.weights, second.query.weights)
        np.testing.assert_array_equal(first.output_norm.weight, second.output_norm.weight)
        assert first.output_norm.epsilon == pytest.approx(second.output_norm.epsilon)


# Masks.


def mask_graph(*nodes: Node, **constants: np.ndarray | float) -> Matcher:
    arrays = {
        name: np.asarray(value, None if isinstance(value, np.ndarray) else np.float32)
        for name, value in constants.items()
    }
    return Matcher(Graph(nodes=list(nodes), constants=arrays))


SEEN = Node("Unsqueeze", ["attention_mask", "axes"], ["seen"])
FLOATS = Node("Cast", ["seen"], ["floats"], {"to": 1})
AXES = np.array([1, 2])


def hides_padding(matcher: Matcher, value: str) -> bool:
    """Whether a value does that, and nothing else."""
    found = added(matcher, [value])
    return found is not None and found.window is None and found.bias is None


def test_a_mask_of_products():
    nodes = SEEN, FLOATS, Node("Sub", ["one", "floats"], ["hidden"]), Node("Mul", ["hidden", "low"], ["mask"])
    assert hides_padding(mask_graph(*nodes, axes=AXES, one=1.0, low=-1e9), "mask")
    assert not hides_padding(mask_graph(*nodes, axes=AXES, one=1.0, low=-3.0), "mask"), (
        "padding still is seen"
    )
    assert not hides_padding(mask_graph(*nodes, axes=AXES, one=2.0, low=-1e9), "mask"), "tokens are not seen"
    assert not hides_padding(mask_graph(*nodes, axes=np.array([1, 3]), one=1.0, low=-1e9), "mask"), (
        "rows, not columns"
    )


def distances(*nodes: Node, **constants: np.ndarray | float) -> Matcher:
    """A graph in which `near` says of each query and key whether one may see the other; `apart`: key - query."""
    return mask_graph(
        SEEN,
        Node("Cast", ["seen"], ["bools"], {"to": 9}),
        Node("Shape", ["attention_mask"], ["length"], {"start": 1, "end": 2}),
        Node("Squeeze", ["length"], ["tokens"]),
        Node("Range", ["zero", "tokens", "step"], ["places"]),
        Node("Unsqueeze", ["places", "last"], ["column"]),
        Node("Sub", ["places", "column"], ["apart"]),
        Node("Abs", ["apart"], ["distance"]),
        *nodes,
        Node("And", ["near", "bools"], ["both"]),
        Node("Where", ["both", "nothing", "low"], ["mask"]),
        **{"axes": AXES, "zero": np.array(0), "step": np.array(1), "last": np.array([1]), **constants},
        nothing=0.0,
        low=-1e9,
    )


@pytest.mark.parametrize("window", [1, 64, 299, 300, 600])
def test_windows(window: int):
    """Also those that are wider than the usual sample is long."""
    near = Node("Less", ["distance", "bound"], ["near"])
    found = added(distances(near, bound=np.array(window)), ["mask"])
    assert found is not None and found.window == window - 1 and found.bias is None


def test_windows_of_one_side_or_of_none():
    near = Node("Less", ["apart", "bound"], ["near"])
    assert added(distances(near, bound=np.array(128)), ["mask"]) is None
    none = Node("Less", ["distance", "bound"], ["near"])
    assert added(distances(none, bound=np.array(0)), ["mask"]) is None
    assert added(distances(none, bound=np.array(10**6)), ["mask"]) is None, "wider than is looked"


def test_biases_of_distances():
    near, tokens = Node("LessOrEqual", ["distance", "bound"], ["near"]), 40
    floats = Node("Cast", ["distance"], ["floats"], {"to": 1})
    slopes = np.array([1, 0.5], np.float32).reshape(2, 1, 1)
    bias = Node("Mul", ["floats", "slopes"], ["bias"])
    matcher = distances(near, floats, bias, bound=np.array(9), slopes=slopes)
    found, whole = added(matcher, ["mask", "bias"]), bias_of(matcher, ["mask", "bias"], tokens)
    assert found is not None and found.window == 9 and whole is not None
    apart = np.abs(np.arange(1 - tokens, tokens))
    np.testing.assert_array_equal(whole, np.where(apart <= 9, apart * slopes[:, :, 0], 0))
    assert added(matcher, ["bias"]) is None, "padding is seen"
    by_place = Node("Mul", ["places", "slopes"], ["bias"])
    assert added(distances(near, by_place, bound=np.array(9), slopes=slopes), ["mask", "bias"]) is None


def test_masks_that_depend_on_themselves_or_on_tokens():
    loop = Node("Add", ["loop", "attention_mask"], ["loop"])
    assert not hides_padding(mask_graph(loop), "loop")
    assert not hides_padding(mask_graph(Node("Mul", ["input_ids", "low"], ["mask"]), low=-1e9), "mask")
    assert not hides_padding(
        mask_graph(Node("ConstantOfShape", ["huge"], ["mask"]), huge=np.array([2**40])), "mask"
    )


def test_norms_that_are_none(made: Callable[[str, int], Path]):
    for kind in ("ReduceMean", "Sqrt", "Pow"):
        exports.check_refused_where_changed(made("eager", 14), kind, "Abs")
