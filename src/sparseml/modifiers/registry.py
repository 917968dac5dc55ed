"""From a recipe's tags to modifiers: the one list of those that exist."""

from __future__ import annotations

from pydantic import ValidationError

from sparseml.modifiers.base import Modifier
from sparseml.modifiers.constant_pruning import ConstantPruningModifier
from sparseml.modifiers.distillation import DistillationModifier
from sparseml.modifiers.epochs import EpochRangeModifier
from sparseml.modifiers.layer_distillation import PerLayerDistillationModifier
from sparseml.modifiers.layer_pruning import LayerPruningModifier
from sparseml.modifiers.layer_thinning import LayerThinningModifier
from sparseml.modifiers.layerwise_pruning import LayerwisePruningModifier
from sparseml.modifiers.learning_rate import (
    LearningRateFunctionModifier,
    LearningRateModifier,
    SetLearningRateModifier,
)
from sparseml.modifiers.magnitude_pruning import (
    GlobalMagnitudePruningModifier,
    GMPruningModifier,
    MagnitudePruningModifier,
)
from sparseml.modifiers.movement_pruning import MovementPruningModifier
from sparseml.modifiers.obs_pruning import OBSPruningModifier
from sparseml.modifiers.parameters import SetParamModifier, TrainableParamsModifier
from sparseml.modifiers.quantization import QuantizationModifier
from sparseml.modifiers.structured_pruning import StructuredPruningModifier
from sparseml.modifiers.weight_decay import SetWeightDecayModifier
from sparseml.recipe import RecipeError
from sparseml.recipe.plan import ModifierSpec, Plan
from sparseml.recipe.unknown import unknown_modifier, unknown_property

MODIFIERS: dict[str, type[Modifier]] = {
    modifier.__name__: modifier
    for modifier in (
        EpochRangeModifier,
        LearningRateFunctionModifier,
        LearningRateModifier,
        SetLearningRateModifier,
        SetWeightDecayModifier,
        TrainableParamsModifier,
        SetParamModifier,
        ConstantPruningModifier,
        MagnitudePruningModifier,
        GlobalMagnitudePruningModifier,
        GMPruningModifier,
        MovementPruningModifier,
        OBSPruningModifier,
        LayerwisePruningModifier,
        StructuredPruningModifier,
        LayerThinningModifier,
        LayerPruningModifier,
        QuantizationModifier,
        DistillationModifier,
        PerLayerDistillationModifier,
    )
}


def build(plan: Plan) -> list[Modifier]:
    """The plan's modifiers, validated, in its order.

    Raises:
        RecipeError: an unknown modifier or property (with near names), a missing or wrong value; with its line.
    """
    return [_build_one(spec, plan.source) for spec in plan.modifiers]


def _build_one(spec: ModifierSpec, source: str) -> Modifier:
    modifier_class = MODIFIERS.get(spec.tag)
    if modifier_class is None:
        raise RecipeError(unknown_modifier(spec.tag, MODIFIERS), source, spec.line)
    try:
        modifier = modifier_class(**spec.fields)
    except ValidationError as error:
        raise _as_recipe_error(error, spec, source, modifier_class) from None
    modifier._source, modifier._line, modifier._tag = source, spec.line, spec.tag
    modifier._stage = spec.stage
    return modifier


def _as_recipe_error(
    error: ValidationError, spec: ModifierSpec, source: str, modifier_class: type[Modifier]
) -> RecipeError:
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"])
    field = str(first["loc"][0]) if first["loc"] else ""
    line = spec.field_lines.get(field, spec.line)
    fields = modifier_class.model_fields
    description = fields[field].description if field in fields else None
    help_text = f" ({description})" if description else ""
    if first["type"] == "extra_forbidden" and field in fields:
        text = f"{spec.tag} has no property {path!r}{help_text}."
    elif first["type"] == "extra_forbidden":
        text = unknown_property(spec.tag, path, fields, spec.fields)
    elif first["type"] == "missing":
        text = f"{spec.tag} needs the property {path!r}{help_text}."
    elif first["type"] == "value_error":
        reason = str(first["ctx"]["error"])
        text = f"{spec.tag}: {path + ': ' if path else ''}{reason}{'' if reason[-1:] in '.?' else '.'}"
    else:
        reason = first["msg"][:1].lower() + first["msg"][1:]
        text = f"{spec.tag}: {path} is {first['input']!r}, which will not do: {reason}{help_text}."
    return RecipeError(text, source, line)
