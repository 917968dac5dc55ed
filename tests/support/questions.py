"""Questions on short passages whose answers a tiny model learns: which good, or which bad, word stands there."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support import tiny

QUESTIONS = {"lovely ?": tiny.GOOD, "awful ?": tiny.BAD}
WORDS = [*tiny.WORDS, "?", "."]


def rows(count: int, seed: int = 0, *, unanswerable: bool = True, words: int = 12) -> list[dict[str, Any]]:
    """Rows in the flat form of the Hub's SQuAD; a fourth of the questions has no answer where that is allowed."""
    source = random.Random(seed)
    found = []
    for number in range(count):
        question = source.choice(list(QUESTIONS))
        passage = source.choices(tiny.PLAIN, k=source.randint(4, words))
        answers: dict[str, list[Any]] = {"text": [], "answer_start": []}
        if not unanswerable or number % 4:
            answer, place = source.choice(QUESTIONS[question]), source.randrange(len(passage))
            passage.insert(place, answer)
            answers = {"text": [answer], "answer_start": [len(" ".join([*passage[:place], ""]))]}
        context = " ".join(passage)
        found.append(
            {"id": f"q{seed}-{number}", "question": question, "context": context, "answers": answers}
        )
    return found


def squad(found: Sequence[dict[str, Any]], version_2: bool = True) -> dict[str, Any]:
    """Rows in the form of SQuAD's files, an article of two paragraphs at a time."""
    paragraphs = []
    for row in found:
        answers = [
            {"text": text, "answer_start": start}
            for text, start in zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True)
        ]
        question: dict[str, Any] = {"id": row["id"], "question": row["question"], "answers": answers}
        if version_2:
            question["is_impossible"] = not answers
        paragraphs.append({"context": row["context"], "qas": [question]})
    articles = [
        {"title": "Words", "paragraphs": paragraphs[start : start + 2]} for start in range(0, len(found), 2)
    ]
    return {"version": "v2.0" if version_2 else "1.1", "data": articles}


def write(path: Path, found: Sequence[dict[str, Any]], version_2: bool = True) -> Path:
    """Rows as a file of SQuAD."""
    path.write_text(json.dumps(squad(found, version_2)))
    return path
