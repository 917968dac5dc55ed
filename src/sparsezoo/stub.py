"""The grammar of `zoo:` stubs, the names of models and recipes.

    zoo:DOMAIN/SUB_DOMAIN/ARCHITECTURE[-SUB]/FRAMEWORK/REPO/DATASET[-SCHEME]/SPARSE_TAG[@REVISION][?QUERY]
    zoo:ARCHITECTURE[-SUB]-SOURCE_DATASET[-TRAINING_DATASET]-SPARSE_TAG[@REVISION][?QUERY]

A SPARSE_TAG of the first form is NAME-CATEGORY[-TARGET], as in `pruned90_quant-none`. QUERY is `key=value` pairs
joined by `&`. The prefix is required: without it, a text is a path and never a stub.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from resparse.errors import did_you_mean
from sparsezoo.common import ZooError

PREFIX = "zoo:"

_WORD = re.compile(r"[A-Za-z0-9_.]+")
_VALUE = re.compile(r"[A-Za-z0-9_.-]+")
_REVISION = re.compile(r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_./-]*")
_QUERY_KEYS = ("recipe_type", "recipe", "checkpoint", "deployment")
_LONGEST = 200
_CHOICES = {
    "checkpoint": ("default", "prepruning", "postpruning", "preqat", "postqat"),
    "deployment": ("default",),
}
_SHAPE = (
    "A stub reads zoo:DOMAIN/SUB_DOMAIN/ARCHITECTURE/FRAMEWORK/REPO/DATASET/SPARSE_TAG, for example "
    "zoo:nlp/text_classification/obert-base/pytorch/huggingface/mnli/pruned90_quant-none."
)


@dataclass(frozen=True)
class Stub:
    """A parsed stub; `str(stub)` is parsed to an equal one. Parts that it does not have are None.

    The long form has domain, sub_domain, framework, repo, dataset and training_scheme, the short one source_dataset
    and training_dataset in their place, and of the sparse tag only sparse_name. `name` is the text without prefix,
    revision and query, which recipe_type, recipe, checkpoint and deployment come from.
    """

    name: str
    architecture: str
    sparse_name: str
    sub_architecture: str | None = None
    domain: str | None = None
    sub_domain: str | None = None
    framework: str | None = None
    repo: str | None = None
    dataset: str | None = None
    training_scheme: str | None = None
    source_dataset: str | None = None
    training_dataset: str | None = None
    sparse_category: str | None = None
    sparse_target: str | None = None
    revision: str | None = None
    recipe_type: str | None = None
    recipe: str | None = None
    checkpoint: str | None = None
    deployment: str | None = None

    def __str__(self) -> str:
        pin = f"@{self.revision}" if self.revision else ""
        query_values = [f"{key}={value}" for key in _QUERY_KEYS if (value := getattr(self, key)) is not None]
        return f"{PREFIX}{self.name}{pin}" + (f"?{'&'.join(query_values)}" if query_values else "")


def is_stub(text: object) -> bool:
    """Whether `text` is a string that begins with `zoo:`."""
    return isinstance(text, str) and text.startswith(PREFIX)


def parse_stub(text: str) -> Stub:
    """Parse a stub; a ZooError says which part does not follow the grammar."""
    if not is_stub(text):
        raise ZooError(f"{text[:_LONGEST]!r} is not a stub: a stub begins with {PREFIX!r}.")
    if len(text) > _LONGEST:
        raise ZooError(f"{text[:60]!r}... is not a stub: it has {len(text)} characters.")
    named, _, query = text.removeprefix(PREFIX).partition("?")
    name, at, revision = named.partition("@")
    stub = _parse_name(name, text)
    query_values = _parse_query(query, text) if "?" in text else {}
    queried = query_values.pop("revision", None)
    if at and queried and queried != revision:
        raise ZooError(f"{text!r} pins two revisions, {revision!r} and {queried!r}. Leave one out.")
    pinned = revision if at else queried
    if pinned is not None and not _REVISION.fullmatch(pinned):
        raise ZooError(f"{text!r}: {pinned!r} is not a revision (a branch, a tag or a commit).")
    return replace(stub, revision=pinned, **query_values)


def _parse_name(name: str, text: str) -> Stub:
    if "/" in name:
        return _parse_long(name, text)
    parts = name.split("-")
    _check_words(parts, text)
    if not 3 <= len(parts) <= 5:
        raise ZooError(f"{text!r} is not a stub. {_SHAPE}")
    architecture, *middle, sparse_name = parts
    # Of two words in the middle the first is the sub-architecture, as in the long form.
    sub_architecture = middle.pop(0) if len(middle) > 1 else None
    return Stub(
        name=name,
        architecture=architecture,
        sub_architecture=sub_architecture,
        source_dataset=middle[0],
        training_dataset=middle[1] if len(middle) > 1 else None,
        sparse_name=sparse_name,
    )


def _parse_long(name: str, text: str) -> Stub:
    levels = name.split("/")
    if len(levels) != 7:
        raise ZooError(f"{text!r} has {len(levels)} levels where a stub has 7. {_SHAPE}")
    for level, (label, least, most) in zip(levels, _LEVELS, strict=True):
        parts = level.split("-")
        _check_words(parts, text)
        if not least <= len(parts) <= most:
            raise ZooError(f"{text!r}: {level!r} cannot be {label}. {_SHAPE}")
    architecture, sub_architecture = _pair(levels[2])
    dataset, training_scheme = _pair(levels[5])
    sparse_name, sparse_category, *target = levels[6].split("-")
    return Stub(
        name=name,
        domain=levels[0],
        sub_domain=levels[1],
        architecture=architecture,
        sub_architecture=sub_architecture,
        framework=levels[3],
        repo=levels[4],
        dataset=dataset,
        training_scheme=training_scheme,
        sparse_name=sparse_name,
        sparse_category=sparse_category,
        sparse_target=target[0] if target else None,
    )


# By level of the long form: its description, and the minimum and maximum number of words joined by "-".
_LEVELS = (
    ("a domain", 1, 1),
    ("a sub-domain", 1, 1),
    ("an architecture (NAME or NAME-SUB)", 1, 2),
    ("a framework", 1, 1),
    ("a repo", 1, 1),
    ("a dataset (NAME or NAME-SCHEME)", 1, 2),
    ("a sparse tag (NAME-CATEGORY or NAME-CATEGORY-TARGET, such as pruned90-none)", 2, 3),
)


def _pair(level: str) -> tuple[str, str | None]:
    first, _, second = level.partition("-")
    return first, second or None


def _check_words(parts: list[str], text: str) -> None:
    for part in parts:
        # `..` would leave the folder that a stub names.
        if not _WORD.fullmatch(part) or not part.strip("."):
            found = f"{part!r} holds more than letters, digits, '_' and '.'" if part else "a part is empty"
            raise ZooError(f"{text!r} is not a stub: {found}. {_SHAPE}")


def _parse_query(query: str, text: str) -> dict[str, str]:
    query_values: dict[str, str] = {}
    known = (*_QUERY_KEYS, "revision")
    for pair in query.split("&"):
        key, equals, value = pair.partition("=")
        if key not in known:
            raise ZooError(f"{text!r}: unknown query {key!r}. {did_you_mean(key, known)}")
        if key in query_values:
            raise ZooError(f"{text!r} gives {key!r} twice.")
        pattern = _REVISION if key == "revision" else _VALUE
        if not equals or not pattern.fullmatch(value):
            raise ZooError(
                f"{text!r}: {key!r} needs a value of letters, digits, '_', '.' and '-'; got {value!r}."
            )
        choices = _CHOICES.get(key)
        if choices and value not in choices:
            raise ZooError(f"{text!r}: {key!r} cannot be {value!r}. {did_you_mean(value, choices)}")
        query_values[key] = value
    return query_values
