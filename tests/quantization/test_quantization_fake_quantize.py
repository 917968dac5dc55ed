"""Fake quantization against ONNX's definition in NumPy, PyTorch's operator, and ONNX Runtime."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from sparseml.quantization.fake_quantize import FakeQuantize, fake_quantize, scale_and_zero_point
from sparseml.quantization.modules import QuantizedEmbedding, QuantizedLinear, quantize_embedding
from sparseml.quantization.scheme import LayerScheme, TensorScheme

SIGNED, UNSIGNED = TensorScheme(symmetric=True), TensorScheme(symmetric=False)
BY_CHANNEL = TensorScheme(symmetric=True, strategy="channel")

schemes = st.builds(TensorScheme, num_bits=st.integers(2, 8), symmetric=st.booleans())
floats = st.floats(-1e4, 1e4, width=32)
ranges = st.tuples(floats, floats).map(lambda pair: (min(pair), max(pair)))


def onnx_reference(x: NDArray[Any], scale: Any, zero_point: Any, scheme: TensorScheme) -> NDArray[Any]:
    """DequantizeLinear(QuantizeLinear(x)) by the letter of the ONNX standard, in float32."""
    rounded = np.rint(x.astype(np.float32) / np.float32(scale))  # half to even
    integers = np.clip(rounded + np.float32(zero_point), scheme.low, scheme.high)
    return ((integers - np.float32(zero_point)) * np.float32(scale)).astype(np.float32)


def grid_of(low: float, high: float, scheme: TensorScheme) -> tuple[Tensor, Tensor]:
    return scale_and_zero_point(torch.tensor(low), torch.tensor(high), scheme)


def probes(low: float, high: float, scale: float, seed: int) -> Tensor:
    """Values inside and outside the range, exact ties among them."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.rand(200, generator=generator) * (high - low) * 1.5 + low - (high - low) / 4
    ties = (torch.randint(-300, 300, (100,), generator=generator) + 0.5) * scale
    return torch.cat([spread, ties, torch.tensor([0.0, low, high])])


# The grid.


@settings(deadline=None)
@given(ranges, schemes)
def test_zero_is_a_point_of_every_grid_and_the_range_lies_on_it(
    limits: tuple[float, float], scheme: TensorScheme
) -> None:
    low, high = limits
    scale, zero_point = grid_of(low, high, scheme)
    assert scale.dtype == torch.float32 and scale.isfinite() and scale > 0
    assert zero_point.dtype == torch.int32 and scheme.low <= zero_point <= scheme.high
    x = torch.tensor([0.0, low, high])
    got = fake_quantize(x, scale, zero_point, scheme)
    assert got[0] == 0.0
    # The range's own ends move by half a point, and by another half where the zero point was rounded.
    assert ((got - x).abs() <= scale * (0.5 if scheme.symmetric else 1.0) * (1 + 1e-3)).all()


@settings(deadline=None)
@given(st.floats(-100, 100, width=32), schemes)
def test_a_range_of_one_value_holds_it(value: float, scheme: TensorScheme) -> None:
    scale, zero_point = grid_of(value, value, scheme)
    got = fake_quantize(torch.tensor([value]), scale, zero_point, scheme)
    torch.testing.assert_close(got, torch.tensor([value]), rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize(
    ("scheme", "low", "high"),
    [
        (SIGNED, -127, 127),
        (UNSIGNED, 0, 255),
        (TensorScheme(num_bits=4, symmetric=True), -7, 7),
        (TensorScheme(num_bits=4), 0, 15),
        (TensorScheme(num_bits=2, symmetric=True), -1, 1),
    ],
)
def test_the_integers_of_a_scheme(scheme: TensorScheme, low: int, high: int) -> None:
    assert (scheme.low, scheme.high) == (low, high)


# The rounding.


@settings(max_examples=200, deadline=None)
@given(ranges, schemes, st.integers(0, 2**31))
def test_it_is_onnxs_quantize_and_dequantize_to_the_bit(
    limits: tuple[float, float], scheme: TensorScheme, seed: int
) -> None:
    low, high = limits
    scale, zero_point = grid_of(low, high, scheme)
    x = probes(low, high, scale.item(), seed)
    got = fake_quantize(x, scale, zero_point, scheme)
    np.testing.assert_array_equal(
        got.numpy(), onnx_reference(x.numpy(), scale.numpy(), zero_point.numpy(), scheme)
    )


@settings(deadline=None)
@given(ranges, schemes, st.integers(0, 2**31))
def test_it_is_idempotent(limits: tuple[float, float], scheme: TensorScheme, seed: int) -> None:
    scale, zero_point = grid_of(*limits, scheme)
    once = fake_quantize(probes(*limits, scale.item(), seed), scale, zero_point, scheme)
    assert torch.equal(fake_quantize(once, scale, zero_point, scheme), once)
    assert len(once.unique()) <= scheme.high - scheme.low + 1


@settings(deadline=None)
@given(st.integers(2, 8), st.booleans(), st.integers(0, 2**31))
def test_values_and_gradients_are_those_of_pytorchs_operator(bits: int, symmetric: bool, seed: int) -> None:
    scheme = TensorScheme(num_bits=bits, symmetric=symmetric)
    generator = torch.Generator().manual_seed(seed)
    scale, zero_point = grid_of(-1.7, 2.9, scheme)
    # A quarter of a point away from every tie and every edge: there PyTorch rounds x * (1 / scale) + zero point.
    span = scheme.high - scheme.low
    points = torch.randint(-2 * span, 2 * span, (400,), generator=generator)
    x = (points + torch.rand(400, generator=generator) / 2 - 0.25) * scale
    mine, torchs = x.clone().requires_grad_(), x.clone().requires_grad_()
    gradient = torch.randn(400, generator=generator)
    got = fake_quantize(mine, scale, zero_point, scheme)
    expected = torch.fake_quantize_per_tensor_affine(torchs, scale, zero_point, scheme.low, scheme.high)
    torch.testing.assert_close(got, expected, rtol=2**-23, atol=0)
    got.backward(gradient)
    expected.backward(gradient)
    assert torch.equal(mine.grad, torchs.grad)
    assert (mine.grad == 0).any() and (mine.grad != 0).any()


def test_the_promise_that_nothing_is_clipped_saves_the_mask() -> None:
    x = torch.tensor([-500.0, 0.0, 500.0], requires_grad=True)
    fake_quantize(x, torch.tensor(1.0), torch.tensor(0), SIGNED, never_clips=True).sum().backward()
    assert x.grad.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("scheme", "weight"),
    [(SIGNED, True), (SIGNED, False), (UNSIGNED, False), (BY_CHANNEL, True)],
    ids=["signed weight", "signed activation", "unsigned", "by channel"],
)
def test_onnx_runtime_computes_the_same_bits(scheme: TensorScheme, weight: bool) -> None:
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    x = torch.randn(6, 500, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 7)[:, None]
    quantizer = FakeQuantize(scheme, x if weight else None)
    quantizer.enabled = True
    quantizer.observe(x * 0.6)  # some values lie outside
    x[:, :50] = (torch.arange(50) + 0.5) * quantizer.scale  # ties
    integer = np.int8 if scheme.symmetric else np.uint8
    attributes = {"axis": 0} if scheme.strategy == "channel" else {}
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], **attributes),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], **attributes),
        ],
        "quantize",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, list(x.shape))],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, list(x.shape))],
        [
            numpy_helper.from_array(quantizer.scale.squeeze(-1).numpy(), "scale"),
            numpy_helper.from_array(quantizer.zero_point.squeeze(-1).numpy().astype(integer), "zero"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    got = quantizer.eval()(x).numpy()
    inside = np.ones(x.shape, dtype=bool)
    if (
        quantizer.of_weight
    ):  # int8 reaches one further down than the grid of weights, which have nothing there
        inside = (x / quantizer.scale > -127.5).numpy()
        assert 0.5 < inside.mean() < 1
    np.testing.assert_array_equal(got[inside], session.run(["y"], {"x": x.numpy()})[0][inside])


# Ranges.


def enabled(scheme: TensorScheme, weight: Tensor | None = None) -> FakeQuantize:
    quantizer = FakeQuantize(scheme, weight)
    quantizer.enabled = True
    return quantizer


def ranges_of(quantizer: FakeQuantize) -> list[Tensor]:
    return [quantizer.minimum, quantizer.maximum, quantizer.scale, quantizer.zero_point]


def snapshot(quantizer: FakeQuantize) -> list[Tensor]:
    return [buffer.clone() for buffer in ranges_of(quantizer)]


def unmoved(quantizer: FakeQuantize, before: list[Tensor]) -> bool:
    return all(torch.equal(now, then) for now, then in zip(ranges_of(quantizer), before, strict=True))


@settings(deadline=None)
@given(st.lists(ranges, min_size=1, max_size=8), st.floats(0.01, 1))
def test_the_moving_range_is_its_closed_form(batches: list[tuple[float, float]], averaging: float) -> None:
    quantizer = enabled(UNSIGNED.model_copy(update={"averaging": averaging}))
    for limits in batches:
        quantizer(torch.tensor(limits))
    count = len(batches)
    weights = np.array(
        [(1 - averaging) ** (count - 1)]
        + [averaging * (1 - averaging) ** (count - 1 - index) for index in range(1, count)]
    )
    assert weights.sum() == pytest.approx(1)
    low, high = weights @ np.array(batches, dtype=np.float64)
    assert quantizer.minimum.item() == pytest.approx(low, rel=1e-4, abs=1e-2)
    assert quantizer.maximum.item() == pytest.approx(high, rel=1e-4, abs=1e-2)
    expected = scale_and_zero_point(quantizer.minimum, quantizer.maximum, UNSIGNED)
    assert (quantizer.scale, quantizer.zero_point) == expected


@pytest.mark.parametrize("poison", [float("inf"), -float("inf"), float("nan")])
@pytest.mark.parametrize("scheme", [SIGNED, UNSIGNED], ids=["signed", "unsigned"])
def test_an_overflowing_step_does_not_spoil_the_range(scheme: TensorScheme, poison: float) -> None:
    quantizer, spared = enabled(scheme), enabled(scheme)
    for values in ([poison, 0.0], [-1.0, 1.0], [poison, 1.0], [-2.0, 4.0]):
        quantizer(torch.tensor(values))
        if poison not in values:
            spared(torch.tensor(values))
    assert unmoved(quantizer, snapshot(spared))


@pytest.mark.parametrize("scheme", [SIGNED, BY_CHANNEL], ids=["a tensor", "a channel"])
def test_a_weights_range_is_its_present_one(scheme: TensorScheme) -> None:
    weight = torch.randn(5, 4)
    quantizer = enabled(scheme, weight)
    for factor in (1.0, 0.1, 7.0):
        quantizer(weight * factor)
        rows = (weight * factor).numpy().reshape(5 if scheme.strategy == "channel" else 1, -1)
        shape = (5, 1) if scheme.strategy == "channel" else ()
        np.testing.assert_array_equal(quantizer.minimum.numpy(), rows.min(axis=1).reshape(shape))
        np.testing.assert_array_equal(quantizer.maximum.numpy(), rows.max(axis=1).reshape(shape))
        expected = np.abs(rows).max(axis=1).reshape(shape) / 127
        np.testing.assert_allclose(quantizer.scale.numpy(), expected, rtol=1e-6)


def test_one_scale_a_channel_is_each_rows_own() -> None:
    weight = torch.randn(5, 8) * torch.tensor([0.01, 0.1, 1, 10, 100])[:, None]
    got = enabled(BY_CHANNEL, weight)(weight)
    for row, expected in zip(got, weight, strict=True):
        torch.testing.assert_close(row, enabled(SIGNED, expected)(expected), rtol=0, atol=0)


def test_not_enabled_it_is_the_identity() -> None:
    quantizer, x = FakeQuantize(UNSIGNED), torch.randn(3)
    before = snapshot(quantizer)
    assert quantizer(x) is x
    assert all(
        torch.equal(a, b) or a.isnan().all() for a, b in zip(before, ranges_of(quantizer), strict=True)
    )


@pytest.mark.parametrize("scheme", [SIGNED, UNSIGNED])
def test_evaluation_never_moves_a_range_and_neither_does_training_once_held(scheme: TensorScheme) -> None:
    quantizer = enabled(scheme)
    quantizer(torch.randn(10))
    before = snapshot(quantizer)
    quantizer.eval()
    quantizer(torch.randn(10) * 100)
    assert unmoved(quantizer, before)
    quantizer.train()
    quantizer.observing = False
    quantizer(torch.randn(10) * 100)
    assert unmoved(quantizer, before)
    quantizer.observing = True
    quantizer(torch.randn(10) * 100)
    assert not unmoved(quantizer, before)


def test_a_held_weight_grid_clips_what_outgrows_it_and_its_gradient() -> None:
    weight = torch.tensor([[1.0, -0.5]])
    quantizer = enabled(SIGNED, weight)
    quantizer(weight)
    quantizer.observing = False
    grown = torch.tensor([[2.0, -0.5]], requires_grad=True)
    result = quantizer(grown)
    result.sum().backward()
    assert result[0, 0].item() == pytest.approx(1.0) and grown.grad.tolist() == [[0, 1]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_quantized_in_float32(dtype: torch.dtype) -> None:
    x = torch.randn(50).to(dtype)
    quantizer = enabled(UNSIGNED)
    got = quantizer(x.requires_grad_())
    assert got.dtype == torch.float32 and quantizer.scale.dtype == torch.float32
    assert torch.equal(got, enabled(UNSIGNED)(x.float()))
    got.sum().backward()
    assert x.grad.dtype == dtype


# Embeddings.


def test_an_embeddings_rows_are_rows_of_the_quantized_table() -> None:
    table = nn.Embedding(20, 6, padding_idx=0)
    free = copy.deepcopy(table)
    quantize_embedding(table, LayerScheme(SIGNED, None))
    assert isinstance(table, QuantizedEmbedding)
    ids = torch.tensor([[1, 5, 5], [0, 19, 2]])
    assert torch.equal(table(ids), free(ids))
    table.weight_quantizer.enabled = True
    whole = enabled(SIGNED, free.weight)(free.weight.detach())
    got = table(ids)
    assert torch.equal(got, whole[ids])
    got.square().sum().backward()
    free.weight.data = whole.clone()
    free(ids).square().sum().backward()
    torch.testing.assert_close(table.weight.grad, free.weight.grad)


def test_a_layer_is_printed_with_its_bits() -> None:
    assert "uint8, enabled=False" in repr(FakeQuantize(UNSIGNED))
    assert "int4" in repr(FakeQuantize(TensorScheme(num_bits=4, symmetric=True)))
    assert issubclass(QuantizedLinear, nn.Linear)
