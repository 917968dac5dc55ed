"""Tags and entities: every short sequence against a second statement of the rules; conversion keeps the entities."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resparse.tags import (
    BILOU,
    BIOES,
    IOB1,
    IOB2,
    MIXED,
    PLAIN,
    Entity,
    entities,
    parts,
    scheme_of,
    strict_entities,
    to_iob2,
)

TAGS = ["O", *(f"{prefix}-{kind}" for prefix in "BIES" for kind in ("P", "Q"))]
IOB_TAGS = ["O", "B-P", "I-P", "B-Q", "I-Q"]


def brute_force(tags: list[str]) -> list[Entity]:
    """conlleval's rules as its script states them: when a chunk ends, and when one begins."""

    def ends(before: tuple[str, str], after: tuple[str, str]) -> bool:
        return (
            before[0] in "ES"
            or (before[0] in "BI" and after[0] in "BSO")
            or (before[0] != "O" and before[1] != after[1])
        )

    def begins(before: tuple[str, str], after: tuple[str, str]) -> bool:
        return (
            after[0] in "BS"
            or (after[0] in "EI" and before[0] in "ESO")
            or (after[0] != "O" and before[1] != after[1])
        )

    pairs = [("O", ""), *map(parts, tags), ("O", "")]
    starts = [place for place in range(len(tags)) if begins(pairs[place], pairs[place + 1])]
    stops = [place for place in range(1, len(tags) + 1) if ends(pairs[place], pairs[place + 1])]
    return [Entity(pairs[start + 1][1], start, stop) for start, stop in zip(starts, stops, strict=True)]


def test_every_short_sequence() -> None:
    for length in range(1, 5):
        for tags in map(list, itertools.product(TAGS, repeat=length)):
            assert entities(tags) == brute_force(tags), tags


@given(st.lists(st.sampled_from(TAGS), max_size=12))
def test_conversion_keeps_the_entities(tags: list[str]) -> None:
    converted = to_iob2(tags)
    assert entities(converted) == entities(tags) == strict_entities(converted, IOB2)
    assert to_iob2(converted) == converted
    assert scheme_of([converted]) in (IOB2, PLAIN)


@given(st.lists(st.sampled_from(IOB_TAGS), max_size=12))
def test_strict_entities_are_among_conllevals_or_end_early(tags: list[str]) -> None:
    by_start = {entity.start: entity for entity in entities(tags)}
    for kind, start, end in strict_entities(tags, IOB2):
        assert tags[start] == f"B-{kind}" and by_start[start] == (kind, start, end)


@pytest.mark.parametrize(
    ("scheme", "text"),
    [
        (IOB1, "I-P I-P B-P O I-Q"),
        (IOB2, "B-P I-P B-P O B-Q"),
        (MIXED, "B-P I-P O I-P"),
        (BIOES, "B-P E-P S-P O S-Q"),
        (BILOU, "B-P L-P U-P O U-Q"),
        (PLAIN, "NN VB NN O S"),
    ],
)
def test_schemes_are_told_apart(scheme: str, text: str) -> None:
    assert scheme_of([text.split()]) == scheme
    if scheme in (IOB1, IOB2, BIOES, BILOU):
        assert to_iob2(text.split()) == ["B-P", "I-P", "B-P", "O", "B-Q"]


def test_strict_bioes_wants_whole_entities() -> None:
    tags = ["B-P", "I-P", "E-P", "B-P", "O", "I-Q", "E-Q", "S-Q", "E-Q", "B-P", "I-Q", "E-P"]
    assert strict_entities(tags, BIOES) == [("P", 0, 3), ("Q", 7, 8)]
    assert strict_entities([tag.replace("E-", "L-").replace("S-", "U-") for tag in tags], BILOU) == [
        ("P", 0, 3),
        ("Q", 7, 8),
    ]


_REFERENCE = """
import json, sys
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2, IOBES, Entities
rows = json.load(sys.stdin)
strict = {"IOB2": IOB2, "BIOES": IOBES}
print(json.dumps([
    [[kind, start, end + 1] for kind, start, end in get_entities(tags)] if scheme is None else
    [[one.tag, one.start, one.end] for one in Entities([tags], strict[scheme]).entities[0]]
    for scheme, tags in rows
]))
"""


def test_as_seqeval_where_it_is_installed() -> None:
    pytest.importorskip("seqeval")
    compare(Path(sys.executable))


def compare(python: Path) -> None:
    """Compare with the seqeval of an interpreter."""
    rows: list[tuple[str | None, list[str]]] = []
    for tags in map(list, itertools.product(TAGS, repeat=4)):
        rows.append((None, tags))
        rows.append(("BIOES", tags))
        if set(tags) <= set(IOB_TAGS):
            rows.append(("IOB2", tags))
    said = subprocess.run(
        [str(python), "-c", _REFERENCE],
        input=json.dumps(rows),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for (scheme, tags), found in zip(rows, json.loads(said), strict=True):
        own = entities(tags) if scheme is None else strict_entities(tags, scheme)  # type: ignore[arg-type]
        assert [list(one) for one in own] == found, (scheme, tags)
