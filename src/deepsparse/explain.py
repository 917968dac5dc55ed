"""Why a text got its label: each word is taken out in turn, and the drop of the label's score is the word's weight.

This is occlusion (Zeiler and Fergus 2014, arXiv:1311.2901), of text also called erasure (Li et al. 2016,
arXiv:1612.08220). It needs nothing but answers, so it explains what is deployed: int8, pruned, through any engine.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from deepsparse.deployment import TOKENIZER_CONFIG, Deployment, read_json
from deepsparse.errors import EngineError, InputError
from deepsparse.pipeline import Pipeline
from deepsparse.tasks.base import Row, Task
from deepsparse.words import Span, without, words_of
from resparse.arrays import Array
from resparse.errors import did_you_mean

REMOVE: Final = "remove"
MASK: Final = "mask"
WAYS: Final = (REMOVE, MASK)

MOST_ANSWERS: Final = 256
"""Texts that the model answers for one explanation, at most; a text of more words is explained by spans of them."""

# For very long texts there are fewer: so many words in all the texts that are answered, and never fewer answers.
_WORDS = 1 << 17
_FEWEST = 32
# Into how many parts a span is cut whose weight is looked at more closely.
_PARTS = 8


@dataclass(frozen=True)
class Weight:
    """What a part of a text does for a label.

    Attributes:
        text: 0, or 1 in the second text of a pair.
        start, end: its first character, and the one behind its last.
        words: how many it consists of.
        word: the part itself.
        drop: of the label's score, without this part; below 0, the part speaks against the label.
        evidence: the same of the score's log odds (of a regression, of the value), which do not saturate: near a score
            of 1 no single word may move the score, and still some matter more than others.
    """

    text: int
    start: int
    end: int
    words: int
    word: str
    drop: float
    evidence: float


@dataclass(frozen=True)
class Explanation:
    """Which parts of a text moved its label.

    Attributes:
        texts: one, or two of a pair.
        label: what is explained: by default the best one.
        score: of the label.
        parts: all words, in order; of a long text, spans of words where they matter little.
        occluded: how parts were left out: "remove" or "mask".
        answers: texts that the model answered for this.
    """

    texts: tuple[str, ...]
    label: str
    score: float
    parts: list[Weight]
    occluded: str
    answers: int

    def strongest(self, count: int | None = None) -> list[Weight]:
        """The parts that moved the label most, either way, the strongest first."""
        return sorted(self.parts, key=lambda part: -abs(part.evidence))[:count]

    def as_json(self, top_k: int | None = None) -> dict[str, Any]:
        """For JSON: all of it, with the strongest `top_k` parts under "strongest" where they are asked for."""
        strongest = {"strongest": [asdict(part) for part in self.strongest(top_k)]} if top_k else {}
        return {**asdict(self), **strongest}


def explain(
    pipeline: Pipeline[Any, Any], row: Row, *, label: str | None = None, occluded: str = REMOVE
) -> Explanation:
    """Which words moved the label of a text, or of a pair of texts.

    Args:
        pipeline: a text classifier.
        row: the text or pair.
        label: the one to explain; None: the best.
        occluded: "remove" takes words out; "mask" puts the tokenizer's mask token there, so that others keep their
            places.

    Raises:
        InputError: an unknown label; no words.
        EngineError: the model has no labels, or its tokenizer no mask token.
    """
    steps = explaining(pipeline.handler, row, label, occluded)
    asked = next(steps)
    while True:
        try:
            asked = steps.send(pipeline.run(asked).arrays["logits"])
        except StopIteration as done:
            explanation: Explanation = done.value
            return explanation


def explaining(
    task: Task[Any, Any], row: Row, label: str | None = None, occluded: str = REMOVE
) -> Generator[list[Row], Array, Explanation]:
    """As `explain`; yields the rows that are to be answered, and is sent their logits, (rows, labels)."""
    labels = task.label_set
    if labels is None:
        raise EngineError(f"A {task.noun} is not explained: only what gives a text labels is.")
    if label is not None and label not in labels.names:
        raise InputError(f"The model has no label {label!r:.60}. {did_you_mean(label[:60], labels.names)}")
    put = _mask_token(task.deployment) if occluded == MASK else ""
    texts = (row,) if isinstance(row, str) else tuple(row)
    words = [(text, span) for text, whole in enumerate(texts) for span in words_of(whole)]
    if not words:
        raise InputError("The text holds no words: there is nothing to explain.")
    logits = yield [row]
    chosen = labels.names.index(label) if label is not None else int(labels.scores(logits)[0].argmax())
    parts = _Parts(texts, words, put)
    base = _measured(labels, logits, chosen)[0]
    answers = 1
    for asked in parts.rounds(max(_FEWEST, min(MOST_ANSWERS, _WORDS // len(words)))):
        logits = yield [parts.without(part) for part in asked]
        answers += len(asked)
        parts.note(asked, base - _measured(labels, logits, chosen))
    return Explanation(texts, labels.names[chosen], float(base[0]), parts.weights(), occluded, answers)


Part = tuple[int, int]
"""The first of the words that a part of the texts consists of, and the one behind the last."""


class _Parts:
    """The words of a row in parts, and what each part does; parts are cut further while answers are left.

    Args:
        texts: one or two.
        words: of all texts in order, each with its text.
        put: what stands in the place of a word that is left out.
    """

    def __init__(self, texts: tuple[str, ...], words: Sequence[tuple[int, Span]], put: str) -> None:
        self._texts = texts
        self._words = words
        self._put = put
        self._found: dict[Part, Array] = {}

    def rounds(self, most: int) -> Iterator[list[Part]]:
        """Parts to be looked at, round by round, `most` in all: first all words in parts, then the strongest's parts.

        `note` is to be called after each.
        """
        # Where not all words can be looked at one by one, half of the answers are for the whole text.
        first = len(self._words) if len(self._words) <= most else most // 2
        asked = [part for text in self._by_text() for part in _cut(text, self._share(text, first))]
        left = most
        while asked:
            yield asked
            left -= len(asked)
            asked = self._next(left)

    def _by_text(self) -> list[Part]:
        """The words of each text that has any."""
        bounds = [0, sum(text == 0 for text, _ in self._words), len(self._words)]
        return [(start, end) for start, end in itertools.pairwise(bounds) if end > start]

    def _share(self, text: Part, count: int) -> int:
        return max(1, count * (text[1] - text[0]) // len(self._words))

    def _next(self, left: int) -> list[Part]:
        """The parts of the strongest parts of several words; as many of them as a round may have."""
        several = [part for part in self._found if part[1] - part[0] > 1]
        several.sort(key=lambda part: -abs(float(self._found[part][1])))
        asked: list[Part] = []
        for part in several:
            pieces = _cut(part, _PARTS)
            # Half of what is left: later rounds look at what this one finds.
            if len(asked) + len(pieces) > max(left // 2, _PARTS) or len(asked) + len(pieces) > left:
                break
            asked += pieces
            del self._found[part]
        return asked

    def without(self, part: Part) -> Row:
        """The row without a part."""
        texts = list(self._texts)
        chosen = self._words[slice(*part)]
        place = chosen[0][0]
        # What is between the words of a part goes with them.
        spans = [span for _, span in chosen] if self._put else [(chosen[0][1][0], chosen[-1][1][1])]
        texts[place] = without(texts[place], spans, self._put)
        return texts[0] if len(texts) == 1 else (texts[0], texts[1])

    def note(self, parts: Sequence[Part], drops: Array) -> None:
        """Take what was found of parts, (parts, 2): drops of the score, and of its log odds."""
        self._found.update(zip(parts, drops, strict=True))

    def weights(self) -> list[Weight]:
        """All parts in the order of the texts."""
        weights = []
        for first, last in sorted(self._found):
            (text, (start, _)), (_, (_, end)) = self._words[first], self._words[last - 1]
            drop, evidence = map(float, self._found[first, last])
            word = self._texts[text][start:end]
            weights.append(Weight(text, start, end, last - first, word, drop, evidence))
        return weights


def _cut(part: Part, count: int) -> list[Part]:
    """A part in `count` parts of about the same number of words, or in single words where it has fewer."""
    first, last = part
    count = min(count, last - first)
    bounds = [first + (last - first) * index // count for index in range(count + 1)]
    return list(itertools.pairwise(bounds))


def _measured(labels: Any, logits: Array, chosen: int) -> Array:
    """The score of a label and its log odds, (rows, 2), from (rows, labels) logits."""
    scores = labels.scores(logits)[:, chosen].astype(np.float64)
    if labels.problem == "regression":
        return np.stack([scores, scores], axis=1)
    scaled = labels.confidence.scaled(logits).astype(np.float64)
    odds = scaled[:, chosen]
    if labels.problem == "single_label_classification" and scaled.shape[1] > 1:
        odds = odds - np.logaddexp.reduce(np.delete(scaled, chosen, axis=1), axis=1)
    return np.stack([scores, odds], axis=1)


def _mask_token(deployment: Deployment) -> str:
    path = deployment.folder / TOKENIZER_CONFIG
    token = read_json(path, "").get("mask_token") if path.is_file() else None
    token = token.get("content") if isinstance(token, dict) else token
    if not isinstance(token, str) or not token:
        raise EngineError(
            f"{path} names no mask token to put in the place of words: take words out instead (remove)."
        )
    return token
