"""What a person wants to know of a stub before downloading it; asks no network."""

from __future__ import annotations

from pathlib import Path

from sparsezoo import hub, pypi, sources
from sparsezoo.index import Entry, HubWeights, PypiWeights
from sparsezoo.stub import Stub


def contents(stub: Stub) -> str:
    """What a stub has: weights, a recipe, both."""
    if sources.user_folder(stub):
        return "a folder of yours"
    entry = sources.known(stub)
    parts = ["weights"] if entry.weights else []
    if entry.recipes:
        parts.append("recipe")
    return " + ".join(parts)


def needs(stub: Stub) -> str:
    """What is needed to have a stub's files; "nothing" when they are here."""
    if sources.user_folder(stub):
        return "nothing"
    match sources.known(stub).weights:
        case HubWeights(repo, revision) if not hub.is_ready(repo, stub.revision or revision):
            return "the Hugging Face Hub"
        case PypiWeights() as weights if not (pypi.is_ready(weights) or pypi.installed_folder(weights)):
            return "a package registry"
        case _:
            return "nothing"


def facts(stub: Stub) -> list[tuple[str, str]]:
    """Label and text for everything that is known of a stub.

    Raises:
        ZooError: nothing is known under that name.
    """
    if folder := sources.user_folder(stub):
        return [("lives in", str(folder)), ("needs", "nothing"), *_recipes(stub)]
    entry = sources.known(stub)
    rows = [("about", entry.about), *_weights(entry, stub), *_recipes(stub)]
    if entry.weights:
        rows += [("licence", entry.licence or "not stated"), ("needs", needs(stub))]
    return rows


def files_here(stub: Stub) -> list[Path]:
    """The files of a stub that are on this machine."""
    recipes = list(sources.recipe_files(stub).values())
    folder = _folder_here(stub)
    if folder is None:
        return recipes
    return [path for path in sorted(folder.iterdir()) if path.is_file()] + [
        path for path in recipes if path.parent != folder
    ]


def _folder_here(stub: Stub) -> Path | None:
    if sources.user_folder(stub):
        return sources.training_folder(stub)
    match sources.known(stub).weights:
        case HubWeights(repo, revision):
            return hub.local_copy(repo, stub.revision or revision, "training")
        case PypiWeights() as weights:
            return pypi.cached_folder(weights) if pypi.is_ready(weights) else pypi.installed_folder(weights)
        case _:
            return None


def _weights(entry: Entry, stub: Stub) -> list[tuple[str, str]]:
    match entry.weights:
        case HubWeights(repo, revision):
            pin = stub.revision or revision
            return [("weights", f"Hugging Face Hub repository {repo}" + (f" at {pin}" if pin else ""))]
        case PypiWeights() as weights:
            made = f", pruned here to {weights.pruned:.0%}" if weights.pruned is not None else ""
            return [
                ("weights", f"Python package {weights.package} {weights.version}{made}"),
                ("credit", weights.credit),
            ]
        case _:
            return [("weights", f"none. {entry.instead}")]


def _recipes(stub: Stub) -> list[tuple[str, str]]:
    kinds = [sources.recipe_type(name) for name in sources.recipe_files(stub)]
    return [("recipe", f"?recipe_type={kind}" if kind else "the plain one") for kind in kinds]
