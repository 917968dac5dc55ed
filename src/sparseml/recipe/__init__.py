"""Recipes: text to an evaluated plan, and back."""

from __future__ import annotations

from sparseml.recipe.errors import RecipeError
from sparseml.recipe.load import load_plan
from sparseml.recipe.plan import ModifierSpec, Plan
from sparseml.recipe.stages import compose

__all__ = ["ModifierSpec", "Plan", "RecipeError", "compose", "load_plan"]
