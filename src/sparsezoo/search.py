"""Search among the stubs that are known: the index's, and the folders under the zoo's home."""

from __future__ import annotations

from typing import Literal, overload

from resparse.errors import nearest
from sparsezoo.errors import ZooError
from sparsezoo.index import entries
from sparsezoo.model import Model
from sparsezoo.sources import local_names
from sparsezoo.stub import PREFIX, Stub, parse_stub

FIELDS = (
    "domain",
    "sub_domain",
    "architecture",
    "sub_architecture",
    "framework",
    "repo",
    "dataset",
    "training_scheme",
    "sparse_name",
    "sparse_category",
    "sparse_target",
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
    """The models whose stubs have the wanted parts, sorted by stub, one page of them.

    Args:
        page: which page, from 1.
        page_length: how many to a page.
        return_stubs: give the stubs' texts rather than `Model`s.
        wanted: any of FIELDS; None leaves a field open. Compared without regard to case.

    Raises:
        ZooError: a field that does not exist, or a page below 1.
    """
    if page < 1 or page_length < 1:
        raise ZooError(f"Pages and their lengths count from 1; got page {page} of length {page_length}.")
    if unknown := sorted(set(wanted) - set(FIELDS)):
        raise ZooError(f"Models cannot be searched by {unknown[0]!r}, only by {', '.join(FIELDS)}.")
    start = (page - 1) * page_length
    chosen = [str(stub) for stub in matching(wanted)[start : start + page_length]]
    return chosen if return_stubs else [Model(text) for text in chosen]


def matching(wanted: dict[str, str | None]) -> list[Stub]:
    """All known stubs with the wanted parts, sorted by name."""
    asked = {field: value.lower() for field, value in wanted.items() if value is not None}
    return [
        stub
        for stub in known_stubs()
        if all((getattr(stub, field) or "").lower() == value for field, value in asked.items())
    ]


def known_stubs() -> list[Stub]:
    """Every stub of the index and of the zoo's home, sorted by name."""
    return [parse_stub(PREFIX + name) for name in sorted({*entries(), *local_names()})]


def misspelt(wanted: dict[str, str | None]) -> list[str]:
    """For every wanted value that no known stub has at all, a sentence with the nearest that one has."""
    found = []
    for field, value in wanted.items():
        known = {str(part) for stub in known_stubs() if (part := getattr(stub, field)) is not None}
        if value is not None and value.lower() not in {name.lower() for name in known}:
            near = nearest(value, known) or sorted(known) or ["none"]
            found.append(f"No stub has the {field.replace('_', ' ')} {value!r}. Nearest: {', '.join(near)}.")
    return found
