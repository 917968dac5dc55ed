"""Output to the terminal: the console, tables and help texts, and the frame in which every command runs."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from resparse.errors import UserError

# Progress and messages go to standard error, so that standard output can be piped.
console = Console(stderr=True, highlight=False)
output = Console(highlight=False, soft_wrap=True)

_printed: set[str] = set()
_OF_THE_DISK: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO}
)


def say(message: str) -> None:
    """Print one line to the user, on standard error."""
    console.print(Text(message), soft_wrap=True)


def say_once(message: str) -> None:
    """Print a line the first time only."""
    if message not in _printed:
        _printed.add(message)
        say(message)


def warn(message: str) -> None:
    """Print a warning."""
    console.print(Text.assemble(("warning: ", "yellow"), message), soft_wrap=True)


@contextmanager
def silent(wanted: bool) -> Iterator[None]:
    """Print nothing meanwhile, where wanted: of several processes that do the same, one speaks for all."""
    before = console.quiet, output.quiet
    console.quiet, output.quiet = (quiet or wanted for quiet in before)
    try:
        yield
    finally:
        console.quiet, output.quiet = before


def aligned(
    rows: Iterable[Sequence[str]], header: Sequence[str], title: str | None = None, left: Sequence[int] = (0,)
) -> Table:
    """A table of text: the columns in `left` are aligned left, the others (numbers) right.

    Only the last column may wrap.
    """
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(header):
        last = index == len(header) - 1
        table.add_column(
            name, justify="left" if index in left else "right", no_wrap=not last, overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def width() -> int:
    """The width of help texts, in characters: the terminal's, from 60 to 110."""
    return min(max(shutil.get_terminal_size((100, 24)).columns, 60), 110)


def entry(head: str, body: str, column: int) -> str:
    """A line of help: `head`, then `body` wrapped from `column` on; a long head has a line of its own."""
    lines = textwrap.wrap(body, width() - column, break_long_words=False, break_on_hyphens=False)
    if len(head) > column - 2 or not lines:
        lines.insert(0, "")
    first, *others = lines
    return "\n".join([f"{head:<{column}}{first}".rstrip(), *(" " * column + line for line in others)])


def _traceback_wanted() -> bool:
    return os.environ.get("RESPARSE_TRACEBACK") == "1"


def _is_of_the_disk(error: OSError) -> bool:
    # Without a file's name a permission may be that of a socket.
    return error.errno in _OF_THE_DISK and (error.errno != errno.EACCES or error.filename is not None)


def _print_error(text: str) -> None:
    console.print(Text.assemble(("error: ", "bold red"), text), soft_wrap=True)


def run(command: Callable[[], int | None]) -> int:
    """Run a command from the terminal: a UserError is printed without traceback and becomes exit code 2.

    So is what the disk refuses, wherever it does: no space, a quota, no permission, a read-only file system.

    `RESPARSE_TRACEBACK=1` shows the traceback all the same.
    """
    try:
        return command() or 0
    except UserError as error:
        if _traceback_wanted():
            raise
        _print_error(str(error))
        return 2
    except KeyboardInterrupt:
        console.print(Text("interrupted"))
        return 130
    except BrokenPipeError:
        # The reader (head, less) has closed the pipe; Python would complain again while closing standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if _traceback_wanted() or not _is_of_the_disk(error):
            raise
        place = f"{error.filename}: " if error.filename else ""
        _print_error(f"{place}{error.strerror}.")
        return 2
