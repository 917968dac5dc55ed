"""Questions on made-up passages with a known answer, in the form of SQuAD 2.0.

There is no small real sample of SQuAD in the package registries, so the rows are synthetic: each passage tells of some
people, in sentences of several wordings and in random order, and a question asks for one of the facts in words that the
passage mostly does not use. To answer it, the model has to find the right person and the right fact among others of
its kind. A third of the questions ask for a fact that the passage does not tell.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FIRST = [
    "Anna",
    "Boris",
    "Clara",
    "David",
    "Elena",
    "Felix",
    "Greta",
    "Hugo",
    "Irene",
    "Jonas",
    "Karla",
    "Leo",
    "Mara",
    "Nils",
    "Olga",
    "Paul",
    "Rosa",
    "Simon",
    "Tilda",
    "Victor",
]
_LAST = [
    "Abel",
    "Berg",
    "Costa",
    "Dorn",
    "Eriksen",
    "Farrow",
    "Grant",
    "Hale",
    "Ivers",
    "Jensen",
    "Keller",
    "Lund",
    "Moreau",
    "Novak",
    "Ortiz",
    "Park",
    "Quist",
]
_TOWNS = [
    "Lisbon",
    "Prague",
    "Oslo",
    "Turin",
    "Ghent",
    "Basel",
    "Krakow",
    "Dublin",
    "Malmo",
    "Porto",
    "Graz",
    "Leeds",
    "Bergen",
    "Lyon",
    "Seville",
    "Utrecht",
    "Tampere",
    "Bath",
]
_WORK = [
    "a nurse",
    "a baker",
    "a pilot",
    "a teacher",
    "a judge",
    "a painter",
    "a farmer",
    "a chemist",
    "a tailor",
    "a sailor",
    "an engineer",
    "a librarian",
]
_HOBBIES = [
    "chess",
    "sailing",
    "pottery",
    "gardening",
    "photography",
    "cycling",
    "fencing",
    "opera",
    "astronomy",
    "knitting",
    "rowing",
    "cooking",
]


@dataclass(frozen=True)
class Fact:
    """A kind of fact: its values, how a passage tells it, and how it is asked for."""

    values: tuple[str, ...]
    told: tuple[str, ...]
    asked: tuple[str, ...]


FACTS = {
    "town": Fact(
        tuple(_TOWNS),
        (
            "{name} grew up in {value}.",
            "{name} comes from {value}.",
            "The family of {name} lived in {value}.",
        ),
        (
            "Where was {name} born?",
            "Which town is {name} from?",
            "In which city did {name} spend a childhood?",
        ),
    ),
    "work": Fact(
        tuple(_WORK),
        ("{name} works as {value}.", "{name} earns a living as {value}.", "By trade {name} is {value}."),
        ("What is the job of {name}?", "What does {name} do for a living?", "Which profession has {name}?"),
    ),
    "hobby": Fact(
        tuple(_HOBBIES),
        (
            "{name} likes {value}.",
            "In the evenings {name} enjoys {value}.",
            "{name} has a passion for {value}.",
        ),
        ("What is the hobby of {name}?", "How does {name} spend free time?", "What is {name} fond of?"),
    ),
    "year": Fact(
        tuple(map(str, range(1931, 1999))),
        ("{name} married in {value}.", "The wedding of {name} was in {value}.", "{name} was wed in {value}."),
        (
            "When did {name} get married?",
            "In what year was the wedding of {name}?",
            "When was the marriage of {name}?",
        ),
    ),
}


def rows(count: int, seed: int, people: int = 2) -> list[dict[str, Any]]:
    """Questions, each with a passage of its own about so many people."""
    source = random.Random(seed)
    return [_row(source, f"s{seed}-{number}", people) for number in range(count)]


def _row(source: random.Random, name: str, people: int) -> dict[str, Any]:
    firsts = source.sample(_FIRST, people)
    known = {f"{first} {source.choice(_LAST)}": source.sample(list(FACTS), 3) for first in firsts}
    sentences, values = [], {}
    for person, kinds in known.items():
        for kind in kinds:
            value = source.choice(FACTS[kind].values)
            values[person, kind] = value
            sentences.append(source.choice(FACTS[kind].told).format(name=person, value=value))
    source.shuffle(sentences)
    context = " ".join(sentences)
    person = source.choice(list(known))
    untold = next(kind for kind in FACTS if kind not in known[person])
    kind = untold if source.random() < 1 / 3 else source.choice(known[person])
    answer = values.get((person, kind))
    answers = []
    if answer is not None:
        sentence = next(one for one in sentences if person in one and answer in one)
        start = context.index(sentence) + sentence.rindex(answer)
        answers = [{"text": answer, "answer_start": start}]
    question = source.choice(FACTS[kind].asked).format(name=person)
    return {"id": name, "context": context, "question": question, "answers": answers}


def write(path: Path, count: int, seed: int) -> Path:
    """A file of SQuAD 2.0."""
    paragraphs = [
        {
            "context": row["context"],
            "qas": [
                {
                    "id": row["id"],
                    "question": row["question"],
                    "answers": row["answers"],
                    "is_impossible": not row["answers"],
                }
            ],
        }
        for row in rows(count, seed)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "People", "paragraphs": paragraphs}]}))
    return path
