"""Quantization-aware training, as the recipe says it: SparseML's older fields, and its newer `scheme`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from resparse.errors import did_you_mean
from sparseml.modifiers.base import Batch, Clock, Epoch, Modifier, ModifierError, Run, without_effect
from sparseml.modifiers.select import select_modules
from sparseml.quantization.scheme import (
    NAMED,
    UINT8_ACTIVATIONS,
    LayerScheme,
    ModelScheme,
    Scheme,
    TensorScheme,
    observer_arguments,
)

if TYPE_CHECKING:
    import torch


CALIBRATION_BATCHES = 32
"""Batches for the ranges of a one-shot run, where the recipe does not say."""


ATTENTION_PRODUCTS = "QATMatMul"
"""SparseML's class name of attention's products, under which recipes exclude them."""

_OLDER = (
    "submodules",
    "model_fuse_fn_kwargs",
    "quantize_embeddings",
    "reduce_range",
    "quantize_linear_activations",
    "quantize_conv_activations",
    "quantize_embedding_activations",
    "activation_bits",
    "weight_bits",
    "exclude_batchnorm",
    "exclude_module_types",
    "custom_quantizable_module_types",
    "activation_qconfig_kwargs",
    "weight_qconfig_kwargs",
    "tensorrt",
)
_NEWER = ("scheme", "scheme_overrides", "ignore", "strict")


class QuantizationFields(Modifier):
    """What a recipe may say of quantization: in the older form by fields of its own, in the newer by `scheme`."""

    submodules: list[str] | None = Field(
        None,
        description="modules to quantize with all that is in them; names written for BERT map to this model",
    )
    disable_quantization_observer_epoch: Epoch | None = Field(
        None, description="epoch from which the ranges of activations and weights are held"
    )
    disable_quantization_observer_step: int | None = Field(
        None, ge=0, description="in place of disable_quantization_observer_epoch: the optimizer step"
    )
    freeze_bn_stats_epoch: Epoch | None = without_effect(None, "encoders have no batch norm")
    quantize_embeddings: bool = Field(True, description="whether embedding tables are quantized")
    quantize_linear_activations: bool = Field(
        True, description="whether the outputs of Linear layers are quantized too; their inputs always are"
    )
    quantize_conv_activations: bool = without_effect(True, "encoders have no convolutions")
    quantize_embedding_activations: bool = without_effect(
        True, "a row of a quantized table is quantized already"
    )
    activation_bits: int = Field(8, ge=2, le=8, description="bits of activations")
    weight_bits: int = Field(8, ge=2, le=8, description="bits of weights")
    reduce_range: bool = Field(False, description="one bit less for activations, for hardware that saturates")
    exclude_batchnorm: bool = without_effect(True, "encoders have no batch norm")
    exclude_module_types: list[str] | None = Field(
        None,
        description="class names of modules that stay in floating point; QATMatMul: the products of attention",
    )
    custom_quantizable_module_types: list[str] | None = without_effect(None)
    activation_qconfig_kwargs: dict[str, Any] | None = Field(None, description="{averaging_constant: number}")
    weight_qconfig_kwargs: dict[str, Any] | None = without_effect(None)
    model_fuse_fn_name: str | None = without_effect(None, "encoders have nothing to fuse")
    model_fuse_fn_kwargs: dict[str, Any] | None = without_effect(None)
    num_calibration_steps: int | None = Field(
        None, description="batches for the ranges of a one-shot run, by default 32; training needs none"
    )
    tensorrt: bool = Field(False, description="symmetric activations, as TensorRT wants them")
    scheme: Scheme | None = Field(
        None, description="default, deepsparse, tensorrt, or {input_activations, weights, output_activations}"
    )
    scheme_overrides: dict[str, Scheme] | None = Field(
        None, description="another scheme by module class name or module path"
    )
    ignore: list[str] | None = Field(None, description="class names and paths that stay in floating point")
    strict: bool = Field(
        True, description="whether an entry of ignore or scheme_overrides must match something"
    )

    @model_validator(mode="after")
    def _one_form(self) -> QuantizationFields:
        older = [name for name in _OLDER if name in self.model_fields_set]
        newer = [name for name in _NEWER if name in self.model_fields_set]
        if older and newer:
            raise ValueError(
                f"{newer[0]} belongs to the newer form of this modifier and {older[0]} to the older one: "
                "use one form or the other"
            )
        if self.end_epoch != -1 or self.end_step is not None:
            raise ValueError("quantization cannot end before the training does: leave end_epoch out")
        if self.reduce_range and self.activation_bits == 2:
            raise ValueError(
                "reduce_range takes one bit off activation_bits, and 2 is the fewest that there are"
            )
        self._refuse_held_too_early()
        self.model_scheme()
        return self

    def _refuse_held_too_early(self) -> None:
        in_epochs = self.disable_quantization_observer_epoch
        in_steps = self.disable_quantization_observer_step
        if in_epochs is not None and in_steps is not None:
            raise ValueError(
                "disable_quantization_observer_epoch and disable_quantization_observer_step say the same thing: "
                "give one of them"
            )
        for unit, held, start in (
            ("epoch", in_epochs, self.start_epoch),
            ("step", in_steps, self.start_step or 0),
        ):
            if held is not None and 0 <= held < start:
                raise ValueError(
                    f"disable_quantization_observer_{unit} {held:g} lies before start_{unit} {start:g}: "
                    "ranges would be held before any was seen"
                )

    def model_scheme(self) -> ModelScheme:
        """What the fields say, resolved."""
        if any(name in self.model_fields_set for name in _NEWER):
            return self._newer_scheme()
        bits = self.activation_bits - (1 if self.reduce_range else 0)
        observer = observer_arguments(self.activation_qconfig_kwargs or {})
        left = TensorScheme(num_bits=bits, symmetric=self.tensorrt, **observer)
        weights = TensorScheme(num_bits=self.weight_bits, symmetric=True)
        return ModelScheme(
            linear=LayerScheme(weights, left, left if self.quantize_linear_activations else None),
            embedding=LayerScheme(weights, None) if self.quantize_embeddings else None,
            attention=ATTENTION_PRODUCTS not in (self.exclude_module_types or ()),
            attention_left=left,
            attention_right=TensorScheme(num_bits=bits, symmetric=True, **observer),
            ignored=frozenset(self.exclude_module_types or ()),
        )

    def _newer_scheme(self) -> ModelScheme:
        linear = (self.scheme or NAMED["default"]).resolve()
        ignored = frozenset(self.ignore or ())
        inputs = linear.inputs or UINT8_ACTIVATIONS
        return ModelScheme(
            linear=linear,
            embedding=LayerScheme(linear.weights, None) if linear.weights else None,
            attention=linear.inputs is not None and ATTENTION_PRODUCTS not in ignored,
            attention_left=inputs,
            attention_right=inputs.model_copy(update={"symmetric": True}),
            overrides=tuple((key, value.resolve()) for key, value in (self.scheme_overrides or {}).items()),
            ignored=ignored,
        )


class QuantizationModifier(QuantizationFields):
    """Trains with fake-quantized weights and activations from `start_epoch` on.

    All Linear layers of `submodules` (weights int8 symmetric, inputs uint8 asymmetric), their embeddings,
    and both matrix products of attention, on every encoder that goes through Transformers' attention
    interface. Ranges follow the batches until `disable_quantization_observer_epoch` and are held from there.
    """

    label = "QAT"
    one_shot = True
    starts_last = True
    restores_modules = True

    def structure(self, run: Run) -> None:
        from sparseml.quantization.structure import is_quantized, quantize_structure

        model = run.model
        if is_quantized(model):
            raise ModifierError(
                f"{self.name}: the model is quantized already, by another modifier or recipe."
            )
        roots: Mapping[str, torch.nn.Module] = {"": model}
        if self.submodules is not None:
            roots, absent = select_modules(model, self.submodules, self.name)
            if absent:
                run.notes.append(
                    f"{type(model).__name__} has no {', '.join(absent)}: nothing to quantize there."
                )
        scheme = self.model_scheme()
        self._refuse_unmatched(model, scheme)
        if self._rounds_outputs_unasked():
            run.notes.append(
                f"{self.name} rounds the outputs of Linear layers, too, as SparseML does by default. That may cost "
                "accuracy, and costs time when deployed; `quantize_linear_activations: False` leaves them as they are."
            )
        if quantize_structure(model, roots, scheme).other_attention:
            run.notes.append(
                f"{type(model).__name__} is not on Transformers' attention interface: its Linear layers and "
                "embeddings are quantized, its attention products stay in floating point."
            )

    def _rounds_outputs_unasked(self) -> bool:
        """Whether outputs are quantized because the recipe, in the older form, does not say otherwise."""
        said = {"quantize_linear_activations", *_NEWER}
        return self.quantize_linear_activations and not said & self.model_fields_set

    def calibration_batches(self, run: Run) -> int:
        """In one shot; a training learns its ranges."""
        if not run.one_shot:
            return 0
        asked = self.num_calibration_steps or 0
        return asked if asked > 0 else CALIBRATION_BATCHES

    def calibrate(self, run: Run, batches: Iterable[Batch]) -> None:
        import torch

        from sparseml.quantization.structure import calibrating, enable

        enable(run.model)
        with torch.no_grad(), calibrating(run.model):
            for batch in batches:
                run.model(**batch)

    def on_start(self, run: Run) -> None:
        from sparseml.quantization.structure import enable

        enable(run.model)
        self.before_step(run)

    def before_step(self, run: Run) -> None:
        from sparseml.quantization.structure import set_observing

        if run.step >= self.frozen_from(run.clock):
            set_observing(run.model, False)

    def final_from(self, clock: Clock) -> float:
        """Its start: before, the model is in floating point."""
        return self.first_step(clock)

    def state(self, run: Run) -> dict[str, torch.Tensor]:
        from sparseml.quantization.structure import quantization_state

        return quantization_state(run.model)

    def load_state(self, state: Mapping[str, torch.Tensor], run: Run) -> None:
        from sparseml.quantization.structure import load_quantization_state

        if missing := load_quantization_state(run.model, state):
            raise ModifierError(
                f"{self.name}: the checkpoint lacks {len(missing)} of the quantization ranges that its own recipe asks "
                f"for ({missing[0]}, ...): its modifiers.safetensors is missing, cut short, or of another model. Use "
                "another copy; or remove its recipe.yaml to take the weights in floating point."
            )

    def restore(self, run: Run, state: Mapping[str, torch.Tensor]) -> None:
        """Quantize with the training's ranges, frozen; leave the model where it ended before quantization began."""
        from sparseml.quantization.structure import enable, set_observing

        # A range that was never observed is NaN; none at all are a loss, which `load_state` reports.
        ranges = [value for key, value in state.items() if key.endswith(".minimum")]
        if ranges and all(value.isnan().any() for value in ranges):
            return
        self.structure(run)
        self.load_state(state, run)
        enable(run.model)
        set_observing(run.model, False)

    def conflicts_with(self, other: Modifier) -> str | None:
        if isinstance(other, QuantizationModifier) and self.overlaps(other):
            return (
                f"{self.name} and the one in line {other.place[1]} both quantize at the same time: keep one."
            )
        return None

    def supersedes(self, earlier: Modifier) -> str | None:
        if not isinstance(earlier, QuantizationModifier):
            return None
        return (
            "was quantized by its own recipe, and this recipe quantizes too: starting from the weights in "
            "floating point; ranges are learned anew."
        )

    def frozen_from(self, clock: Clock) -> float:
        """The step from which ranges are held; infinite when never."""
        if self.disable_quantization_observer_step is not None:
            return self.disable_quantization_observer_step
        epoch = self.disable_quantization_observer_epoch
        return float("inf") if epoch is None or epoch < 0 else clock.step(epoch)

    def events(self, clock: Clock) -> list[tuple[float, str]]:
        return [(self.frozen_from(clock), "quantization ranges held")]

    def _refuse_unmatched(self, model: torch.nn.Module, scheme: ModelScheme) -> None:
        if not self.strict or not (self.ignore or self.scheme_overrides):
            return
        classes = {ATTENTION_PRODUCTS, *(type(module).__name__ for module in model.modules())}
        paths = {path for path, _ in model.named_modules()}
        for entry in (*scheme.ignored, *(key for key, _ in scheme.overrides)):
            if entry not in classes | paths:
                raise ModifierError(
                    f"{self.name}: {entry!r} is neither a module nor a module class of this model. "
                    f"{did_you_mean(entry, classes | paths)}"
                )
