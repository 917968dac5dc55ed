"""YAML text to plain values, through nodes that know their lines; YAML's tags never construct Python objects.

Numbers follow YAML 1.2, so that `8e-5`, a text in YAML 1.1, is a number, and `1:30`, `017` and dates are texts or
decimal numbers. `yes`, `no`, `on` and `off` remain booleans. `eval(...)` becomes an `Expression`, which
`sparseml.recipe.variables` evaluates.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from yaml import MarkedYAMLError, YAMLError
from yaml.composer import Composer
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from sparseml.recipe.source import RecipeError, Source

STANDARD = "tag:yaml.org,2002:"
MAX_NESTING = 50
# Aliases of aliases let a short text represent a huge value; no recipe comes near this many values.
MAX_VALUES = 100_000
SCALARS = ("null", "bool", "int", "float", "str", "merge")
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_BASES = {"0x": 16, "0o": 8, "0b": 2}
_EVAL = re.compile(r"\s*eval\s*\(")

# PyYAML's messages about the usual mistakes, and advice to the recipe's author.
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
    """Which unquoted texts are numbers, booleans and null; used for reading and writing."""


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


def root_node(source: Source) -> Node:
    """The root node of a recipe's YAML; a RecipeError shows the line and column that are not YAML."""
    try:
        loader = _Loader(source.text)
        root = loader.get_single_node()
    except ReaderError as error:
        raise _unreadable(error, source) from None
    except YAMLError as error:
        raise _not_yaml(error, source) from None
    except (ValueError, OverflowError) as error:  # "\UFFFFFFFF" and the like
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
    lines = re.split("[\n\x85\u2028\u2029]", text)  # YAML's line breaks
    if line >= len(lines) or not lines[line].strip():
        return ""
    start = max(0, column - 60)
    return f"\n    {lines[line][start : start + 90].expandtabs(1)}\n    {' ' * (column - start)}^"


@dataclass(frozen=True)
class Expression:
    """The inside of an `eval(...)`, with its 1-based line; None for one from recipe_args."""

    text: str
    line: int | None


@dataclass(frozen=True)
class Pair:
    """An entry of a mapping: key, 1-based line, value; `owns` is False where it is aliased or merged."""

    name: str
    line: int
    node: Node
    owns: bool


class NodeReader:
    """Converts nodes to values, and counts them, so that aliases of aliases cannot exhaust memory.

    `replaced` are values by the `id` of the node that they replace: variables that recipe_args override, so that
    aliases of their anchors get the new value. `uses` counts how often each was read.
    """

    def __init__(self, source: str, replaced: Mapping[int, Any] | None = None) -> None:
        self.source = source
        self.replaced = replaced or {}
        self.uses = dict.fromkeys(self.replaced, 0)
        self._read = 0
        self._open: list[int] = []

    def error(self, message: str, node: Node | None = None) -> RecipeError:
        """A RecipeError at a node's line."""
        return RecipeError(message, self.source, line_of(node) if node is not None else None)

    def value(self, node: Node, *, expressions: bool = True) -> Any:
        """A node's value: None, bool, int, float, str, list, dict or, unless `expressions` is False, Expression."""
        self._count(node)
        if id(node) in self.replaced:
            self.uses[id(node)] += 1
            return self.replaced[id(node)]
        if not node.tag.startswith(STANDARD):
            raise self.error(
                f"the tag {node.tag} stands inside a value. A modifier stands in a list of modifiers; "
                "a text that begins with ! needs quotes.",
                node,
            )
        if isinstance(node, ScalarNode):
            return self._scalar(node, expressions)
        self._enter(node)
        result: Any
        if isinstance(node, SequenceNode):
            result = [self.value(item, expressions=expressions) for item in node.value]
        elif node.tag != STANDARD + "map":
            raise self.error(f"the tag {_short(node.tag)} means nothing in a recipe.", node)
        else:
            entries = self._entries(node)
            result = {key: self.value(value, expressions=expressions) for key, _, value, _ in entries}
        self._open.pop()
        return result

    def pairs(self, node: Node) -> list[Pair]:
        """The entries of a mapping whose keys are distinct names (else a RecipeError), merged ones (`<<`) last."""
        return [
            Pair(self._name(key), line_of(key), value, own and value.start_mark.index > key.start_mark.index)
            for _, key, value, own in self._entries(node)
        ]

    def _entries(self, node: Node) -> Iterator[tuple[Any, Node, Node, bool]]:
        """Key, key node, value node, and whether it is written here; a mapping's own keys override merged ones."""
        first: dict[Any, Node] = {}
        merged: list[Node] = []
        for key_node, value_node in node.value:
            if key_node.tag == STANDARD + "merge":
                merged.extend(self._merged(value_node))
                continue
            key = self._key(key_node)
            if key in first:
                raise self.error(
                    f"{key_node.value!r} is set twice: here and on line {line_of(first[key])}. Keep one.",
                    key_node,
                )
            first[key] = key_node
            yield key, key_node, value_node, True
        for other in merged:
            self._enter(other)
            for key, key_node, value_node, _ in self._entries(other):
                self._count(value_node)
                if key not in first:
                    first[key] = key_node
                    yield key, key_node, value_node, False
            self._open.pop()

    def _merged(self, node: Node) -> list[Node]:
        nodes = node.value if isinstance(node, SequenceNode) else [node]
        for item in nodes:
            if not isinstance(item, MappingNode):
                raise self.error("`<<` merges a mapping, or a list of mappings, by alias: `<<: *name`.", node)
        return list(nodes)

    def _key(self, node: Node) -> Any:
        if not isinstance(node, ScalarNode) or not node.tag.startswith(STANDARD):
            raise self.error("a name is expected before the colon; found a list, a mapping or a tag.", node)
        return self._scalar(node, expressions=False)

    def _name(self, node: Node) -> str:
        key = self._key(node)
        if not isinstance(key, str) or not key:
            raise self.error(
                f"a name is expected before the colon; found {node.value!r}. Put quotes around it.", node
            )
        return key

    def _scalar(self, node: ScalarNode, expressions: bool) -> Any:
        kind = node.tag.removeprefix(STANDARD)
        if kind not in SCALARS:
            raise self.error(f"the tag {_short(node.tag)} means nothing in a recipe.", node)
        try:
            value = scalar(node.value, kind)
        except ValueError:
            raise self.error(f"{node.value!r} is no {kind} value, or is too large for one.", node) from None
        if not expressions or not isinstance(value, str):
            return value
        try:
            return expression_or_text(value, line_of(node))
        except ValueError as error:
            raise self.error(f"{error}", node) from None

    def _enter(self, node: Node) -> None:
        if id(node) in self._open:
            raise self.error("this value contains itself, by an alias of its own anchor.", node)
        self._open.append(id(node))

    def _count(self, node: Node) -> None:
        self._read += 1
        if self._read > MAX_VALUES:
            raise self.error(f"its aliases unfold to more than {MAX_VALUES} values.", node)


def expression_or_text(text: str, line: int | None) -> Expression | str:
    """The expression of a text of the form `eval(...)`, a ValueError where unclosed; other texts unchanged."""
    match = _EVAL.match(text)
    if match is None:
        return text
    inside = text[match.end() :].rstrip()
    if not inside.endswith(")"):
        raise ValueError(
            f"{text!r} has no closing parenthesis at its end. "
            "Inside [ ] and { } an eval(...) with commas needs quotes."
        )
    return Expression(inside[:-1].strip(), line)


def with_expressions(value: Any) -> Any:
    """A copy of a value from recipe_args in which texts of the form `eval(...)` are expressions."""
    if isinstance(value, str):
        return expression_or_text(value, None)
    if isinstance(value, list | tuple):
        return [with_expressions(item) for item in value]
    if isinstance(value, Mapping):
        return {key: with_expressions(item) for key, item in value.items()}
    return value


def scalar(text: str, kind: str) -> bool | int | float | str | None:
    """A text as one of the SCALARS; a ValueError where it is not one, or too large."""
    match kind:
        case "null":
            return None
        case "bool" if text.lower() in _BOOLEANS:
            return _BOOLEANS[text.lower()]
        case "int":
            return int(text, _BASES.get(text[:2].lower(), 10))
        case "float":
            return _float(text)
        case "str" | "merge":
            text.encode()  # a lone surrogate could never be written out again
            return text
    raise ValueError(f"{text!r} is not of type {kind}")


def _float(text: str) -> float:
    if text.lower().lstrip("+-") in (".inf", ".nan"):
        return float(text.replace(".", ""))
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("too large")
    return number


def _short(tag: str) -> str:
    return tag.replace(STANDARD, "!!")
