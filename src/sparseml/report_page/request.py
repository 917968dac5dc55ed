"""What `sparseml report` is asked for, checked before PyTorch is imported."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from resparse.errors import UserError
from sparseml.report_page.latency import SECONDS
from sparseml.verb_parser import Parser

PAGE: Final = "report.html"


def request(words: list[str]) -> argparse.Namespace:
    """The words of a command line as `folder`, `output`, `latency` and `seconds`.

    Raises:
        UserError: a flag or a folder that does not exist, or a time that is none.
    """
    parser = Parser("report")
    parser.add_argument("folder", metavar="DIR", help="the folder of a training")
    parser.add_argument("--output", metavar="FILE", help=f"where to write the page (DIR/{PAGE})")
    latency = argparse.BooleanOptionalAction
    parser.add_argument(
        "--latency", action=latency, default=True, help="time the exported model, if there is one"
    )
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, metavar="N", help="for each of the two timings"
    )
    given = parser.parse_args(words)
    if given.seconds <= 0:
        raise UserError(f"--seconds {given.seconds:g}: it must be above 0.")
    if not Path(given.folder).is_dir():
        raise UserError(f"There is no folder {given.folder}. Give the --output_dir of a training.")
    return given
