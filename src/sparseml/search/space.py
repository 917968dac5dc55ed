"""The settings that a search tries: lists of values, or ranges to draw from, by the name of an argument."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from resparse.errors import UserError
from resparse.json_text import JsonError, parse_json
from resparse.yaml_text import YamlError, parse_yaml

Value = float | int | str | bool
Point = dict[str, Value]
"""A setting: values by parameter."""

_RANGE: Final = frozenset({"low", "high", "log", "integer"})


class SearchError(UserError):
    """A search that cannot be carried out as asked."""


@dataclass(frozen=True)
class Choices:
    """A parameter with a few values, in the order in which they are tried."""

    name: str
    values: tuple[Value, ...]

    def draw(self, source: random.Random) -> Value:
        return source.choice(self.values)

    def describe(self) -> str:
        return ", ".join(shown(value) for value in self.values)


@dataclass(frozen=True)
class Range:
    """A number between `low` and `high`, both included; drawn by its logarithm where `log`."""

    name: str
    low: float
    high: float
    log: bool = False
    integer: bool = False

    def draw(self, source: random.Random) -> Value:
        if self.log:
            value = math.exp(source.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = source.uniform(self.low, self.high)
        value = min(max(value, self.low), self.high)
        return round(value) if self.integer else float(f"{value:.4g}")

    def describe(self) -> str:
        kind = ", whole" * self.integer + ", by its logarithm" * self.log
        return f"{shown(self.low)} to {shown(self.high)}{kind}"


Parameter = Choices | Range
Space = tuple[Parameter, ...]

DEFAULT: Final[Space] = (
    Choices("learning_rate", (1e-4, 2e-4, 4e-4)),
    Choices("num_train_epochs", (10, 20)),
)
"""Where none is given: around what docs/transfer.md found to suit most data."""


def from_grid(entries: Sequence[str]) -> Space:
    """The space of `--grid name=value,value` flags.

    Raises:
        SearchError: no values, or one parameter twice.
    """
    parameters = []
    for entry in entries:
        name, equals, text = entry.partition("=")
        values = [_value(part) for part in text.split(",") if part.strip()]
        if not equals or not name.strip() or not values:
            raise SearchError(f"--grid {entry!r}: write NAME=VALUE,VALUE, such as learning_rate=1e-4,2e-4.")
        parameters.append(Choices(_plain(name), tuple(dict.fromkeys(values))))
    return _unique(parameters)


def from_file(path: Path) -> Space:
    """The space of a YAML or JSON file: a list of values, or low, high, log and integer, by parameter.

    Raises:
        SearchError: the file cannot be read, or says something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = parse_json(text) if path.suffix == ".json" else parse_yaml(text)
    except (OSError, UnicodeDecodeError, JsonError, YamlError) as error:
        raise SearchError(f"--space {path} cannot be read: {error}.") from error
    if not isinstance(content, dict) or not content:
        raise SearchError(f"--space {path} must hold one mapping, from parameters to their values.")
    return _unique([_from_entry(str(name), entry) for name, entry in content.items()])


def grid(space: Space) -> Iterator[Point]:
    """All combinations; the last parameter changes fastest.

    Raises:
        SearchError: the space has a range.
    """
    for parameter in space:
        if isinstance(parameter, Range):
            raise SearchError(
                f"{parameter.name} is a range, which has no list of values to try all of: --method random or optuna."
            )
    names = [parameter.name for parameter in space]
    lists = [parameter.values for parameter in space if isinstance(parameter, Choices)]
    for values in itertools.product(*lists):
        yield dict(zip(names, values, strict=True))


def drawn(space: Space, seed: int, index: int) -> Point:
    """The setting of a trial of a random search: a function of the seed and the trial's number."""
    source = random.Random(f"{seed}:{index}")
    return {parameter.name: parameter.draw(source) for parameter in space}


def shown(value: Any) -> str:
    """A value for a table."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def described(point: Mapping[str, Any]) -> str:
    """A setting in a line."""
    return ", ".join(f"{name}={shown(value)}" for name, value in point.items())


def _from_entry(name: str, entry: Any) -> Parameter:
    name = _plain(name)
    if isinstance(entry, list) and entry and all(isinstance(value, Value) for value in entry):
        return Choices(name, tuple(_value(value) for value in entry))
    if isinstance(entry, dict) and {"low", "high"} <= entry.keys() <= _RANGE:
        low, high = _value(entry["low"]), _value(entry["high"])
        log, integer = bool(entry.get("log", False)), bool(entry.get("integer", False))
        numbers = all(isinstance(value, float | int) for value in (low, high))
        if numbers and low < high and (not log or low > 0):  # type: ignore[operator]
            return Range(name, float(low), float(high), log, integer)
        raise SearchError(f"{name}: low must be below high, and above 0 with log; got {low!r} and {high!r}.")
    raise SearchError(
        f"{name}: got {entry!r}; write a list of values, or low: and high:, with log: true for a rate and "
        "integer: true for a whole number."
    )


def _value(given: Any) -> Value:
    """A value from text: a number where it is one. YAML takes 1e-4, without a point, for text."""
    if not isinstance(given, str):
        plain: Value = given
        return plain
    text = given.strip()
    try:
        number = json.loads(text)
    except ValueError:
        number = None
    if isinstance(number, bool | int | float):
        return number
    try:
        return float(text) if text.lower() not in {"nan", "inf", "-inf", "infinity"} else text
    except ValueError:
        return text


def _plain(name: str) -> str:
    return name.strip().removeprefix("--").replace("-", "_")


def _unique(parameters: Sequence[Parameter]) -> Space:
    names = [parameter.name for parameter in parameters]
    for name in names:
        if names.count(name) > 1:
            raise SearchError(f"{name} is given twice: list its values once.")
    return tuple(parameters)
