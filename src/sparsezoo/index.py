"""The index: for every known stub, the location of its files."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

_PACKAGE = Path(__file__).parent


@dataclass(frozen=True)
class HubWeights:
    """Model files in the Hub repository OWNER/NAME, at a branch, tag or commit (None for the default branch)."""

    repo: str
    revision: str | None = None


@dataclass(frozen=True)
class PypiWeights:
    """Model files inside a wheel on a Python package registry."""

    package: str
    version: str
    sha256: str  # of the wheel
    folder: str  # of the files in the wheel
    weights_sha256: str  # of `model.safetensors` in that folder
    credit: str  # the authors of the weights


@dataclass(frozen=True)
class EmbeddedWeights:
    """Packed model files in this package (`embedded.py`)."""

    folder: Path  # of the packed files
    model: str  # their name
    credit: str  # the authors of the weights that they were made from


Weights = HubWeights | PypiWeights | EmbeddedWeights


@dataclass(frozen=True)
class Entry:
    """The index's entry of one stub."""

    name: str  # the stub's name, without `zoo:`
    about: str  # a line of description
    licence: str | None = None  # of the weights; None where there are none
    weights: Weights | None = None  # None where they no longer exist
    recipes: dict[str, Path] = field(default_factory=dict)  # file name to the bundled file
    instead: str | None = None  # what to use in place of weights that no longer exist


@cache
def entries() -> dict[str, Entry]:
    """All entries of the index by stub name, in the order of the file."""
    text = (_PACKAGE / "index.yaml").read_text(encoding="utf-8")
    # The C loader, where PyYAML has it, is five times faster.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return {name: _entry(name, fields) for name, fields in yaml.load(text, loader).items()}


def _entry(name: str, fields: dict[str, Any]) -> Entry:
    recipes = {file: _PACKAGE / "recipes" / path for file, path in fields.pop("recipes", {}).items()}
    return Entry(name=name, weights=_weights(fields.pop("weights", None)), recipes=recipes, **fields)


def _weights(fields: dict[str, Any] | None) -> Weights | None:
    if fields is None:
        return None
    if "hub" in fields:
        return HubWeights(repo=fields["hub"], revision=fields.get("revision"))
    if "embedded" in fields:
        folder, _, model = fields["embedded"].partition("/")
        return EmbeddedWeights(_PACKAGE / "embedded_models" / folder, model, fields["credit"])
    return PypiWeights(package=fields.pop("pypi"), **fields)
