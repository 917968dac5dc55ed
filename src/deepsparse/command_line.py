"""The commands' argument parser: errors are UserErrors, options may be spelled with hyphens or underscores."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import NoReturn, TypeVar

from deepsparse.errors import DeepsparseError
from resparse.errors import nearest

Number = TypeVar("Number", int, float)


class ArgumentsError(DeepsparseError):
    """A command line that cannot be understood."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are UserErrors and name the nearest option; `example` ends the help."""

    def __init__(self, name: str, summary: str, example: str) -> None:
        super().__init__(
            prog=name,
            description=summary,
            epilog=example,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        unknown = message.partition("unrecognized arguments: ")[2].split()
        options = [option for action in self._actions for option in action.option_strings]
        near = nearest(unknown[0], options, most=2) if unknown else []
        hint = f" Did you mean {' or '.join(near)}?" if near else f" `{self.prog} --help` lists the options."
        raise ArgumentsError(f"{message[:1].upper()}{message[1:]}.{hint}")

    @staticmethod
    def count(text: str) -> int:
        """Type of an argument: a whole number from 1 on."""
        return _positive(text, int, "a whole number from 1 on")

    @staticmethod
    def seconds(text: str) -> float:
        """Type of an argument: a number of seconds above 0."""
        return _positive(text, float, "a number of seconds above 0")


def _positive(text: str, kind: type[Number], wanted: str) -> Number:
    try:
        number = kind(text)
    except ValueError:
        number = kind(0)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: {wanted} is wanted")
    return number


def normal_options(words: Sequence[str]) -> list[str]:
    """The arguments with options spelled with hyphens: --model_path becomes --model-path."""
    normal = []
    for word in words:
        name, equals, value = word.partition("=")
        is_option = name.startswith("--") and len(name) > 2
        normal.append((name.replace("_", "-") if is_option else name) + equals + value)
    return normal
