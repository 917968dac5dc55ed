"""Where a start comes from, for its descendant's card: licence, Hub id and languages, as far as they are stated."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from resparse.yaml_text import parse_yaml
from sparsezoo import is_stub, parse_stub
from sparsezoo.index import HubWeights, entries

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n---[ \t]*(?:\n|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Origin:
    """What is stated about a start; None or empty where nothing is.

    Attributes:
        base_model: a Hub id.
        license: the Hub's identifier, such as `apache-2.0`.
        languages: the Hub's codes.
    """

    base_model: str | None = None
    license: str | None = None
    languages: tuple[str, ...] = ()


def origin_of(called: str, folder: Path) -> Origin:
    """What is stated about a start, in its own card, else in the zoo's index.

    Args:
        called: a folder, stub or Hub id, as the user named it.
        folder: where its files are.
    """
    card = front_matter(folder / "README.md")
    license = _text(card.get("license"))
    base = None
    if is_stub(called):
        entry = entries().get(parse_stub(called).name)
        if entry is not None:
            base = entry.weights.repo if isinstance(entry.weights, HubWeights) else None
            license = license or _identifier(entry.licence)
    elif not Path(called).expanduser().exists() and _HUB_ID.fullmatch(called):
        base = called
    # A local folder is not on the Hub: its own base is the nearest that others can find.
    inherited = card.get("base_model")
    base = base or _text(inherited[0] if isinstance(inherited, list) and inherited else inherited)
    languages = card.get("language")
    listed = [languages] if isinstance(languages, str) else languages if isinstance(languages, list) else []
    return Origin(base, license, tuple(str(language) for language in listed))


def front_matter(path: Path) -> dict[str, object]:
    """The YAML block at the head of a card; {} where there is none that can be read."""
    try:
        found = _FRONT_MATTER.match(path.read_text(encoding="utf-8"))
        values = parse_yaml(found.group(1)) if found else None
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _identifier(licence: str | None) -> str | None:
    """A licence of the index as the Hub writes it."""
    return licence.lower() if licence is not None and " " not in licence else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None
