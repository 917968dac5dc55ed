"""The summary of a guided run that answers questions: what the exported model gets right, and what it gets wrong."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final

from resparse.arrays import Array
from resparse.progress import track
from sparseml.data.rows import rows_text
from sparseml.guided.summary_text import next_commands, paragraphs, size_and_speed
from sparseml.span_metrics import Answered, exact_match, f1, mistakes, scores

_WINDOW: Final = 256
_SHOWN: Final = 3
_LONGEST: Final = 120
_KINDS: Final = {
    "exact": "as they should be",
    "partly": "with some of the right words",
    "wrong": "with none of them",
    "missed": "said to have no answer, and have one",
    "invented": "answered, and have no answer",
}


def facts(pipeline: Any, texts: Sequence[tuple[str, ...]], truth: Array) -> dict[str, Any]:
    """Scores, counts and the surest mistakes of a deployed model.

    Args:
        texts: questions with their passages.
        truth: the right answers of each, none where it has none.
    """
    windows = [list(texts[start : start + _WINDOW]) for start in range(0, len(texts), _WINDOW)]
    said = [
        answer
        for window in track(windows, "asking the exported model")
        for answer in pipeline.predict(window)
    ]
    version_2 = pipeline.handler.reading.version_2_with_negative
    rows = []
    for answer, gold in zip(said, truth, strict=True):
        best = answer.decision.best_span
        words = "" if best is None else answer.context[best.start : best.end]
        rows.append(Answered(list(gold), answer.answer, words, answer.decision.null_odds))
    wrong = []
    for (question, _), answer, row in zip(texts, said, rows, strict=True):
        if not row.score(f1, row.predicted, version_2):
            sure = next(
                one.probability
                for one in answer.decision.candidates
                if one.start == answer.start and one.end == answer.end
            )
            wrong.append({"question": question, "gold": list(row.gold), "said": row.predicted, "sure": sure})
    found = scores(rows, version_2)
    return {
        "kind": "question_answering",
        "rows": len(rows),
        "scores": found,
        "counts": mistakes(rows, version_2),
        "wrong": sorted(wrong, key=lambda one: -one["sure"])[:_SHOWN],
        "always_silent": 100.0 * sum(row.score(exact_match, "", version_2) for row in rows) / len(rows),
    }


def lines(facts: Mapping[str, Any], width: int) -> list[str]:
    """The lines of the summary, of at most `width` characters."""
    answers = facts["answers"]
    found, total = answers["scores"], answers["rows"]
    exact = found.get("exact_match", found.get("exact"))
    title = f"{facts['name']}: answers from a passage, learned from {rows_text(facts['train_rows'])}"
    score = [f"F1 {found['f1']:.1f} %, exact {exact:.1f} %, on {rows_text(total)} ({facts['rows_called']})"]
    if answers["always_silent"] > 0:
        score.append(f"Never answering would reach {answers['always_silent']:.1f} %.")
    counts = [(count, _KINDS[kind]) for kind, count in answers["counts"].items() if count or kind == "exact"]
    left = max(len(f"{count:,}") for count, _ in counts)
    table = [f"{count:>{left},}  {count / total:6.1%}  {what}" for count, what in counts]
    return paragraphs(
        [[title], score, table, size_and_speed(facts), _examples(answers, width), next_commands(facts)]
    )


def _examples(answers: Mapping[str, Any], width: int) -> list[str]:
    if not answers["wrong"]:
        return [f"None of {rows_text(answers['rows'])} is all wrong: try it on questions that are harder."]
    rendered = ["surest mistakes:"]
    for entry in answers["wrong"]:
        question = textwrap.shorten(entry["question"], _LONGEST, placeholder=" ...")
        gold = textwrap.shorten(
            " or ".join(dict.fromkeys(entry["gold"])) or "no answer", _LONGEST, placeholder=" ..."
        )
        said = textwrap.shorten(entry["said"] or "no answer", _LONGEST, placeholder=" ...")
        rendered += textwrap.wrap(f'"{question}"', width - 2, initial_indent="  ", subsequent_indent="   ")
        verdict = textwrap.wrap(f"is {gold}; said {said} ({entry['sure']:.0%} sure)", width - 4)
        rendered += [f"    {line}" for line in verdict]
    return rendered
