"""A modifier is one file and one line: nothing else names it, and the page of the loop tells all that it may do."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import sparseml
from sparseml.modifiers import MODIFIERS, Modifier, base

SOURCE = Path(sparseml.__file__).parents[1]
ROOM = SOURCE / "sparseml" / "modifiers"
MODULES = {modifier.__module__ for modifier in MODIFIERS.values()}


def imported(path: Path) -> set[str]:
    """Every module that a file imports from, and every name as `module.name`; also within functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = path.relative_to(SOURCE).with_suffix("").parts[: -node.level or None]
            module = ".".join([*(parents if node.level else ()), *([node.module] if node.module else ())])
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found


def test_only_the_registry_imports_a_modifier_s_file() -> None:
    files = sorted(SOURCE.rglob("*.py"))
    assert len(MODULES) > 5 and len(files) > 100
    naming = {str(path.relative_to(SOURCE)) for path in files if imported(path) & MODULES}
    assert naming == {"sparseml/modifiers/registry.py"}


def test_no_other_file_tells_modifiers_apart_by_their_names() -> None:
    """Strings may name them, as texts for users do; code may not."""
    naming = set()
    for path in SOURCE.rglob("*.py"):
        names = {
            node.id if isinstance(node, ast.Name) else node.attr
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, (ast.Name, ast.Attribute))
        }
        if path.parent != ROOM and names & MODIFIERS.keys():
            naming.add(path.name)
    assert naming == set()


def test_the_page_of_the_loop_names_all_that_a_modifier_has() -> None:
    page = base.__doc__ or ""
    public = [name for name in vars(Modifier) if not name.startswith(("_", "model_"))]
    public += [name for name in Modifier.__class_vars__ if not name.startswith("_")]
    missing = {name for name in public if not re.search(rf"\b{name}\b", page)}
    assert len(public) > 30 and missing == set()


def test_the_page_names_nothing_that_a_modifier_does_not_have() -> None:
    named = set(re.findall(r"\bmodifier\.(\w+)", base.__doc__ or ""))
    assert len(named) > 15
    assert all(hasattr(Modifier, name) for name in named)
