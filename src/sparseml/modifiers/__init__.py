"""The algorithms of a recipe: one file each, one list (`registry.py`), one page on the loop (`base.py`)."""

from sparseml.modifiers.base import Clock, Modifier, ModifierError, Run
from sparseml.modifiers.registry import MODIFIERS, build

__all__ = ["MODIFIERS", "Clock", "Modifier", "ModifierError", "Run", "build"]
