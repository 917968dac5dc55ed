"""Which part of a passage answers a question: the windows that long passages are read in, and the choice of a span.

Training's metrics and predictions, pipelines, files and the server all choose by it. The rules are those of Devlin et
al. 2019 (arXiv:1810.04805, sections 4.2 and 4.3): a span's score is the logit of its first token as a start plus that
of its last token as an end, and "no answer" is the score of the first token, [CLS]. All spans are compared, not only
those of the best starts with the best ends, and a span that several windows hold counts once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

import numpy as np

from resparse.arrays import Array

KEY: Final = "question_answering"
"""The entry of a model's config.json that has a `Reading`."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a passage is read and an answer chosen.

    Attributes:
        max_seq_length: tokens of a window, with the question and special tokens.
        doc_stride: tokens that neighbouring windows of a passage have in common.
        max_question_length: tokens that a question is cut to.
        max_answer_length: tokens of an answer at most.
        n_best_size: candidates that are kept.
        version_2_with_negative: whether "no answer" is an answer, as in SQuAD 2.0.
        null_score_diff_threshold: "no answer" is given where its score is higher than the best span's by more than
            this.
    """

    max_seq_length: int = 384
    doc_stride: int = 128
    max_question_length: int = 64
    max_answer_length: int = 30
    n_best_size: int = 20
    version_2_with_negative: bool = False
    null_score_diff_threshold: float = 0.0

    def __post_init__(self) -> None:
        for entry in fields(self):
            value, least = getattr(self, entry.name), 0 if entry.name == "doc_stride" else 1
            if entry.name == "version_2_with_negative":
                if not isinstance(value, bool):
                    raise ValueError(f"{entry.name} is {value!r}; wanted is true or false")
            elif entry.name == "null_score_diff_threshold":
                if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
                    raise ValueError(f"{entry.name} is {value!r}; wanted is a number")
            elif isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{entry.name} is {value!r}; wanted is a whole number from {least} on")

    def stated(self) -> dict[str, Any]:
        """As a configuration states it."""
        return asdict(self)


def reading_of(config: Mapping[str, Any], **given: Any) -> Reading:
    """The reading of a model's configuration.

    Args:
        given: what is asked for instead; None for what the configuration says.

    Raises:
        ValueError: an entry that makes no sense.
    """
    stated = config.get(KEY) or {}
    if not isinstance(stated, Mapping):
        raise ValueError(f"{KEY} is {stated!r}; wanted is an object")
    known = {entry.name for entry in fields(Reading)}
    asked = {name: value for name, value in given.items() if value is not None}
    return Reading(**{**{name: value for name, value in stated.items() if name in known}, **asked})


def room(reading: Reading, max_length: int, special: int) -> tuple[int, int]:
    """How a window is shared out.

    Half of its tokens are left to the passage, whatever the question; and neighbouring windows differ by half of what
    they hold of it, so that a window that is short for its stride still moves on.

    Args:
        max_length: tokens of a window, at least special + 2.
        special: tokens among them that belong to no text.

    Returns:
        Tokens that a question is cut to, and those that neighbouring windows have in common.
    """
    texts = max_length - special
    question = max(1, min(reading.max_question_length, texts // 2))
    return question, max(0, min(reading.doc_stride, (texts - question) // 2))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible answer.

    Attributes:
        start, end: its characters in the passage; both 0 for no answer.
        start_logit, end_logit: of its first and its last token.
        probability: among the candidates kept.
    """

    start: int
    end: int
    start_logit: float
    end_logit: float
    probability: float = 0.0

    @property
    def score(self) -> float:
        return self.start_logit + self.end_logit

    @property
    def is_null(self) -> bool:
        """Whether it is "no answer"."""
        return self.start == self.end


NOTHING: Final = Candidate(0, 0, 0.0, 0.0, 1.0)
"""The answer where a passage has no token."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to a question.

    Attributes:
        candidates: best first, `n_best_size` at most; with "no answer" always among them where that is one, even as
            one more.
        chosen: the answer.
        best_span: the best candidate that is no "no answer"; None where a passage has no token.
        null_odds: how far "no answer" scores above the best span; None where every question has an answer.
    """

    candidates: tuple[Candidate, ...]
    chosen: Candidate
    best_span: Candidate | None
    null_odds: float | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """What a model says of a window.

    Attributes:
        start, end: logits [tokens], without padding.
        first: the position of the first token of the passage.
        offsets: [passage tokens, 2], the characters of each of its tokens in the passage.
    """

    start: Array
    end: Array
    first: int
    offsets: Array


def decide(windows: Iterable[Window], reading: Reading) -> Decision:
    """The answer by all windows of a passage."""
    null: Candidate | None = None
    spans: dict[tuple[int, int], Candidate] = {}
    for window in windows:
        nothing = Candidate(0, 0, float(window.start[0]), float(window.end[0]))
        # A passage has no answer only where no window has one.
        null = nothing if null is None or nothing.score < null.score else null
        for found in best_spans(window, reading.max_answer_length, reading.n_best_size):
            place = found.start, found.end
            if place not in spans or found.score > spans[place].score:
                spans[place] = found
    ranked = sorted(spans.values(), key=_rank)
    best = ranked[0] if ranked else None
    if not reading.version_2_with_negative or null is None:
        kept = _with_probabilities(ranked[: reading.n_best_size])
        chosen = kept[0] if kept else NOTHING
        return Decision(kept or (NOTHING,), chosen, kept[0] if kept else None)
    both = sorted([*ranked, null], key=_rank)[: reading.n_best_size]
    kept = _with_probabilities(both if null in both else [*both, null])
    odds = null.score - best.score if best is not None else float("inf")
    silent = odds > reading.null_score_diff_threshold
    best = next((candidate for candidate in kept if not candidate.is_null), best)
    chosen = next(candidate for candidate in kept if candidate.is_null) if silent or best is None else best
    return Decision(kept, chosen, best, odds)


def _rank(candidate: Candidate) -> tuple[float, int, int]:
    """The best first; of equal ones the shortest, and of these the first in the passage."""
    return -candidate.score, candidate.end - candidate.start, candidate.start


def best_spans(window: Window, max_answer_length: int, count: int) -> list[Candidate]:
    """The `count` spans of a window with the highest scores, in no order.

    Those of tokens without characters are left out.
    """
    tokens = len(window.offsets)
    if not tokens:
        return []
    inside = slice(window.first, window.first + tokens)
    start, end = window.start[inside], window.end[inside]
    longest = min(max_answer_length, tokens)
    # scores[i, d]: of the span from token i to token i + d.
    padded = np.concatenate([end, np.full(longest - 1, -np.inf, end.dtype)])
    scores = start[:, None] + np.lib.stride_tricks.sliding_window_view(padded, longest)
    last = np.minimum(np.arange(tokens)[:, None] + np.arange(longest), tokens - 1)
    empty = window.offsets[last, 1] <= window.offsets[:, :1]
    flat = np.where(empty, -np.inf, scores).reshape(-1)
    count = min(count, flat.size)
    best = np.argpartition(-flat, count - 1)[:count]
    return [
        Candidate(
            int(window.offsets[first, 0]),
            int(window.offsets[first + more, 1]),
            float(start[first]),
            float(end[first + more]),
        )
        for first, more in (divmod(int(place), longest) for place in best if flat[place] > -np.inf)
    ]


def _with_probabilities(candidates: list[Candidate]) -> tuple[Candidate, ...]:
    if not candidates:
        return ()
    scores = np.asarray([candidate.score for candidate in candidates])
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    return tuple(
        Candidate(one.start, one.end, one.start_logit, one.end_logit, float(share))
        for one, share in zip(candidates, shares, strict=True)
    )
