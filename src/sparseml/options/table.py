"""Command-line options as a table of dataclass fields: names, values parsed from text, suggestions of near names.

Flags, a file of arguments and Python keywords each become a mapping of names to raw values, which `Option.convert`
converts to typed ones, or refuses with a clear line.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from resparse.console import entry
from resparse.errors import UserError, did_you_mean, nearest

TRUE: Final = frozenset({"true", "yes", "y", "on", "1"})
FALSE: Final = frozenset({"false", "no", "n", "off", "0"})
_WORDS: Final[dict[type, str]] = {
    **{bool: "true or false", int: "a whole number", float: "a number"},
    **{dict: "a JSON object", str: "text"},
}
_FLAG = re.compile(r"--[A-Za-z]")


class ArgumentError(UserError):
    """An argument that is unknown, has an impossible value, or contradicts another."""


class _Bare:
    """The raw value of a flag without a value."""

    def __repr__(self) -> str:
        return "BARE"


BARE: Final = _Bare()


def requests_help(words: Iterable[str]) -> bool:
    """Whether one of the words is a help flag."""
    return not {"-h", "--help", "--help-all", "--help_all"}.isdisjoint(words)


@dataclass(frozen=True)
class Option:
    """One argument; its flag is `--name`, with underscores or hyphens."""

    name: str
    kinds: frozenset[type]  # the Python types of its values, without None
    default: Any = None  # the value when it is not given
    help: str = ""  # one sentence
    choices: tuple[str, ...] = ()  # when not empty, the only texts that it takes
    optional: bool = True  # whether None is a value
    many: bool = False  # whether several values may follow the flag
    old: bool = False  # an obsolete name: accepted, but not listed or suggested

    @property
    def metavar(self) -> str:
        """The placeholder of the value in `--help`; empty for a switch."""
        if self.choices:
            return "{" + ",".join(self.choices) + "}" if len(self.choices) <= 5 else "NAME"
        if self.many:
            return "TEXT ..."
        for kind, word in ((str, "TEXT"), (bool, ""), (int, "INT"), (float, "NUMBER"), (dict, "JSON")):
            if kind in self.kinds:
                return word
        return "OBJECT"

    def convert(self, value: Any) -> Any:
        """The typed value of a raw one; an ArgumentError says in one line what would fit."""
        if value is BARE:
            if bool not in self.kinds:
                raise ArgumentError(f"--{self.name} needs a value{self._such_as()}.")
            return True
        if self.many:
            return self._texts(value)
        if isinstance(value, list | tuple):
            if len(value) == 1:
                return self.convert(value[0])
            shown = " ".join(str(item) for item in value)
            raise ArgumentError(
                f"--{self.name} takes one value, got {len(value)}: {shown!r}. Quote it if it is one."
            )
        if self.choices:
            return self._choice(value)
        return self._single(value)

    def _single(self, value: Any) -> Any:
        none_text = isinstance(value, str) and value.lower() in {"none", "null"}
        if value is None or (none_text and str not in self.kinds):
            if self.optional:
                return None
            raise ArgumentError(f"--{self.name} cannot be empty: it takes {self._expected()}.")
        # Where text is a value too, it stays text: "1" may be a folder; JSON is parsed by the argument's reader.
        textual = str in self.kinds
        boolean, mapping = (_plain_boolean, _plain_mapping) if textual else (_boolean, _mapping)
        converters = {bool: boolean, int: _whole, float: _number, dict: mapping, str: self._text}
        for kind, convert in converters.items():
            if kind in self.kinds:
                try:
                    return convert(value)
                except ValueError:
                    continue
        if isinstance(value, tuple(self.kinds)) and not isinstance(value, bool | str):
            return value
        raise ArgumentError(f"--{self.name} {_shown(value)}: that is not {self._expected()}.")

    def _texts(self, value: Any) -> Any:
        if value is None and self.optional:
            return None
        if not isinstance(value, list | tuple):
            return self._text(value) if str in self.kinds else [self._text(value)]
        return [self._text(item) for item in value]

    def _choice(self, value: Any) -> str | None:
        if value is None and self.optional:
            return None
        text = value.value if isinstance(value, Enum) else value
        # YAML 1.1 parses `no` as false.
        text = "no" if text is False else str(text)
        if text in self.choices:
            return text
        if text.lower() in self.choices:
            return text.lower()
        raise ArgumentError(f"--{self.name} {text!r}: no such choice. {did_you_mean(text, self.choices)}")

    def _text(self, value: Any) -> str:
        if isinstance(value, Path | int | float) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise ArgumentError(f"--{self.name} {_shown(value)}: that is not {self._expected()}.")
        if not value.strip() and self.default != "":
            raise ArgumentError(f"--{self.name} is empty: leave it out, or give it a value{self._such_as()}.")
        return value

    def _expected(self) -> str:
        known = [word for kind, word in _WORDS.items() if kind in self.kinds]
        return " or ".join(known) or ("text" if self.many else "an object (from Python only)")

    def _such_as(self) -> str:
        return f": {self._expected()}" if self._expected() != "text" else ""


def options_of(*groups: type) -> dict[str, Option]:
    """The options of the fields of dataclasses, by name, in their order."""
    table: dict[str, Option] = {}
    for group in groups:
        hints = get_type_hints(group)
        for field in dataclasses.fields(group):
            if field.init:
                table[field.name] = _option(field, hints[field.name])
    return table


def _option(field: dataclasses.Field[Any], hint: Any) -> Option:
    kinds: set[type] = set()
    choices: list[str] = [str(choice) for choice in field.metadata.get("choices", ())]
    many = False
    for member in get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,):
        origin = get_origin(member)
        if isinstance(member, type) and issubclass(member, Enum):
            choices.extend(str(entry.value) for entry in member)
        elif origin is Literal:
            kinds.update(type(entry) for entry in get_args(member))
        elif origin is list:
            many = many or get_args(member) == (str,)
        else:
            kinds.add(origin or member)
    default = field.default if field.default is not dataclasses.MISSING else None
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    return Option(
        name=field.name,
        kinds=frozenset(kinds - {type(None)}) or (frozenset() if many else frozenset({str})),
        default=default,
        help=" ".join(str(field.metadata.get("help", "")).replace("%%", "%").split()),
        choices=tuple(dict.fromkeys(choices)),
        optional=type(None) in kinds,
        many=many,
    )


def scan(argv: Iterable[str], known: Mapping[str, Option]) -> tuple[dict[str, Any], list[str]]:
    """Read flags into raw values: `--name value ...`, `--name=value`, `--name` (BARE), `--no_name` (False).

    Abbreviated names are unknown, since they might become ambiguous. Returns the values by name, and notes.
    """
    values: dict[str, Any] = {}
    notes: list[str] = []
    unknown: list[str] = []
    for flag, given in _pieces(argv):
        name, value = _resolve(flag, given, known)
        if name is None:
            unknown.append(f"Unknown argument {flag}. {_near_flags(flag, known)}")
            continue
        before = values.get(name)
        if before is BARE and value is not BARE and bool not in known[name].kinds:
            notes.append(f"--{name} was written twice in a row; taken once, as {_shown(value)}.")
        elif before is not None and before != value:
            notes.append(f"--{name} was given more than once; the last one counts: {_shown(value)}.")
        values[name] = value
    if unknown:
        raise ArgumentError("\n".join(unknown))
    return values, notes


def _pieces(argv: Iterable[str]) -> list[tuple[str, Any]]:
    """Flags, each with the values up to the next flag."""
    pieces: list[tuple[str, list[str]]] = []
    for token in argv:
        if _FLAG.match(token):
            flag, equals, value = token.partition("=")
            pieces.append((flag, [value] if equals else []))
        elif pieces:
            pieces[-1][1].append(token)
        else:
            raise ArgumentError(
                f"Did not expect {token!r} here: arguments are flags (--name value), "
                "or one file of arguments (.json, .yaml) on its own."
            )
    return [(flag, BARE if not given else given[0] if len(given) == 1 else given) for flag, given in pieces]


def _resolve(flag: str, given: Any, known: Mapping[str, Option]) -> tuple[str | None, Any]:
    name = flag[2:].replace("-", "_")
    if name in known:
        return name, given
    positive = name.removeprefix("no_")
    if positive == name or positive not in known or bool not in known[positive].kinds:
        return None, given
    if given is not BARE:
        raise ArgumentError(
            f"{flag} takes no value, got {_shown(given)}. Write --{positive} true or false instead."
        )
    return positive, False


def check_names(names: Iterable[str], known: Mapping[str, Option]) -> None:
    """Refuse names (from a file or from Python) that no option has; an ArgumentError gives the nearest ones."""
    unknown = [
        f"Unknown argument {name!r}. {_near_flags(name, known)}" for name in names if name not in known
    ]
    if unknown:
        raise ArgumentError("\n".join(unknown))


def _near_flags(flag: str, known: Mapping[str, Option]) -> str:
    typed = flag.lstrip("-").replace("-", "_")
    names = [name for name, option in known.items() if not option.old]
    starting = [name for name in names if name.startswith(typed)]
    close = list(dict.fromkeys(starting + nearest(typed, names)))[:3]
    if not close:
        return "--help lists the common arguments, --help-all all of them."
    return f"Did you mean {' or '.join('--' + name for name in close)}?"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _boolean(value: Any) -> bool:
    text = str(value).lower() if isinstance(value, str | int) else ""
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise ValueError(value)


def _plain_boolean(value: Any) -> bool:
    if isinstance(value, bool) or (isinstance(value, str) and value.lower() in {"true", "false"}):
        return _boolean(value)
    raise ValueError(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError(value)
    if isinstance(value, str | int | float):
        return int(value)
    raise ValueError(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(value)
    number = float(value)
    if math.isnan(number):
        raise ValueError(value)
    return number


def _mapping(value: Any) -> dict[str, Any]:
    return _plain_mapping(json.loads(value) if isinstance(value, str) else value)


def _plain_mapping(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise ValueError(value)


def section(title: str, names: Iterable[str], options: Mapping[str, Option]) -> str:
    """A title, and an entry for each of the named options that exist."""
    lines = [f"{title}:"]
    for name in names:
        option = options.get(name)
        if option is not None:
            head = f"  --{name} {option.metavar}".rstrip()
            lines.append(entry(head, option.help + _default(option.default), column=34))
    return "\n".join(lines)


def _default(value: Any) -> str:
    if value is None or value is False or value in ("", [], -1):
        return ""
    if value is True:
        return " [on]"
    return f" [{value.value if isinstance(value, Enum) else value}]"
