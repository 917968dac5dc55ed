"""Names that columns of texts usually have: found again in prediction as they were in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

PAIRS: Final = (
    ("sentence1", "sentence2"),
    ("sentence_A", "sentence_B"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("text", "text_pair"),
)
"""Pairs that datasets use, the most specific first; the first of each is also what a model reads first."""

TEXTS: Final = (
    "text",
    "sentence",
    "content",
    "review",
    "tweet",
    "comment",
    "document",
    "message",
    "question",
    "query",
    "utterance",
    "review_text",
    "reviewtext",
    "tweet_text",
)
"""Single columns, the commonest first."""


def by_name(usual: Sequence[str], available: Sequence[str]) -> str | None:
    """The first usual name that a column has, its case apart; the column's own name, None where there is none."""
    by_folded = {name.strip().lower(): name for name in reversed(available)}
    return next((by_folded[name.lower()] for name in usual if name.lower() in by_folded), None)
