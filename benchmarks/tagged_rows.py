"""Made-up sentences with named entities whose tags are known: names of syllables, in templates.

Validation has other names than training, so that words alone do not tell; the words around them do. A title or a
preposition tells people from places, and some names are of either kind. Scores say that a model has learned and that
nothing is lost on its way to an engine, not how good it is at CoNLL-2003.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

_SYLLABLES = (
    "ba",
    "dor",
    "el",
    "fin",
    "gra",
    "hol",
    "ka",
    "lin",
    "mer",
    "no",
    "pel",
    "ros",
    "sta",
    "tor",
    "ven",
    "wil",
)
_FORMS = {
    "PER": ("", "son", "a"),
    "LOC": ("ville", "ton", ""),
    "ORG": ("soft", "corp", ""),
    "MISC": ("ish", "ian"),
}
_TEMPLATES = (
    "PER flew to LOC on Monday .",
    "The shares of ORG fell after PER resigned .",
    "PER , who leads ORG , was born in LOC .",
    "In LOC , the MISC team lost to LOC .",
    "ORG opened an office in LOC .",
    "A MISC court fined ORG in LOC last week .",
    "President PER met PER in LOC .",
    "PER said that ORG would leave LOC .",
    "The MISC government denied what PER of ORG had said .",
    "It rained in LOC , and nobody came .",
    "The talks ended without a result .",
)


def rows(count: int, seed: int) -> list[tuple[list[str], list[str]]]:
    """Words and tags in IOB2; other seeds have other names."""
    source = random.Random(seed)
    stems = ["".join(source.choices(_SYLLABLES, k=source.choice((2, 3)))) for _ in range(count)]
    found = []
    for _ in range(count):
        words: list[str] = []
        tags: list[str] = []
        for sentence in source.choices(_TEMPLATES, k=source.choice((1, 1, 2))):
            for word in sentence.split():
                if word not in _FORMS:
                    words.append(word)
                    tags.append("O")
                    continue
                length = 1 if word == "MISC" else source.choice((1, 1, 2))
                for place in range(length):
                    words.append((source.choice(stems) + source.choice(_FORMS[word])).capitalize())
                    tags.append(f"{'I' if place else 'B'}-{word}")
        found.append((words, tags))
    return found


def write(path: Path, count: int, seed: int) -> None:
    """Rows as JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"tokens": words, "ner_tags": tags}) for words, tags in rows(count, seed))
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
