"""Classes and their fields, read from source files: to import those that need PyTorch would take seconds."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any


def own_fields(path: Path, called: str) -> Iterator[tuple[str, str]]:
    """Names and annotations of the fields that a class of a file adds, and that can be given."""
    for statement in _class(path, called).body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            name, kind = statement.target.id, ast.unparse(statement.annotation)
            if not (kind.startswith("ClassVar") or name.startswith("_") or _is_computed(statement.value)):
                yield name, kind


def all_fields(path: Path, called: str) -> list[str]:
    """The names of a class's fields, those of its bases first; bases outside the file's package count as empty."""
    found: dict[str, None] = {}
    for base in _class(path, called).bases:
        name = ast.unparse(base)
        place = path if name in _classes(path) else _imports(path).get(name)
        if place is not None:
            found |= dict.fromkeys(all_fields(place, name))
    return list(found | dict.fromkeys(name for name, _ in own_fields(path, called)))


def subclasses(path: Path, base: str) -> list[str]:
    """The classes of a file that name a base."""
    return [name for name, each in _classes(path).items() if base in map(ast.unparse, each.bases)]


def imported_classes(path: Path, ending: str) -> dict[str, Path]:
    """Names with an ending that a file imports from files beside it, and these files."""
    return {name: place for name, place in _imports(path).items() if name.endswith(ending)}


def _is_computed(value: ast.expr | None) -> bool:
    """Whether a field is set by its class alone: `field(init=False)`."""
    return isinstance(value, ast.Call) and any(
        word.arg == "init" and isinstance(word.value, ast.Constant) and word.value.value is False
        for word in value.keywords
    )


def _class(path: Path, called: str) -> ast.ClassDef:
    return _classes(path)[called]


def _classes(path: Path) -> dict[str, ast.ClassDef]:
    return {each.name: each for each in _module(path).body if isinstance(each, ast.ClassDef)}


def _imports(path: Path) -> dict[str, Path]:
    """Names that are imported from files beside a file, whose modules are named in full."""
    return {
        alias.asname or alias.name: place
        for statement in _module(path).body
        if isinstance(statement, ast.ImportFrom) and statement.module
        for place in [path.with_name(f"{statement.module.rpartition('.')[2]}.py")]
        if statement.module.split(".")[-2:-1] == [path.parent.name] and place.is_file()
        for alias in statement.names
    }


@cache
def _module(path: Path) -> Any:
    return ast.parse(path.read_text(encoding="utf-8"))
