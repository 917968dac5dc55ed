"""What the native engine runs: a quantized transformer encoder with a classification head, quantized or not.

Integers stand for numbers by a grid: number = scale · (integer - zero point).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from resparse.arrays import Array


class Activation(IntEnum):
    """Activation functions, numbered as in `csrc/engine.h`."""

    NONE = 0
    GELU = 1
    GELU_TANH = 2
    RELU = 3
    TANH = 4
    SILU = 5


@dataclass(frozen=True)
class Grid:
    """How numbers become integers: round(number / scale) + zero_point, saturated."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class Affine:
    """What linear layers have, quantized or not.

    Attributes:
        weights: [outputs, inputs]; maybe a transposed view.
        biases: float32 [outputs].
    """

    weights: Array
    biases: Array

    @property
    def outputs(self) -> int:
        """How many there are."""
        return int(self.weights.shape[0])

    @property
    def inputs(self) -> int:
        """How many there are."""
        return int(self.weights.shape[1])


@dataclass(frozen=True)
class Linear(Affine):
    """A linear layer of int8 weights, zero point 0, on quantized inputs.

    Attributes:
        scales: of each output's weights, float32 [outputs].
        grid: of the inputs, uint8.
    """

    scales: Array
    grid: Grid


@dataclass(frozen=True)
class FloatLinear(Affine):
    """A linear layer that was left in float32."""


@dataclass(frozen=True)
class Norm:
    """Layer normalization: float32 [width] both."""

    weight: Array
    bias: Array
    epsilon: float


@dataclass(frozen=True)
class Table:
    """An embedding: int8 or float32 [count, width]; scale of the integers, 0 for float32."""

    rows: Array
    scale: float


@dataclass(frozen=True)
class Positions:
    """Which position a token has.

    Attributes:
        padding: None: the token's place in its row. Else the id of tokens that do not count.
        offset: the first counted token has the position offset + 1, those that do not count have offset.
    """

    padding: int | None = None
    offset: int = 0


@dataclass(frozen=True)
class Layer:
    """An encoder layer; grids of queries and probabilities are uint8, of keys and values int8 around 0."""

    query: Linear
    key: Linear
    value: Linear
    attention_output: Linear
    intermediate: Linear
    output: Linear
    query_grid: Grid
    key_grid: Grid
    value_grid: Grid
    probabilities_grid: Grid
    attention_norm: Norm
    output_norm: Norm
    activation: Activation
    heads: int
    score_scale: float


@dataclass(frozen=True)
class Head:
    """A linear layer of the head, on a text's first token, and the activation after it."""

    linear: Linear | FloatLinear
    activation: Activation


@dataclass(frozen=True)
class Encoder:
    """The whole model.

    Attributes:
        types: of token types; None where the model has none.
        projection: from the width of the embeddings to that of the layers; None where they are the same.
        takes_types: whether token types are an input; else all are 0.
    """

    words: Table
    positions: Table
    types: Table | None
    numbering: Positions
    takes_types: bool
    embedding_norm: Norm
    projection: Linear | FloatLinear | None
    layers: tuple[Layer, ...]
    head: tuple[Head, ...]

    @property
    def labels(self) -> int:
        """Logits of a text."""
        return self.head[-1].linear.outputs

    @property
    def hidden(self) -> int:
        """Width of the layers."""
        return self.layers[0].query.inputs
