"""YAML from elsewhere: plain values only, with one kind of error, and within bounds.

Aliases of aliases let a kilobyte stand for billions of values, which whatever walks over them would unfold. Recipes
have a reader of their own (`sparseml.recipe.yaml_reader`), which knows lines and tags.
"""

from __future__ import annotations

from typing import Any

from yaml import SafeLoader, YAMLError
from yaml.composer import ComposerError
from yaml.events import AliasEvent
from yaml.nodes import Node

MAX_VALUES = 100_000
MAX_NESTING = 50


class YamlError(ValueError):
    """A text that is no YAML, or goes beyond the bounds; one line says why and where."""


def parse_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        YamlError: it is none, holds a tag, is nested too deeply, or unfolds to more than `MAX_VALUES` values.
    """
    try:
        return _BoundedLoader(text).get_single_data()
    except YAMLError as error:
        raise YamlError(" ".join(str(error).split())) from error
    # Of dates that do not exist, of keys that are lists, and of numbers.
    except (ValueError, TypeError, OverflowError, AttributeError, RecursionError) as error:
        raise YamlError(f"a value in it cannot be read: {error}") from error


class _BoundedLoader(SafeLoader):
    """Counts the values that a document unfolds to while its nodes are composed, before any value is made."""

    peek_event: Any  # PyYAML publishes no type of it

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._values = self._nesting = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event = self.peek_event()
        before = self._values
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise _refusal(f"more than {MAX_NESTING} levels of nesting", event)
        node = super().compose_node(parent, index)
        self._nesting -= 1
        if not isinstance(event, AliasEvent):
            self._values += 1
            self._sizes[id(node)] = self._values - before
        elif id(node) in self._sizes:
            self._values += self._sizes[id(node)]
        else:
            raise _refusal("a value that contains itself", event)
        if self._values > MAX_VALUES:
            raise _refusal(f"it unfolds to more than {MAX_VALUES} values", event)
        return node


def _refusal(problem: str, event: Any) -> ComposerError:
    return ComposerError(None, None, problem, event.start_mark)
