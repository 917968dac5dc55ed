"""Tags of words, such as B-PER, and the entities that they mark, in the schemes IOB1, IOB2, BIOES and BILOU.

Training's data and metrics and the runtime use the same rules: those of conlleval, the script of CoNLL-2000 and 2003,
which `seqeval` follows by default; and, where asked for, those of the schemes to the letter (its mode "strict").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

OUTSIDE: Final = "O"
IOB1: Final = "IOB1"
IOB2: Final = "IOB2"
BIOES: Final = "BIOES"
BILOU: Final = "BILOU"
MIXED: Final = "IOB"
PLAIN: Final = "plain"

Scheme = Literal["IOB1", "IOB2", "BIOES", "BILOU", "IOB", "plain"]
"""How entities are tagged; "IOB" where IOB1 and IOB2 are mixed, "plain" where tags have no prefixes."""

# L(ast) and U(nit) of BILOU are E(nd) and S(ingle) of BIOES.
_PREFIXES: Final = {"B": "B", "I": "I", "E": "E", "S": "S", "L": "E", "U": "S"}


class Entity(NamedTuple):
    """An entity: its type, and its words from `start` to before `end`."""

    type: str
    start: int
    end: int


def parts(tag: str) -> tuple[str, str]:
    """The prefix (B, I, E, S or O) and the type of a tag; one without a prefix counts as inside its type."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    prefix, hyphen, kind = tag.partition("-")
    if prefix in _PREFIXES and (hyphen or prefix in "BI"):
        return _PREFIXES[prefix], kind
    return "I", tag


def has_prefix(tag: str) -> bool:
    """Whether a tag says where in an entity its word is."""
    prefix, hyphen, _ = tag.partition("-")
    return prefix in _PREFIXES and bool(hyphen or prefix in "BI")


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities of a sequence of tags by conlleval's rules: a tag that continues none begins one."""
    found: list[Entity] = []
    before, kind, start = OUTSIDE, "", 0
    for place, tag in enumerate([*tags, OUTSIDE]):
        prefix, own = parts(tag)
        if before in ("B", "I") and prefix in ("I", "E") and own == kind:
            before = prefix
            continue
        if before != OUTSIDE:
            found.append(Entity(kind, start, place))
        before, kind, start = prefix, own, place
    return found


def strict_entities(tags: Sequence[str], scheme: Scheme) -> list[Entity]:
    """The entities that are tagged exactly as IOB2 or BIOES (BILOU) prescribe; others are none."""
    found: list[Entity] = []
    ended = scheme in (BIOES, BILOU)
    begun: int | None = None
    kind = ""
    for place, tag in enumerate([*tags, OUTSIDE]):
        prefix, own = parts(tag)
        if begun is not None:
            if prefix == "I" and own == kind:
                continue
            if ended and prefix == "E" and own == kind:
                found.append(Entity(kind, begun, place + 1))
                begun = None
                continue
            if not ended:
                found.append(Entity(kind, begun, place))
            begun = None
        if prefix == "B":
            begun, kind = place, own
        elif prefix == "S" and ended:
            found.append(Entity(own, place, place + 1))
    return found


def to_iob2(tags: Sequence[str]) -> list[str]:
    """The same entities as IOB2 tags them."""
    written = [OUTSIDE] * len(tags)
    for kind, start, end in entities(tags):
        for place in range(start, end):
            prefix = "B" if place == start else "I"
            written[place] = f"{prefix}-{kind}" if kind else prefix
    return written


def scheme_of(rows: Iterable[Sequence[str]]) -> Scheme:
    """The scheme that rows of tags are written in."""
    letters: set[str] = set()
    opened_inside = opened_by_b = repeated = False
    prefixed = plain = False
    for tags in rows:
        before, last = OUTSIDE, ""
        for tag in tags:
            prefix, kind = parts(tag)
            if prefix != OUTSIDE:
                prefixed, plain = prefixed or has_prefix(tag), plain or not has_prefix(tag)
                letters.add(tag.partition("-")[0])
                follows = before != OUTSIDE and kind == last
                opened_inside |= prefix == "I" and not follows
                opened_by_b |= prefix == "B" and not follows
                repeated |= prefix == "B" and follows
            before, last = prefix, kind
    if plain or not prefixed:
        return PLAIN
    if letters & {"L", "U"} and not letters & {"E", "S"}:
        return BILOU
    if letters & {"E", "S"}:
        return BIOES
    if not opened_inside:
        return IOB2
    return MIXED if opened_by_b else IOB1
