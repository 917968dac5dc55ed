"""Tagged words that a tiny model learns: good and bad words are entities, of one word or of two that follow another.

Some words have two tokens. Words that begin an entity are other ones than those that continue it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

from support import tiny

Row = tuple[list[str], list[str]]
"""Words and their tags in IOB2."""

NAMES = ("O", "B-BAD", "I-BAD", "B-GOOD", "I-GOOD")
WORDS = [*tiny.WORDS, "##s", "."]
_KINDS = {"GOOD": tiny.GOOD, "BAD": tiny.BAD}


def rows(count: int, seed: int = 0, words: int = 10) -> list[Row]:
    """Sentences with two entities each, between plain words, of which some are plural: film + ##s."""
    source = random.Random(seed)
    found = []
    for _ in range(count):
        texts, tags = [], []
        for kind in source.choices(list(_KINDS), k=2):
            for _ in range(source.randint(1, words // 2)):
                texts.append(source.choice(tiny.PLAIN) + source.choice(("", "", "s")))
                tags.append("O")
            for place in range(source.randint(1, 2)):
                half = _KINDS[kind][3:] if place else _KINDS[kind][:3]
                texts.append(source.choice(half) + source.choice(("", "s")))
                tags.append(f"{'I' if place else 'B'}-{kind}")
        texts.append(".")
        tags.append("O")
        found.append((texts, tags))
    return found


def conll(found: Sequence[Row], mark: str = "\t") -> str:
    """Rows as a column file."""
    return "\n\n".join(
        "\n".join(f"{word}{mark}{tag}" for word, tag in zip(*row, strict=True)) for row in found
    )


def write(path: Path, found: Sequence[Row]) -> Path:
    """Rows as a column file, JSON Lines or CSV by the ending."""
    if path.suffix == ".jsonl":
        lines = (json.dumps({"tokens": words, "ner_tags": tags}) for words, tags in found)
        path.write_text("\n".join(lines))
    elif path.suffix == ".csv":
        tiny.write(path, [{"text": " ".join(words), "tags": " ".join(tags)} for words, tags in found])
    else:
        path.write_text(conll(found))
    return path
