"""The JSON of SQuAD: articles of paragraphs of questions, versions 1.1 and 2.0, to rows; and its flat form."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from resparse.json_text import JsonError, parse_json

_EXAMPLE = (
    '{"data": [{"paragraphs": [{"context": ..., "qas": [{"id": ..., "question": ..., "answers": [...]}]}]}]}'
)


def is_squad(value: Any) -> bool:
    """Whether a JSON value is a file of SQuAD, or of its flat form: an object with a list `data` of objects."""
    if not isinstance(value, dict) or not isinstance(value.get("data"), list):
        return False
    return all(isinstance(entry, dict) for entry in value["data"])


def squad_file(text: str) -> dict[str, Any] | None:
    """The object of a file of SQuAD; None for other texts."""
    with suppress(JsonError):
        # Of JSON Lines the first line is an object of its own, and what follows need not be read.
        first, _, rest = text.lstrip().partition("\n")
        head = None
        with suppress(JsonError):
            head = parse_json(first)
        if head is not None and rest.strip():
            return None
        whole = parse_json(text) if head is None else head
        return whole if is_squad(whole) else None
    return None


def questions(whole: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """A row for each question: id, title, question, context and answers (`text` and `answer_start`, a list each).

    Of questions that are `is_impossible`, the answers are none; `plausible_answers` are left out. Rows of the flat form
    (`data` holds the questions themselves) stay as they are.

    Args:
        whole: what `is_squad` says to be one.
        name: of the file, for errors.

    Raises:
        JsonError: a part of another form, with its place.
    """
    if not any("paragraphs" in article for article in whole["data"]):
        return list(whole["data"])
    return list(_nested(whole["data"], name))


def _nested(articles: list[dict[str, Any]], name: str) -> Iterator[dict[str, Any]]:
    for number, article in enumerate(articles, start=1):
        where = f"{name}, article {number}"
        for place, paragraph in enumerate(_objects(article, "paragraphs", where), start=1):
            here = f"{where}, paragraph {place}"
            if not isinstance(paragraph.get("context"), str):
                raise JsonError(f"{here} has no text in 'context'. Wanted is {_EXAMPLE}.")
            for question in _objects(paragraph, "qas", here):
                yield {
                    "id": question.get("id"),
                    "title": article.get("title"),
                    "question": question.get("question"),
                    "context": paragraph["context"],
                    "answers": _answers(question, here),
                }


def _answers(question: dict[str, Any], where: str) -> dict[str, list[Any]] | None:
    """None where the file does not say, as in a test split."""
    if question.get("is_impossible") is True:
        return {"text": [], "answer_start": []}
    if "answers" not in question:
        return None
    found = _objects(question, "answers", f"{where}, question {question.get('id')}")
    return {
        "text": [answer.get("text") for answer in found],
        "answer_start": [answer.get("answer_start") for answer in found],
    }


def _objects(holder: dict[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    found = holder.get(key)
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise JsonError(f"{where} has no list of objects in {key!r}. Wanted is {_EXAMPLE}.")
    return found
