"""What a tagger says of a text's tokens, and the entities that these make out by each strategy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from resparse.arrays import Array
from resparse.tags import OUTSIDE, parts
from resparse.words import firsts


@dataclass(frozen=True, slots=True)
class TokenClassificationResult:
    """The tag of a token, or an entity.

    Attributes:
        entity: a tag such as B-PER; of a group its type, PER.
        score: its probability; of a group the mean of those of its tokens or words.
        index: the place of the token among the text's, from 1 on; of a group that of its first.
        word: the token as the model knows it; of a group the text as it is written.
        start, end: its first character and that behind its last in the text, or in the words with blanks between.
        is_grouped: whether it is a group.
    """

    entity: str
    score: float
    index: int
    word: str
    start: int
    end: int
    is_grouped: bool = False


@dataclass(frozen=True, slots=True)
class Tagged:
    """What a model says of a text's tokens, special ones left out.

    Attributes:
        text: the text, or its words with blanks between.
        pieces: the tokens.
        index: their places, from 1 on.
        offsets: their characters, [tokens, 2].
        scores: probabilities, [tokens, tags].
        words: the word of each token, ascending.
        names: the tags.
        count: words of the row, where it came as words.
    """

    text: str
    pieces: list[str]
    index: list[int]
    offsets: Array
    scores: Array
    words: Array
    names: tuple[str, ...]
    count: int | None = None

    def results(self, strategy: str, ignored: Sequence[str]) -> list[TokenClassificationResult]:
        """The tokens or entities by a strategy, but those of ignored tags or types."""
        if strategy == "none":
            tokens = np.arange(len(self.pieces))
            if self.count is not None:
                tokens = np.flatnonzero(firsts(self.words) >= 0)
            best = self.scores.argmax(axis=-1)
            found = [
                TokenClassificationResult(
                    self.names[best[token]],
                    float(self.scores[token, best[token]]),
                    self.index[token],
                    self.pieces[token],
                    int(self.offsets[token, 0]),
                    int(self.offsets[token, 1]),
                )
                for token in tokens.tolist()
            ]
            return [one for one in found if one.entity not in ignored]
        units = [(token, token + 1) for token in range(len(self.pieces))]
        if strategy != "simple":
            units = self._by_word()
        vectors = (
            np.stack([_POOLED[strategy](self.scores[first:end]) for first, end in units]) if units else ()
        )
        groups: list[list[int]] = []
        last = ("", "")
        for unit, vector in enumerate(vectors):
            tag = parts(self.names[int(np.argmax(vector))])
            if groups and tag[0] in ("I", "E", OUTSIDE) and tag[1] == last[1] and last[0] not in ("E", "S"):
                groups[-1].append(unit)
            else:
                groups.append([unit])
            last = tag
        entities = [
            self._entity([units[unit] for unit in group], [vectors[unit] for unit in group])
            for group in groups
        ]
        return [one for one in entities if one.entity not in ignored]

    def word_tags(self) -> list[str]:
        """The tag of each word, that of its first token; "O" for a word without one."""
        outside = OUTSIDE if OUTSIDE in self.names else self.names[0]
        count = self.count if self.count is not None else int(self.words.max(initial=-1)) + 1
        tags = [outside] * count
        for token, word in enumerate(firsts(self.words).tolist()):
            if word >= 0:
                tags[word] = self.names[int(self.scores[token].argmax())]
        return tags

    def _by_word(self) -> list[tuple[int, int]]:
        starts = [token for token, word in enumerate(firsts(self.words).tolist()) if word >= 0]
        return list(zip(starts, [*starts[1:], len(self.pieces)], strict=True))

    def _entity(self, units: list[tuple[int, int]], vectors: list[Any]) -> TokenClassificationResult:
        tag = self.names[int(np.argmax(vectors[0]))]
        first, last = units[0][0], units[-1][1] - 1
        start, end = int(self.offsets[first, 0]), int(self.offsets[last, 1])
        # Some tokenizers count the blank before a word to it.
        start += len(self.text[start:end]) - len(self.text[start:end].lstrip())
        score = float(np.mean([vector.max() for vector in vectors]))
        return TokenClassificationResult(
            parts(tag)[1] or tag, score, self.index[first], self.text[start:end], start, end, True
        )


_POOLED: Mapping[str, Callable[[Array], Array]] = {
    "simple": lambda scores: scores[0],
    "first": lambda scores: scores[0],
    "average": lambda scores: scores.mean(axis=0),
    "max": lambda scores: scores[int(scores.max(axis=-1).argmax())],
}
