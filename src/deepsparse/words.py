"""The words of a text in any script, by Unicode's rules, and texts without some of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

Span = tuple[int, int]
"""The first character of a part of a text, and the one behind its last."""

# Segmentation looks at whole paragraphs at once; longer ones are cut, so that no text takes minutes.
_LONGEST_PARAGRAPH = 20_000


@cache
def _splitter() -> Any:
    from tokenizers import Regex, pre_tokenizers

    # Oniguruma's text segment boundary in word mode: UAX #29, section 4. Where a script puts no spaces between words,
    # it parts Han and Hiragana by character, Katakana by run, and Thai by what a vowel sign belongs to.
    return pre_tokenizers.Split(Regex(r"(?y{w})\y"), "isolated")


def words_of(text: str) -> list[Span]:
    """Words and punctuation marks, by UAX #29, in the order of the text; no white space."""
    return [span for span in _segments(text) if not text[slice(*span)].isspace()]


def _segments(text: str) -> Iterator[Span]:
    place = 0
    for line in text.splitlines(keepends=True):
        for start in range(0, len(line), _LONGEST_PARAGRAPH):
            part = line[start : start + _LONGEST_PARAGRAPH]
            for _, (first, last) in _splitter().pre_tokenize_str(part):
                yield place + start + first, place + start + last
        place += len(line)


def without(text: str, spans: Iterable[Span], put: str = "") -> str:
    """A text without some of its parts.

    Args:
        spans: in order, not overlapping.
        put: in the place of each part; where it is empty, of white space on both sides that behind goes, too.
    """
    kept, place = [], 0
    for first, last in spans:
        kept += [text[place:first], put]
        before = first == 0 or text[first - 1].isspace()
        place = last + 1 if not put and before and text[last : last + 1].isspace() else last
    return "".join([*kept, text[place:]])
