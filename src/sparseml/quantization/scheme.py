"""What is quantized, and how: bits, symmetry, one scale a tensor or one a channel; as a recipe writes it and resolved.

No torch here: recipes are checked without it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from resparse.errors import did_you_mean


class TensorScheme(BaseModel):
    """How one kind of tensor is quantized.

    Symmetric: signed integers in [-(2^(b-1) - 1), 2^(b-1) - 1], zero point 0, so that zero is exact and
    the range has two equal halves. Asymmetric: unsigned integers in [0, 2^b - 1] with a zero point.
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
        return 1 - 2 ** (self.num_bits - 1) if self.symmetric else 0

    @property
    def high(self) -> int:
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

        `classes` are the names of its class and of those of all modules around it.
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


# The `scheme` of a recipe.


class TensorArguments(BaseModel):
    """How one tensor is quantized, in the newer form of the recipe."""

    model_config = ConfigDict(extra="forbid")

    num_bits: int = Field(8, ge=2, le=8)
    symmetric: bool = False
    strategy: Literal["tensor", "channel"] = "tensor"
    kwargs: dict[str, Any] = Field(default_factory=dict)

    def resolve(self) -> TensorScheme:
        return TensorScheme(**self.model_dump(exclude={"kwargs"}), **observer_arguments(self.kwargs))


class SchemeArguments(BaseModel):
    """How one layer is quantized, in the newer form of the recipe."""

    model_config = ConfigDict(extra="forbid")

    input_activations: TensorArguments | None = TensorArguments()
    weights: TensorArguments | None = TensorArguments(symmetric=True)
    output_activations: TensorArguments | None = None
    target_hardware: str | None = None

    @model_validator(mode="after")
    def _channels_are_of_weights(self) -> SchemeArguments:
        for part in ("input_activations", "output_activations"):
            arguments = getattr(self, part)
            if arguments is not None and arguments.strategy == "channel":
                raise ValueError(f"strategy channel is for weights; {part} take one scale a tensor")
        return self

    def resolve(self) -> LayerScheme:
        parts = (self.weights, self.input_activations, self.output_activations)
        return LayerScheme(*(part.resolve() if part is not None else None for part in parts))


NAMED = {
    "default": SchemeArguments(),
    "deepsparse": SchemeArguments(),
    "tensorrt": SchemeArguments(input_activations=TensorArguments(symmetric=True)),
}


def _by_name(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value not in NAMED:
        raise ValueError(f"there is no scheme called {value!r}. {did_you_mean(value, NAMED)}")
    return NAMED[value]


Scheme = Annotated[SchemeArguments, BeforeValidator(_by_name)]
"""One of the names, or the arguments themselves."""


def observer_arguments(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The range observer's arguments of a recipe as `TensorScheme` calls them.

    Raises:
        ValueError: it takes no such argument, or no such value.
    """
    if unknown := set(kwargs) - {"averaging_constant"}:
        raise ValueError(
            f"{min(unknown)!r} is not an argument of the range observer, which takes averaging_constant"
        )
    if "averaging_constant" not in kwargs:
        return {}
    averaging = kwargs["averaging_constant"]
    if not isinstance(averaging, (int, float)) or not 0 < averaging <= 1:
        raise ValueError(f"averaging_constant is {averaging!r}; it is a number above 0 and at most 1")
    return {"averaging": averaging}
