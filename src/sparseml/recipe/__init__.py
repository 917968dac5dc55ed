"""Recipes: text to an evaluated plan, and back."""

from __future__ import annotations

from sparseml.recipe.load import load_plan
from sparseml.recipe.plan import ModifierSpec, Plan, compose
from sparseml.recipe.source import RecipeError

__all__ = ["ModifierSpec", "Plan", "RecipeError", "compose", "load_plan"]
