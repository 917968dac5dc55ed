"""The model card of a trained folder: README.md in the Hub's format, for any task."""

from sparseml.model_card.card import CARD, is_ours, write
from sparseml.model_card.subject import Subject

__all__ = ["CARD", "Subject", "is_ours", "write"]
