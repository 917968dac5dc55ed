"""The parser of the verbs of `sparseml`; nothing heavy is imported with it."""

from __future__ import annotations

import argparse
from typing import NoReturn

from resparse.errors import UserError


class Parser(argparse.ArgumentParser):
    """An argument parser with one-line errors and without abbreviations."""

    def __init__(self, verb: str) -> None:
        super().__init__(prog=f"sparseml {verb}", allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}. `{self.prog} --help` says what it takes.")
