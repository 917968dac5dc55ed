"""YAML text to a graph of nodes that know their lines. No Python object is ever built by YAML's tags.

Numbers are read by the rules of YAML 1.2, so that `8e-5`, which YAML 1.1 takes for text, is a number, and
`1:30`, `017` and dates are what they look like. `yes`, `no`, `on` and `off` remain booleans.
"""

from __future__ import annotations

import re

from yaml import MarkedYAMLError, YAMLError
from yaml.composer import Composer
from yaml.nodes import Node
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from sparseml.recipe.errors import RecipeError
from sparseml.recipe.source import Source

STANDARD = "tag:yaml.org,2002:"
MAX_NESTING = 50

# What PyYAML says about the usual mistakes, and what it means for whoever wrote the recipe.
_HINTS = {
    r"'\t' that cannot start": "YAML indents with spaces, never with tabs.",
    "expected <block end>": (
        "This line is indented unlike the lines that it belongs to. "
        "A modifier's properties begin at the column of its !Tag or further right."
    ),
    "mapping values are not allowed": "A text that holds a colon and a space needs quotes.",
    "could not find expected ':'": "A line here needs the form  name: value.",
    "expected ',' or": "Inside [ ] and { } a comma stands between two values, and a space behind a !Tag.",
    "undefined alias": "An alias *name needs an anchor &name further up.",
    "duplicate anchor": "Each anchor &name may be set once.",
    "but found another document": "A recipe is one YAML document: nothing may follow a second line ---.",
    "cannot start any token": "A text that begins with such a character needs quotes.",
}


class Resolver(BaseResolver):
    """Which unquoted texts are numbers, booleans and null; reading and writing share it."""


_DIGITS = "[0-9]+(?:_[0-9]+)*"
_EXPONENT = "[eE][-+]?[0-9]+"

for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (
        "bool",
        r"true|True|TRUE|false|False|FALSE|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF",
        list("tTfFyYnNoO"),
    ),
    ("int", rf"[-+]?{_DIGITS}|0x[0-9a-fA-F]+|0o[0-7]+|0b[01]+", list("-+0123456789")),
    (
        "float",
        rf"[-+]?(?:{_DIGITS}\.(?:{_DIGITS})?(?:{_EXPONENT})?|{_DIGITS}{_EXPONENT}|\.{_DIGITS}(?:{_EXPONENT})?"
        r"|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)",
        list("-+0123456789."),
    ),
    ("merge", r"<<", ["<"]),
):
    Resolver.add_implicit_resolver(STANDARD + _name, re.compile(rf"(?:{_pattern})\Z"), _first)


class _Loader(Reader, Scanner, Parser, Composer, Resolver):
    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        Resolver.__init__(self)
        self._nesting = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise MarkedYAMLError(
                problem=f"more than {MAX_NESTING} levels of nesting",
                problem_mark=self.peek_event().start_mark,
            )
        node = super().compose_node(parent, index)
        self._nesting -= 1
        return node


def compose(source: Source) -> Node:
    """The root node of a recipe's YAML.

    Raises:
        RecipeError: not YAML, with line, column and the line itself; or nothing but comments.
    """
    try:
        loader = _Loader(source.text)
        root = loader.get_single_node()
    except ReaderError as error:
        raise _unreadable(error, source) from None
    except YAMLError as error:
        raise _not_yaml(error, source) from None
    except (ValueError, OverflowError) as error:  # PyYAML lets "\UFFFFFFFF" and the like through
        raise RecipeError(f"this is not YAML: {error}.", source.name) from None
    if root is None or root.tag == STANDARD + "null":
        raise RecipeError(
            "it holds nothing but comments. A recipe holds at least one list of modifiers.", source.name
        )
    return root


def line_of(node: Node) -> int:
    """The 1-based line on which a node begins."""
    return int(node.start_mark.line) + 1


def _unreadable(error: ReaderError, source: Source) -> RecipeError:
    line = source.text.count("\n", 0, error.position) + 1
    return RecipeError(
        f"the character U+{ord(source.text[error.position]):04X} may not stand in YAML; remove it.",
        source.name,
        line,
    )


def _not_yaml(error: YAMLError, source: Source) -> RecipeError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = ", ".join(filter(None, (getattr(error, "context", None), getattr(error, "problem", None))))
    problem = problem or str(error)
    hint = next((hint for said, hint in _HINTS.items() if said in problem), "")
    if mark is None:
        return RecipeError(f"this is not YAML: {problem}. {hint}".rstrip(), source.name)
    message = f"this is not YAML: {problem} (column {mark.column + 1}). {hint}".rstrip()
    return RecipeError(message + _excerpt(source.text, mark.line, mark.column), source.name, mark.line + 1)


def _excerpt(text: str, line: int, column: int) -> str:
    lines = re.split("[\n\x85\u2028\u2029]", text)  # what YAML takes for a line's end
    if line >= len(lines) or not lines[line].strip():
        return ""
    start = max(0, column - 60)
    return f"\n    {lines[line][start : start + 90].expandtabs(1)}\n    {' ' * (column - start)}^"
