"""What is quantized, and how: bits, symmetry, one scale a tensor or one a channel. No torch here."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TensorScheme(BaseModel):
    """How one kind of tensor is quantized.

    Symmetric: signed integers in [-(2^(b-1) - 1), 2^(b-1) - 1], zero point 0, so that zero is exact and
    the range has no odd end. Asymmetric: unsigned integers in [0, 2^b - 1] with a zero point.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_bits: int = Field(8, ge=2, le=8, description="bits of the integer")
    symmetric: bool = Field(False, description="zero point 0 and a range of equal halves")
    strategy: Literal["tensor", "channel"] = Field(
        "tensor", description="one scale a tensor, or one an output row"
    )
    averaging: float = Field(0.01, gt=0, le=1, description="weight of a new batch in the moving range")

    @property
    def low(self) -> int:
        """The smallest integer."""
        return 1 - 2 ** (self.num_bits - 1) if self.symmetric else 0

    @property
    def high(self) -> int:
        """The largest integer."""
        return 2 ** (self.num_bits - 1) - 1 if self.symmetric else 2**self.num_bits - 1


@dataclass(frozen=True)
class LayerScheme:
    """The tensors of one layer; None leaves a tensor in floating point."""

    weights: TensorScheme | None
    inputs: TensorScheme | None
    outputs: TensorScheme | None = None


INT8_WEIGHTS = TensorScheme(symmetric=True)
UINT8_ACTIVATIONS = TensorScheme(symmetric=False)
INT8_ACTIVATIONS = TensorScheme(symmetric=True)


@dataclass(frozen=True)
class ModelScheme:
    """How a whole model is quantized.

    Attributes:
        linear: for Linear layers.
        embedding: for Embedding layers; None leaves them in floating point. Only weights count: a looked-up row
            of a quantized table is quantized already.
        attention: whether both matrix products of attention are quantized too, their left factors (queries,
            probabilities) with `attention_left`, their right factors (keys, values) with `attention_right`.
        overrides: by class name or path, of the layer or of a module around it: another scheme for those
            layers; the first that fits counts.
        ignored: class names and paths of modules that stay in floating point, with all that is in them.
    """

    linear: LayerScheme = LayerScheme(INT8_WEIGHTS, UINT8_ACTIVATIONS)
    embedding: LayerScheme | None = LayerScheme(INT8_WEIGHTS, None)
    attention: bool = True
    attention_left: TensorScheme = UINT8_ACTIVATIONS
    attention_right: TensorScheme = INT8_ACTIVATIONS
    overrides: tuple[tuple[str, LayerScheme], ...] = ()
    ignored: frozenset[str] = frozenset()

    def ignores(self, path: str, classes: Collection[str]) -> bool:
        """Whether the module at `path` stays in floating point.

        Args:
            path: of the module.
            classes: names of its class and of those of all modules around it.
        """
        return any(_names(entry, path, classes) for entry in self.ignored)

    def for_layer(self, path: str, classes: Collection[str], is_embedding: bool) -> LayerScheme:
        """The scheme of the layer at `path`; arguments as for `ignores`."""
        for entry, scheme in self.overrides:
            if _names(entry, path, classes):
                return replace(scheme, inputs=None, outputs=None) if is_embedding else scheme
        return (self.embedding or LayerScheme(None, None)) if is_embedding else self.linear


def _names(entry: str, path: str, classes: Collection[str]) -> bool:
    return entry in classes or path == entry or path.startswith(f"{entry}.")
