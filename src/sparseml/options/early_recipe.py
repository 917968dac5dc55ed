"""A recipe's names, checked before PyTorch is imported: modifiers that do not exist, and properties that they lack."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sparseml.options.source_fields import all_fields, imported_classes
from sparseml.recipe import RecipeError
from sparseml.recipe.plan import Plan
from sparseml.recipe.unknown import SUFFIX, unknown_modifier, unknown_property

_REGISTRY: Final = Path(__file__).parents[1] / "modifiers" / "registry.py"


def check(plan: Plan) -> None:
    """Check the names in a recipe; values are left to `modifiers.registry.build`.

    Raises:
        RecipeError: as `build` would say it.
    """
    known = modifiers()
    for spec in plan.modifiers:
        fields = known.get(spec.tag)
        if fields is None:
            raise RecipeError(unknown_modifier(spec.tag, known), plan.source, spec.line)
        for name in spec.fields:
            if name not in fields:
                text = unknown_property(spec.tag, name, fields, spec.fields)
                raise RecipeError(text, plan.source, spec.field_lines.get(name, spec.line))


def modifiers() -> dict[str, list[str]]:
    """The modifiers that exist, and their properties."""
    found = imported_classes(_REGISTRY, SUFFIX)
    return {name: all_fields(path, name) for name, path in found.items() if name != SUFFIX}
