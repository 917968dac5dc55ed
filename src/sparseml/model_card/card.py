"""Writes the card of a folder, and leaves a card alone that somebody else has written or edited."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from resparse.files import write_text
from sparseml.model_card.metadata import metadata
from sparseml.model_card.origin import Origin
from sparseml.model_card.text import text

CARD = "README.md"
_MARK = re.compile(r"\n<!-- resparse wrote this card ([0-9a-f]{16}); edited, it is yours and stays -->\n\Z")


@dataclass(frozen=True)
class Subject:
    """What a card is about.

    Attributes:
        name: of the model.
        address: what loads it: a Hub id or a folder.
        usage: commands that use it, a line each.
        pipeline_tag: the Hub's name of the task; None where it has none.
        report: as in `report.json`; `metrics`, `totals`, `layers`, `model`, `command` and `versions` are used, and
            `data`, `start` and `export` where they are there.
        data_name: of the data, for people.
        datasets: ids on the Hub.
        origin: what is known of the start.
        recipe: text of the evaluated recipe.
    """

    name: str
    address: str
    usage: Sequence[str]
    pipeline_tag: str | None
    report: Mapping[str, Any]
    data_name: str
    datasets: tuple[str, ...] = ()
    origin: Origin = field(default_factory=Origin)
    recipe: str | None = None


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
