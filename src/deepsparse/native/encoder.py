"""The model that the native engine runs: a transformer encoder with a head, quantized, in float, or mixed.

A `Grid` quantizes: number = scale * (integer - zero point).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from deepsparse.errors import UnsupportedError
from resparse.arrays import Array

LAYER_LINEARS: Final = ("query", "key", "value", "attention_output", "intermediate", "output")
"""The linear layers of a `Layer`, in the order of the computation."""

MOST_SCORE_GRIDS: Final = 3

_LARGEST: Final = 2**16
"""Rows or columns of a matrix."""


class Activation(IntEnum):
    """Activation functions, numbered as in `csrc/engine.h`."""

    NONE = 0
    GELU = 1
    GELU_TANH = 2
    RELU = 3
    TANH = 4
    SILU = 5


class AttentionProducts(IntEnum):
    """How the products of attention are computed, numbered as in `csrc/engine.h`."""

    OF_INTEGERS = 0
    IN_FLOAT = 1
    BY_RANGE = 2


class AddedLast(IntEnum):
    """Tables of embeddings, numbered as in `csrc/engine.h`."""

    POSITIONS = 0
    TYPES = 1
    WORDS = 2


@dataclass(frozen=True)
class Grid:
    """Scale and zero point: integer = clamp(round(number / scale) + zero_point, least, most)."""

    scale: float
    zero_point: int
    least: int = 0
    most: int = 255


@dataclass(frozen=True)
class Affine:
    """Linear layers, quantized or not.

    Attributes:
        weights: [outputs, inputs]; may be a transposed view.
        biases: float32 [outputs].
    """

    weights: Array
    biases: Array

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return int(self.weights.shape[0])

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return int(self.weights.shape[1])


@dataclass(frozen=True)
class Linear(Affine):
    """A linear layer of int8 weights with zero point 0, on quantized inputs.

    Attributes:
        scales: of the weights, float32 [outputs].
        grid: of the inputs, uint8; None: every text's inputs are quantized by their own range.
        rounding: the grid, of uint8, that outputs are rounded to; None where they stay as they are.
        product_rounding: the same of outputs before the bias is added.
    """

    scales: Array
    grid: Grid | None
    rounding: Grid | None = None
    product_rounding: Grid | None = None


@dataclass(frozen=True)
class FloatLinear(Affine):
    """A linear layer of float32 weights.

    Attributes:
        grid: of uint8, that inputs are rounded to; None where they stay as they are.
        rounding, product_rounding: as of `Linear`.
    """

    grid: Grid | None = None
    rounding: Grid | None = None
    product_rounding: Grid | None = None


AnyLinear = Linear | FloatLinear


@dataclass(frozen=True)
class Norm:
    """Layer normalization; weight and bias are float32 [width]."""

    weight: Array
    bias: Array
    epsilon: float


@dataclass(frozen=True)
class Table:
    """An embedding table: int8 or float32 [count, width]; `scale` is that of int8, 0 for float32."""

    rows: Array
    scale: float


@dataclass(frozen=True)
class Positions:
    """How position ids are computed.

    Attributes:
        padding: None: they are the indices of the tokens. Else tokens are counted, but those of this id.
        offset: of counted tokens: the first has the position offset + 1; tokens that are not counted have offset.
    """

    padding: int | None = None
    offset: int = 0


@dataclass(frozen=True)
class AttentionGrids:
    """Grids of the factors of attention's products: uint8, of keys and values int8 with zero point 0.

    Attributes:
        products: IN_FLOAT: of rounded floats. Then all grids are of uint8, any of the four may be None, and more may be
            rounded: `scores` up to `MOST_SCORE_GRIDS` times, the first one first, probabilities
            to `softmax` before they are to `probabilities`, and what attention gives to `context`. BY_RANGE: there are
            no grids but those of the range of each text.
    """

    query: Grid | None
    key: Grid | None
    probabilities: Grid | None
    value: Grid | None
    scores: tuple[Grid, ...] = ()
    softmax: Grid | None = None
    context: Grid | None = None
    products: AttentionProducts = AttentionProducts.OF_INTEGERS


@dataclass(frozen=True)
class Roundings:
    """Grids, of uint8, that a layer's hidden states are rounded to; None where they stay as they are.

    Attributes:
        attention_residual, output_residual: of what is added to the output of attention, and to that of the layer.
        attention_sum, output_sum: of these sums, before they are normalized.
    """

    attention_residual: Grid | None = None
    attention_sum: Grid | None = None
    output_residual: Grid | None = None
    output_sum: Grid | None = None


@dataclass(frozen=True)
class Tabulated:
    """An activation function of rounded numbers, by its values.

    Attributes:
        values: float32 [256]: of the numbers of `grid`, by their integers.
        grid: of uint8, to which its input is rounded.
    """

    values: Array
    grid: Grid


AnyActivation = Activation | Tabulated


@dataclass(frozen=True)
class Layer:
    """An encoder layer.

    Attributes:
        grids: None: attention is in float.
        attention_norm, output_norm: after attention, and after the output.
        score_scale: what scores are multiplied by.
        gate: of the intermediate's input, multiplied with what is activated (GLU).
        frequencies: of rotary positions, float32 [head size / 2]; see `columns.Heads`.
        window: a token attends to so many on each side of it; None: to all.
        bias: added to scores, float32 [heads, 2 * reach - 1], by the places of key - query, from 1 - reach on.
    """

    query: AnyLinear
    key: AnyLinear
    value: AnyLinear
    attention_output: AnyLinear
    intermediate: AnyLinear
    output: AnyLinear
    grids: AttentionGrids | None
    attention_norm: Norm
    output_norm: Norm
    activation: AnyActivation
    heads: int
    score_scale: float
    gate: AnyLinear | None = None
    frequencies: Array | None = None
    window: int | None = None
    bias: Array | None = None
    roundings: Roundings = Roundings()

    @property
    def knows_distances(self) -> bool:
        """Whether attention depends on how far tokens are apart."""
        return not (self.frequencies is None and self.window is None and self.bias is None)

    @property
    def linears(self) -> list[AnyLinear]:
        """In the order of the computation; the gate, if there is one, last."""
        found: list[AnyLinear] = [getattr(self, name) for name in LAYER_LINEARS]
        return found if self.gate is None else [*found, self.gate]


@dataclass(frozen=True)
class Head:
    """A linear layer of the head, the activation after it, and the norm after that."""

    linear: AnyLinear
    activation: AnyActivation
    norm: Norm | None = None


class HeadTokens(IntEnum):
    """What the head is applied to, of each text; numbered as in `csrc/engine.h`."""

    FIRST = 0
    EVERY = 1
    MEAN = 2


@dataclass(frozen=True)
class Encoder:
    """The whole model.

    Attributes:
        positions, types: of absolute positions and of token types; None where the model has none.
        takes_types: whether token types are an input; else all are 0.
        projection: from the width of the embeddings to that of the layers; None where they are equal.
        head_tokens: what the head is applied to.
        keeps_sums: residuals are added to sums before their norms (pre-norm), not to what is normalized.
        sums: the grids, of uint8, that sums of embeddings are rounded to: of the first two tables that are added,
            and of all; None where they stay as they are.
        added_last: the table that is added last.
        columns: None: the logits are one output. Else each output is one column of them, this one.
    """

    words: Table
    positions: Table | None
    types: Table | None
    numbering: Positions
    takes_types: bool
    embedding_norm: Norm
    projection: AnyLinear | None
    layers: tuple[Layer, ...]
    head: tuple[Head, ...]
    head_tokens: HeadTokens = HeadTokens.FIRST
    columns: tuple[int, ...] | None = None
    keeps_sums: bool = False
    sums: tuple[Grid | None, Grid | None] = (None, None)
    added_last: AddedLast = AddedLast.POSITIONS

    @property
    def every_token(self) -> bool:
        """Whether there are logits for every token; else for each text."""
        return self.head_tokens == HeadTokens.EVERY

    @property
    def reach(self) -> int | None:
        """Tokens that a text may have because of relative positions; None: any number."""
        found = [(layer.bias.shape[1] + 1) // 2 for layer in self.layers if layer.bias is not None]
        return min(found, default=None)

    @property
    def labels(self) -> int:
        """Number of logits."""
        return self.head[-1].linear.outputs

    @property
    def hidden(self) -> int:
        """Width of the layers."""
        return self.layers[0].query.inputs


def check(encoder: Encoder) -> None:
    """Check that all sizes fit each other and the engine, whose kernels trust them.

    Raises:
        UnsupportedError: they do not.
    """
    _check_layers(encoder)
    if any(max(linear.weights.shape) > _LARGEST for linear in linears(encoder)):
        raise UnsupportedError(f"a matrix of it has more than {_LARGEST:,} rows or columns")
    width, hidden = encoder.words.rows.shape[1], encoder.hidden
    projected = width if encoder.projection is None else encoder.projection.outputs
    fits = encoder.embedding_norm.weight.size == width and projected == hidden
    if encoder.projection is not None:
        fits = fits and encoder.projection.inputs == width
    before = hidden
    for head in encoder.head:
        fits = fits and head.linear.inputs == before
        before = head.linear.outputs
        fits = fits and (head.norm is None or head.norm.weight.size == before)
    tables = [one for one in (encoder.words, encoder.positions) if one is not None]
    if not fits or not all(one.rows.size for one in tables):
        raise UnsupportedError("the sizes of its embeddings, layers and head do not fit each other")


def linears(encoder: Encoder) -> list[AnyLinear]:
    """All linear layers, in the order of the computation."""
    found: list[AnyLinear] = [] if encoder.projection is None else [encoder.projection]
    for layer in encoder.layers:
        found += layer.linears
    return found + [head.linear for head in encoder.head]


def _check_layers(encoder: Encoder) -> None:
    epsilons = {encoder.embedding_norm.epsilon}
    epsilons |= {head.norm.epsilon for head in encoder.head if head.norm is not None}
    for layer in encoder.layers:
        _check_layer(layer, encoder.hidden)
        epsilons |= {layer.attention_norm.epsilon, layer.output_norm.epsilon}
    if len(epsilons) > 1:
        raise UnsupportedError("its normalizations have several epsilons")


def _check_layer(layer: Layer, hidden: int) -> None:
    wide, width = layer.intermediate.outputs, layer.query.outputs
    if width % (4 * layer.heads):
        raise UnsupportedError(
            f"its heads are {width / layer.heads:g} wide (`num_attention_heads`), which is no multiple of 4"
        )
    if not (math.isfinite(layer.score_scale) and layer.score_scale > 0):
        raise UnsupportedError(f"its attention scores are multiplied by {layer.score_scale:.6g}")
    shapes = (
        *((one, (width, hidden)) for one in (layer.query, layer.key, layer.value)),
        (layer.attention_output, (hidden, width)),
        (layer.intermediate, (wide, hidden)),
        (layer.output, (hidden, wide)),
    )
    fits = all(one.weights.shape == shape for one, shape in shapes)
    fits = fits and (layer.gate is None or layer.gate.weights.shape == (wide, hidden))
    fits = fits and layer.attention_norm.weight.size == layer.output_norm.weight.size == hidden
    if not fits:
        raise UnsupportedError("the parts of its layers do not fit each other")
