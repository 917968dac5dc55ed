"""Entity precision, recall and F1 by the rules of conlleval and seqeval; word by word where tags mark no entities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from resparse.tags import BILOU, BIOES, IOB2, OUTSIDE, Entity, Scheme, entities, parts, strict_entities

Tags = Sequence[Sequence[str]]
"""The tags of the words of each row."""


def finder(scheme: Scheme, strict: bool) -> Callable[[Sequence[str]], list[Entity]]:
    """The function that finds entities: conlleval's, or to the letter of the scheme.

    Raises:
        ValueError: strict, of tags that are neither IOB2 nor BIOES.
    """
    if not strict:
        return entities
    if scheme not in (IOB2, BIOES, BILOU):
        raise ValueError(f"strict rules are those of IOB2 and BIOES; the tags are {scheme}")
    return partial(strict_entities, scheme=scheme)


def by_type(gold: Tags, predicted: Tags, find: Callable[[Sequence[str]], list[Entity]] = entities) -> Table:
    """For each type, in the order of the alphabet: precision, recall, f1, and entities as `number`.

    An entity is right where type and both ends are.
    """
    wanted: Counter[str] = Counter()
    given: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for one, other in zip(gold, predicted, strict=True):
        real, said = set(find(one)), set(find(other))
        wanted.update(entity.type for entity in real)
        given.update(entity.type for entity in said)
        right.update(entity.type for entity in real & said)
    return {kind: _scores(right[kind], given[kind], wanted[kind]) for kind in sorted(wanted | given)}


Table = dict[str, dict[str, Any]]


def scores(
    gold: Tags,
    predicted: Tags,
    find: Callable[[Sequence[str]], list[Entity]] = entities,
    each_type: bool = False,
) -> dict[str, float]:
    """Micro-averaged `precision`, `recall` and `f1` of entities, and `accuracy` of tags.

    Args:
        gold, predicted: of the same words.
        find: see `finder`.
        each_type: also of each type (`PER_f1`, ...; `PER_number`), the others then named `overall_...`, as in
            Transformers' run_ner.
    """
    right = given = wanted = same = words = 0
    for one, other in zip(gold, predicted, strict=True):
        real, said = set(find(one)), set(find(other))
        right, given, wanted = right + len(real & said), given + len(said), wanted + len(real)
        same += sum(tag == found for tag, found in zip(one, other, strict=True))
        words += len(one)
    found = _scores(right, given, wanted)
    overall = {name: found[name] for name in ("precision", "recall", "f1")}
    overall["accuracy"] = same / words if words else 0.0
    if not each_type:
        return overall
    types = by_type(gold, predicted, find)
    return {
        **{f"{kind or 'entity'}_{name}": value for kind, row in types.items() for name, value in row.items()},
        **{f"overall_{name}": value for name, value in overall.items()},
    }


def confusions(gold: Tags, predicted: Tags) -> list[dict[str, Any]]:
    """Types of words that are taken for others, the commonest first: {"type", "predicted", "words"}."""
    counts: Counter[tuple[str, str]] = Counter()
    for one, other in zip(gold, predicted, strict=True):
        for tag, found in zip(one, other, strict=True):
            pair = parts(tag)[1] or OUTSIDE, parts(found)[1] or OUTSIDE
            counts[pair] += pair[0] != pair[1]
    return [
        {"type": kind, "predicted": found, "words": count}
        for (kind, found), count in counts.most_common()
        if count
    ]


def _scores(right: int, given: int, wanted: int) -> dict[str, Any]:
    return {
        "precision": right / given if given else 0.0,
        "recall": right / wanted if wanted else 0.0,
        "f1": 2 * right / (given + wanted) if given + wanted else 0.0,
        "number": wanted,
    }
