"""Recipes, modifiers and sparse transfer learning for text classification."""

from resparse import __version__
from resparse.errors import refuse_foreign

refuse_foreign("sparseml")

__all__ = ["__version__"]
