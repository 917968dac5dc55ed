"""Text classification data: found, read, checked, split and tokenized."""

from sparseml.data.columns import Columns
from sparseml.data.errors import DataError
from sparseml.data.labels import Labels
from sparseml.data.loading import TextData, load_text_data
from sparseml.data.options import DataOptions
from sparseml.data.tokenization import tokenize

__all__ = ["Columns", "DataError", "DataOptions", "Labels", "TextData", "load_text_data", "tokenize"]
