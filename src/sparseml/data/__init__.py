"""Data sets: found, read, checked, split and encoded; today for text classification."""

from sparseml.data.columns import Columns
from sparseml.data.encode import tokenize
from sparseml.data.label_encoding import Labels
from sparseml.data.rows import DataError
from sparseml.data.sources import DataOptions
from sparseml.data.text_classification import TextData, load_text_data

__all__ = ["Columns", "DataError", "DataOptions", "Labels", "TextData", "load_text_data", "tokenize"]
