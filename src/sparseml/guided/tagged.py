"""The summary of a guided run that tags words: the entities that the exported model finds, misses and invents."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final

from resparse.tags import OUTSIDE, entities
from sparseml.data.rows import rows_text
from sparseml.entity_metrics import Tags, by_type, confusions, scores
from sparseml.guided.summary_text import next_commands, paragraphs, size_and_speed

_SHOWN: Final = 3
_MOST_TYPES: Final = 30
_LONGEST: Final = 24
_AROUND: Final = 6


def facts(rows: Sequence[Sequence[str]], gold: Tags, said: Tags) -> dict[str, Any]:
    """Scores, a table of types and some mistakes.

    Args:
        rows: words.
        gold, said: their tags, the right ones and those of the deployed model.
    """
    return {
        "kind": "token_classification",
        "rows": len(rows),
        "words": sum(map(len, rows)),
        "scores": scores(gold, said),
        "outside": sum(tag == OUTSIDE for row in gold for tag in row) / max(sum(map(len, gold)), 1),
        "entities": [{"type": kind, **row} for kind, row in by_type(gold, said).items()],
        "confused": confusions(gold, said)[:5],
        "wrong": _wrong(rows, gold, said),
    }


def _wrong(rows: Sequence[Sequence[str]], gold: Tags, said: Tags) -> list[dict[str, Any]]:
    """The first rows with an entity that was not found, or found where none is, with the words around."""
    found = []
    for words, one, other in zip(rows, gold, said, strict=True):
        real, claimed = set(entities(one)), set(entities(other))
        if real == claimed:
            continue
        entity = min(real ^ claimed, key=lambda each: (each.start, each not in real))
        same = next((each for each in claimed if each.start < entity.end and entity.start < each.end), None)
        first, last = max(0, entity.start - _AROUND), entity.end + _AROUND
        found.append(
            {
                "text": " ".join(words[first:last]),
                "words": " ".join(words[entity.start : entity.end]),
                "type": entity.type if entity in real else None,
                "said": same.type if same is not None else None,
                "said_words": " ".join(words[same.start : same.end]) if same is not None else None,
            }
        )
        if len(found) == _SHOWN:
            break
    return found


def lines(facts: Mapping[str, Any], width: int) -> list[str]:
    """The lines of the summary, of at most `width` characters."""
    answers = facts["answers"]
    found = answers["scores"]
    title = f"{facts['name']}: words tagged, learned from {rows_text(facts['train_rows'])}"
    on = f"on {rows_text(answers['rows'])} ({facts['rows_called']})"
    overall = [
        f"entities  F1 {found['f1']:.1%}, precision {found['precision']:.1%}, recall {found['recall']:.1%}, {on}",
        f"words     {found['accuracy']:.1%} right of {answers['words']:,}; {answers['outside']:.1%} are in no entity",
    ]
    return paragraphs(
        [
            [title],
            overall,
            _types(answers),
            _confused(answers),
            size_and_speed(facts),
            _examples(answers, width),
            next_commands(facts),
        ]
    )


def _types(answers: Mapping[str, Any]) -> list[str]:
    ranked = sorted(answers["entities"], key=lambda row: -row["number"])
    if not ranked:
        return []
    shown = [_shortened(row["type"]) for row in ranked[:_MOST_TYPES]]
    left = max(4, *map(len, shown))
    rendered = [f"{'type':{left}}  {'entities':>8}  precision  recall      F1"]
    for name, row in zip(shown, ranked, strict=False):
        cells = "  ".join(
            f"{row[key]:>{size}.1%}" for key, size in (("precision", 9), ("recall", 6), ("f1", 6))
        )
        rendered.append(f"{name:{left}}  {row['number']:>8,}  {cells}")
    rest = len(ranked) - _MOST_TYPES
    return rendered + ([f"and {rest} rarer ones, in report.json"] if rest > 0 else [])


def _confused(answers: Mapping[str, Any]) -> list[str]:
    pairs = [pair for pair in answers["confused"] if OUTSIDE not in (pair["type"], pair["predicted"])]
    if not pairs:
        return []
    listed = ", ".join(
        f"{_shortened(pair['type'])} for {_shortened(pair['predicted'])} ({pair['words']:,})"
        for pair in pairs
    )
    return [f"words taken for others: {listed}"]


def _examples(answers: Mapping[str, Any], width: int) -> list[str]:
    if not answers["wrong"]:
        return [f"All entities of {rows_text(answers['rows'])} are right: try it on rows that are harder."]
    rendered = ["some mistakes:"]
    for entry in answers["wrong"]:
        rendered += textwrap.wrap(
            f'"{entry["text"]}"', width - 2, initial_indent="  ", subsequent_indent="   "
        )
        rendered += [f"    {line}" for line in textwrap.wrap(_verdict(entry), width - 4)]
    return rendered


def _verdict(entry: Mapping[str, Any]) -> str:
    if entry["type"] is None:
        return f"{entry['words']!r} is no entity of its own; said {entry['said']}"
    if entry["said"] is None:
        return f"{entry['words']!r} is {entry['type']}; said nothing"
    where = "" if entry["said_words"] == entry["words"] else f" of {entry['said_words']!r}"
    return f"{entry['words']!r} is {entry['type']}; said {entry['said']}{where}"


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
