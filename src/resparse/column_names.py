"""Usual names of text columns, the same for training and prediction."""

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
"""Pairs of columns, the most specific first; in the order in which a model reads them."""

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


QUESTIONS: Final = ("question", "query")
CONTEXTS: Final = ("context", "passage", "paragraph", "document", "text")
ANSWERS: Final = ("answers", "answer", "answer_text")
ANSWER_STARTS: Final = ("answer_start", "answer_starts", "start")
"""Columns of questions about a passage."""

WORDS: Final = ("tokens", "words", "token", "word")
TAGS: Final = ("ner_tags", "tags", "ner", "labels", "label", "entities", "pos_tags", "chunk_tags")
"""Columns of words and of their tags, a list in each row."""


def by_name(usual: Sequence[str], available: Sequence[str]) -> str | None:
    """The first column with one of the usual names, in their order, ignoring case; None where there is none."""
    by_folded = {name.strip().lower(): name for name in reversed(available)}
    return next((by_folded[name.lower()] for name in usual if name.lower() in by_folded), None)


def header_names(fields: Sequence[str]) -> list[str]:
    """The names of a header's columns; those without one are called "Unnamed: 0", ... by their places.

    pandas writes its index under an empty name, and reads it back under that one: written again, a file has both.
    """
    names = [name.strip() for name in fields]
    taken = set(names)
    for place, name in enumerate(names):
        if not name:
            chosen = f"Unnamed: {place}"
            while chosen in taken:
                chosen += ".1"
            taken.add(chosen)
            names[place] = chosen
    return names
