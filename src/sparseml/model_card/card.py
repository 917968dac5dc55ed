"""Writes the card of a folder, and leaves a card alone that somebody else has written or edited."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from huggingface_hub import ModelCard

from resparse.files import write_text
from sparseml.model_card.metadata import metadata
from sparseml.model_card.subject import Subject
from sparseml.model_card.text import text

CARD = "README.md"
_MARK = re.compile(r"\n<!-- resparse wrote this card ([0-9a-f]{16}); edited, it is yours and stays -->\n\Z")


def write(folder: Path, subject: Subject) -> bool:
    """Write README.md whole, unless there is one that is not as we wrote it.

    Returns:
        Whether it was written.

    Raises:
        WriteError: the folder cannot be written.
    """
    path = folder / CARD
    if path.exists() and not is_ours(path.read_text(encoding="utf-8", errors="replace")):
        return False
    write_text(path, card(subject))
    return True


def card(subject: Subject) -> str:
    """The whole text of a card, with the mark by which it is recognized."""
    body = str(ModelCard(f"---\n{metadata(subject).to_yaml()}\n---\n\n{text(subject)}"))
    return f"{body}\n<!-- resparse wrote this card {_digest(body)}; edited, it is yours and stays -->\n"


def is_ours(content: str) -> bool:
    """Whether a card is as `card` made it."""
    mark = _MARK.search(content)
    return mark is not None and mark.group(1) == _digest(content[: mark.start()])


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]
