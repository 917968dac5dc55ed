"""Exact match and F1 of answers by the rules of SQuAD 1.1 and 2.0, and the best threshold for "no answer".

Rajpurkar et al. 2016 (arXiv:1606.05250, section 6.1) and 2018 (arXiv:1806.03822, section 5). Answers are compared
without case, punctuation, articles and spaces; of several gold answers the one that fits best counts. All values are
percentages, as they are published.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from resparse.arrays import Array

_ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(answer: str) -> str:
    """An answer in lower case, without ASCII punctuation, English articles and superfluous spaces."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact_match(predicted: str, gold: str) -> float:
    """1.0 where two answers are the same once normalized, else 0.0."""
    return float(normalize(predicted) == normalize(gold))


def f1(predicted: str, gold: str) -> float:
    """The harmonic mean of precision and recall of the words of a prediction, each counted as often as it stands there.

    Where either has no word, 1.0 if neither has one.
    """
    ours, theirs = normalize(predicted).split(), normalize(gold).split()
    if not ours or not theirs:
        return float(ours == theirs)
    common = sum((Counter(ours) & Counter(theirs)).values())
    return 2.0 * common / (len(ours) + len(theirs))


@dataclass(frozen=True)
class Answered:
    """A question, and what was said to it.

    Attributes:
        gold: its right answers; none where it has no answer.
        predicted: what was said, "" for no answer.
        best_span: what is said where an answer has to be given.
        null_odds: how far "no answer" was preferred to that.
    """

    gold: Sequence[str]
    predicted: str
    best_span: str = ""
    null_odds: float | None = None

    def score(self, measure: Callable[[str, str], float], said: str, version_2: bool = True) -> float:
        """The score of something said, by the gold answer that it fits best.

        SQuAD 2.0 passes over gold answers of which nothing is left once they are normalized.
        """
        wanted = [gold for gold in self.gold if normalize(gold)] if version_2 else self.gold
        return max(measure(said, gold) for gold in wanted or [""])

    @property
    def has_answer(self) -> bool:
        return bool(self.gold)


def scores(rows: Sequence[Answered], version_2: bool) -> dict[str, float]:
    """The metrics of the official scripts, under their names.

    SQuAD 1.1: exact_match and f1. SQuAD 2.0: exact, f1 and total; the same of the questions with an answer (HasAns_)
    and of those without (NoAns_), where there are any; and the best that a threshold on the null odds would reach
    (best_exact, best_f1), with that threshold (`null_score_diff_threshold`).

    Args:
        rows: one or more; of SQuAD 2.0 with their null odds.
        version_2: whether questions may have no answer.
    """
    exact = np.asarray([row.score(exact_match, row.predicted, version_2) for row in rows])
    words = np.asarray([row.score(f1, row.predicted, version_2) for row in rows])
    if not version_2:
        return {"exact_match": _percent(exact), "f1": _percent(words)}
    found = {"exact": _percent(exact), "f1": _percent(words), "total": float(len(rows))}
    has_answer = np.asarray([row.has_answer for row in rows])
    for prefix, chosen in (("HasAns", has_answer), ("NoAns", ~has_answer)):
        if chosen.any():
            found[f"{prefix}_exact"] = _percent(exact[chosen])
            found[f"{prefix}_f1"] = _percent(words[chosen])
            found[f"{prefix}_total"] = float(chosen.sum())
    if all(row.null_odds is not None for row in rows):
        for name, measure in (("exact", exact_match), ("f1", f1)):
            found[f"best_{name}"], found[f"best_{name}_thresh"] = best_threshold(rows, measure)
    return found


def best_threshold(rows: Sequence[Answered], measure: Callable[[str, str], float]) -> tuple[float, float]:
    """The best score [%] that "answer where the null odds are at most the threshold" reaches, and the threshold.

    Of equally good thresholds the lowest. Where silence is best for every question, it is below the lowest odds.
    """
    odds = np.asarray([row.null_odds for row in rows], np.float64)
    spoken = np.asarray([row.score(measure, row.best_span) for row in rows])
    silent = np.asarray([row.score(measure, "") for row in rows])
    order = np.argsort(odds, kind="stable")
    totals = silent.sum() + np.concatenate([[0.0], np.cumsum((spoken - silent)[order])])
    # A threshold cannot tell equal odds apart.
    ends = np.flatnonzero(np.append(np.diff(odds[order]) > 0, True)) + 1
    places = np.concatenate([[0], ends[np.isfinite(odds[order][ends - 1])]])
    best = int(places[np.argmax(totals[places])])
    lowest = float(odds[order][0])
    threshold = float(odds[order][best - 1]) if best else (lowest - 1.0 if np.isfinite(lowest) else 0.0)
    return 100.0 * float(totals[best]) / len(rows), threshold


def mistakes(rows: Sequence[Answered], version_2: bool) -> dict[str, int]:
    """Of how many questions the answer was right, partly right, wrong, missed or invented; for `report.json`."""
    kinds: Counter[str] = Counter(
        dict.fromkeys(("exact", "partly", "wrong", *(("missed", "invented") if version_2 else ())), 0)
    )
    kinds.update(_kind(row, version_2) for row in rows)
    return dict(kinds)


def _kind(row: Answered, version_2: bool) -> str:
    if row.score(exact_match, row.predicted, version_2):
        return "exact"
    if version_2 and not row.predicted:
        return "missed"
    if version_2 and not row.has_answer:
        return "invented"
    return "partly" if row.score(f1, row.predicted, version_2) else "wrong"


def _percent(values: Array) -> float:
    return 100.0 * float(values.mean())
