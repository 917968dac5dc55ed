"""Known stubs, in the index or under the zoo's home, and facts about each; needs no network."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, overload

from resparse.errors import nearest
from sparsezoo import embedded, hub, pypi, resolve
from sparsezoo.common import ZooError
from sparsezoo.index import EmbeddedWeights, Entry, HubWeights, PypiWeights, entries
from sparsezoo.model import Model
from sparsezoo.stub import PREFIX, Stub, parse_stub

FIELDS = (
    *("domain", "sub_domain", "architecture", "sub_architecture", "framework", "repo", "dataset"),
    *("training_scheme", "sparse_name", "sparse_category", "sparse_target"),
)


@overload
def search_models(
    *, page: int = ..., page_length: int = ..., return_stubs: Literal[True], **wanted: str | None
) -> list[str]: ...
@overload
def search_models(
    *, page: int = ..., page_length: int = ..., return_stubs: Literal[False] = ..., **wanted: str | None
) -> list[Model]: ...
def search_models(
    *, page: int = 1, page_length: int = 20, return_stubs: bool = False, **wanted: str | None
) -> list[str] | list[Model]:
    """The models (or with `return_stubs` the stubs' texts) with the wanted parts, sorted by stub, one page of them.

    Parts are compared without regard to case; None matches any. A ZooError for an unknown field, or a page below 1.
    """
    if page < 1 or page_length < 1:
        raise ZooError(f"Pages and their lengths count from 1; got page {page} of length {page_length}.")
    if unknown := sorted(set(wanted) - set(FIELDS)):
        raise ZooError(f"Models cannot be searched by {unknown[0]!r}, only by {', '.join(FIELDS)}.")
    start = (page - 1) * page_length
    chosen = [str(stub) for stub in matching_stubs(wanted)[start : start + page_length]]
    return chosen if return_stubs else [Model(text) for text in chosen]


def matching_stubs(wanted: dict[str, str | None]) -> list[Stub]:
    """All known stubs with the wanted parts, sorted by name."""
    lowered = {field: value.lower() for field, value in wanted.items() if value is not None}
    return [
        stub
        for stub in known_stubs()
        if all((getattr(stub, field) or "").lower() == value for field, value in lowered.items())
    ]


def known_stubs() -> list[Stub]:
    """Every stub of the index and of the zoo's home, sorted by name."""
    return [parse_stub(PREFIX + name) for name in sorted({*entries(), *resolve.local_names()})]


def unknown_values(wanted: dict[str, str | None]) -> list[str]:
    """For every wanted value that no known stub has, a sentence with the nearest known values."""
    sentences = []
    for field, value in wanted.items():
        known = {str(part) for stub in known_stubs() if (part := getattr(stub, field)) is not None}
        if value is not None and value.lower() not in {name.lower() for name in known}:
            near = nearest(value, known) or sorted(known) or ["none"]
            sentences.append(
                f"No stub has the {field.replace('_', ' ')} {value!r}. Nearest: {', '.join(near)}."
            )
    return sentences


def stub_contents(stub: Stub) -> str:
    """The contents of a stub: weights, a recipe, both."""
    if resolve.user_folder(stub):
        return "a folder of yours"
    entry = resolve.index_entry(stub)
    parts = ["weights"] if entry.weights else []
    if entry.recipes:
        parts.append("recipe")
    return " + ".join(parts)


def stub_needs(stub: Stub) -> str:
    """The service that fetching a stub's files needs; "nothing" when they are cached."""
    if resolve.user_folder(stub):
        return "nothing"
    match resolve.index_entry(stub).weights:
        case HubWeights(repo, revision) if not hub.is_ready(repo, stub.revision or revision):
            return "the Hugging Face Hub"
        case PypiWeights() as weights if not (pypi.is_ready(weights) or pypi.installed_folder(weights)):
            return "a package registry"
        case _:
            return "nothing"


def stub_facts(stub: Stub) -> list[tuple[str, str]]:
    """Facts about a stub, as pairs of label and text; a ZooError where it is unknown."""
    if folder := resolve.user_folder(stub):
        return [("lives in", str(folder)), ("needs", "nothing"), *_recipe_facts(stub)]
    entry = resolve.index_entry(stub)
    rows = [("about", entry.about), *_weight_facts(entry, stub), *_recipe_facts(stub)]
    if entry.weights:
        rows += [("licence", entry.licence or "not stated"), ("needs", stub_needs(stub))]
    return rows


def local_files(stub: Stub) -> list[Path]:
    """The files of a stub that are on this machine."""
    recipes = list(resolve.recipe_files(stub).values())
    folder = _local_folder(stub)
    files = [path for path in sorted(folder.iterdir()) if path.is_file()] if folder else []
    return files + [path for path in recipes if path.parent != folder]


def _local_folder(stub: Stub) -> Path | None:
    if resolve.user_folder(stub):
        return resolve.training_folder(stub)
    match resolve.index_entry(stub).weights:
        case HubWeights(repo, revision):
            return hub.local_copy(repo, stub.revision or revision, "training")
        case PypiWeights() as weights:
            return pypi.cached_folder(weights) if pypi.is_ready(weights) else pypi.installed_folder(weights)
        case EmbeddedWeights() as weights:
            return embedded.cached_folder(weights) if embedded.is_ready(weights) else None
        case _:
            return None


def _weight_facts(entry: Entry, stub: Stub) -> list[tuple[str, str]]:
    match entry.weights:
        case HubWeights(repo, revision):
            pin = stub.revision or revision
            return [("weights", f"Hugging Face Hub repository {repo}" + (f" at {pin}" if pin else ""))]
        case PypiWeights() as weights:
            return [
                ("weights", f"Python package {weights.package} {weights.version}"),
                ("credit", weights.credit),
            ]
        case EmbeddedWeights() as weights:
            size = sum(path.stat().st_size for path in embedded.packed_files(weights))
            return [("weights", f"in this package, {size / 1e6:.1f} MB"), ("credit", weights.credit)]
        case _:
            return [("weights", f"none. {entry.instead}")]


def _recipe_facts(stub: Stub) -> list[tuple[str, str]]:
    kinds = [resolve.recipe_type(name) for name in resolve.recipe_files(stub)]
    return [("recipe", f"?recipe_type={kind}" if kind else "the plain one") for kind in kinds]
