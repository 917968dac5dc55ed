"""The frame in which every command runs: exit codes, and what is printed of errors."""

from __future__ import annotations

import errno
import os

import pytest

from resparse.console import run
from resparse.errors import UserError


def fails(error: BaseException) -> int:
    def command() -> None:
        raise error

    return run(command)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("Give another."), "error: Give another.\n"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "error: No space left on device.\n"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "a/b"), "error: a/b: Read-only file system.\n"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "a"), "error: a: Permission denied.\n"),
    ],
)
def test_what_a_user_can_mend_is_one_line(
    error: Exception, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fails(error) == 2
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    "error",
    [
        ValueError("of ours"),
        FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "a"),
        PermissionError(errno.EACCES, os.strerror(errno.EACCES)),  # of a port
    ],
)
def test_what_is_ours_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        fails(error)


def test_tracebacks_where_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESPARSE_TRACEBACK", "1")
    for error in (UserError("x"), OSError(errno.ENOSPC, "full")):
        with pytest.raises(type(error)):
            fails(error)


def test_an_interrupted_command() -> None:
    assert fails(KeyboardInterrupt()) == 130
