"""Fake quantization: round to the integer grid and back, with the straight-through gradient.

Bengio, Leonard and Courville 2013 (arXiv:1308.3432) for the gradient; Jacob et al. 2018 (arXiv:1712.05877)
for the moving ranges. The rounding is ONNX's QuantizeLinear: half to even, then the zero point, then
saturation; a graph exported with the same scales computes the same integers.

PyTorch's own operator (`fake_quantize_per_tensor_affine`) is not vectorized on CPUs and takes about four
times as long as the few whole-tensor operations here.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from sparseml.processes import are_several, largest_of_processes
from sparseml.quantization.scheme import TensorScheme

BUFFERS = ("minimum", "maximum", "scale", "zero_point")

_exporting: ContextVar[bool] = ContextVar("exporting", default=False)


@contextmanager
def exporting() -> Iterator[None]:
    """Context in which rounding is traced by `torch.onnx.export` as ONNX's QuantizeLinear and DequantizeLinear."""
    token = _exporting.set(True)
    try:
        yield
    finally:
        _exporting.reset(token)


class FakeQuantize(nn.Module):
    """Observes a tensor's range while training, and fake-quantizes the tensor; returns it as it is until enabled.

    Its buffers are not persistent: the model's `state_dict` keeps the keys that every other loader knows, and
    the checkpoint stores ranges in a file of their own.

    Buffers (shape [] for one scale a tensor, [rows, 1] for one a channel): `minimum` and `maximum`, the
    observed range (NaN before the first observation); `scale` (float32) and `zero_point` (int32).
    """

    minimum: Tensor
    maximum: Tensor
    scale: Tensor
    zero_point: Tensor

    def __init__(self, scheme: TensorScheme, weight: Tensor | None = None) -> None:
        """For activations; or, given a `weight`, for that weight, whose range is its current minimum and maximum."""
        super().__init__()
        self.scheme = scheme
        self.of_weight = weight is not None
        self.enabled = False
        self.observing = True
        channels = (weight.shape[0], 1) if weight is not None and scheme.strategy == "channel" else ()
        device = weight.device if weight is not None else None
        for name in ("minimum", "maximum"):
            self.register_buffer(name, torch.full(channels, torch.nan, device=device), persistent=False)
        self.register_buffer("scale", torch.ones(channels, device=device), persistent=False)
        self.register_buffer(
            "zero_point", torch.zeros(channels, dtype=torch.int32, device=device), persistent=False
        )
        self.sharers = 1
        """Number of layers that share this quantizer because they have one input tensor."""
        self._memo: _Memo | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Round a tensor of any shape to the grid, as float32; the tensor itself while not enabled."""
        if not self.enabled:
            return x
        if _exporting.get():
            return self.round(x)
        if (memo := self._memo) is not None and memo.is_of(x):
            memo.left -= 1
            if memo.left == 0:
                self._memo = None
            return memo.result
        if self.observes:
            self.observe(x.detach())
        result = self.round(x)
        self._memo = _Memo(x, result, self.sharers - 1) if self.sharers > 1 else None
        return result

    @property
    def observes(self) -> bool:
        """Whether the next tensor updates the range."""
        return self.enabled and self.observing and self.training

    def round(self, x: Tensor) -> Tensor:
        """Round to the current grid, without observing."""
        if _exporting.get():
            return _onnx_round(x.float(), self.scale, self.zero_point, self.scheme)
        # A weight is never outside its own current range, so its gradient needs no mask.
        never_clips = self.of_weight and self.observes
        return fake_quantize(x.float(), self.scale, self.zero_point, self.scheme, never_clips, self.lowest)

    @property
    def lowest(self) -> int:
        """The lowest integer of the grid: of activations in int8 -128, where ONNX saturates and SparseML did.

        Their range is a moving average, so that single values lie below it; weights never do.
        """
        whole_type = self.scheme.symmetric and self.scheme.num_bits == 8 and not self.of_weight
        return self.scheme.low - 1 if whole_type else self.scheme.low

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Update the range from `x`, and derive scale and zero point.

        A tensor with infinite or NaN entries, as in a step that overflows in fp16 and is skipped, is ignored.
        """
        if self.of_weight:
            low, high = weight_range(x.float(), self.scheme)
        else:
            low, high = _range_of_all(x.float())
        usable = torch.isfinite(low) & torch.isfinite(high)
        if not self.of_weight:
            seen = ~torch.isnan(self.minimum)
            low = torch.where(seen, torch.lerp(self.minimum, low, self.scheme.averaging), low)
            high = torch.where(seen, torch.lerp(self.maximum, high, self.scheme.averaging), high)
        scale, zero_point = scale_and_zero_point(low, high, self.scheme)
        for name, moved in zip(BUFFERS, (low, high, scale, zero_point), strict=True):
            buffer = getattr(self, name)
            buffer.copy_(torch.where(usable, moved, buffer))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_memo": None}  # a weak reference can be neither copied nor pickled

    def extra_repr(self) -> str:
        kind = "int" if self.scheme.symmetric else "uint"
        return f"{kind}{self.scheme.num_bits}, enabled={self.enabled}, observing={self.observing}"


class _Memo:
    """The last result of a quantizer that several layers share.

    Query, key and value have one input tensor: it is observed and quantized once, not three times, and one
    result is stored for the backward pass, not three; it is freed after the last layer that shares it.
    """

    def __init__(self, x: Tensor, result: Tensor, left: int) -> None:
        """`left`: number of layers that have not asked for it yet."""
        self.result, self.left = result, left
        self._of, self._version, self._grad = weakref.ref(x), x._version, torch.is_grad_enabled()

    def is_of(self, x: Tensor) -> bool:
        """Whether `x` is the same tensor, not modified in place since, in the same grad mode."""
        return self._of() is x and self._version == x._version and self._grad == torch.is_grad_enabled()


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: Tensor, high: Tensor, never_clips: bool) -> Tensor:
        rounded = torch.div(x, scale).round_()
        clipped = rounded.clamp(low, high)
        ctx.never_clips = never_clips
        if not never_clips:
            ctx.save_for_backward(rounded != clipped)
        return clipped.mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        if not ctx.never_clips:
            (outside,) = ctx.saved_tensors
            gradient = gradient.masked_fill(outside, 0.0)
        return gradient, None, None, None, None


def fake_quantize(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    scheme: TensorScheme,
    never_clips: bool = False,
    lowest: int | None = None,
) -> Tensor:
    """`(saturate(round(x / scale) + zero_point) - zero_point) * scale`, float32, the shape of `x`.

    The gradient passes where nothing was clipped and is 0 elsewhere; `never_clips` promises that nothing is
    clipped, and saves the memory of the mask. `lowest` is where it saturates, the scheme's lowest integer by default.
    """
    low = (scheme.low if lowest is None else lowest) - zero_point
    high = scheme.high - zero_point
    result: Tensor = _StraightThrough.apply(x, scale, low.to(x.dtype), high.to(x.dtype), never_clips)
    return result


def _onnx_round(x: Tensor, scale: Tensor, zero_point: Tensor, scheme: TensorScheme) -> Tensor:
    """The pair of ONNX operators that computes `fake_quantize`, for tracing only: the values are not computed.

    Symmetric is int8, asymmetric uint8. ONNX saturates to all 256 values of the type: a grid of fewer bits is
    clipped before.
    """
    if scheme.num_bits < 8:
        x = torch.clamp(x, (scheme.low - zero_point) * scale, (scheme.high - zero_point) * scale)
    kind = torch.int8 if scheme.symmetric else torch.uint8
    by_row: dict[str, Any] = {"axis": 0} if scale.ndim else {}
    grid = (scale.reshape(-1), zero_point.reshape(-1).to(kind)) if by_row else (scale, zero_point.to(kind))
    integers = torch.onnx.ops.symbolic("QuantizeLinear", (x, *grid), by_row, dtype=kind, shape=x.shape)
    rounded: Tensor = torch.onnx.ops.symbolic(
        "DequantizeLinear", (integers, *grid), by_row, dtype=torch.float32, shape=x.shape
    )
    return rounded


def _range_of_all(x: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest value of a tensor, of which each process of a training has a part."""
    low, high = torch.aminmax(x)
    if not are_several():
        return low, high
    edges = torch.stack([-low, high])
    # NaN is not ordered, and must reach every process.
    low, high = largest_of_processes(torch.where(edges.isfinite().all(), edges, torch.inf))
    return -low, high


def weight_range(weight: Tensor, scheme: TensorScheme) -> tuple[Tensor, Tensor]:
    """Smallest and largest value of a weight: [] for one scale a tensor, [rows, 1] for one a channel."""
    if scheme.strategy == "channel":
        low, high = torch.aminmax(weight.reshape(weight.shape[0], -1), dim=1, keepdim=True)
    else:
        low, high = torch.aminmax(weight)
    return low, high


def scale_and_zero_point(low: Tensor, high: Tensor, scheme: TensorScheme) -> tuple[Tensor, Tensor]:
    """The grid for values in [low, high], which always contains 0; float32 scale, int32 zero point."""
    tiny = torch.finfo(torch.float32).tiny * 2**10
    if scheme.symmetric:
        scale = (torch.maximum(low.abs(), high.abs()) / scheme.high).clamp_min(tiny)
        return scale, torch.zeros_like(scale, dtype=torch.int32)
    low, high = low.clamp_max(0), high.clamp_min(0)
    scale = ((high - low) / (scheme.high - scheme.low)).clamp_min(tiny)
    zero_point = (scheme.low - torch.round(low / scale)).clamp_(scheme.low, scheme.high)
    return scale, zero_point.to(torch.int32)
