"""What tests make once for all of them: once by key, whoever asks; and nothing is left of what fails."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support import once


def test_one_makes_it_for_all_who_ask(tmp_path: Path):
    calls: list[Path] = []

    def make(path: Path) -> None:
        calls.append(path)
        path.write_text(str(len(calls)))

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: once.made(("all", tmp_path), make), range(8)))
    assert len(set(found)) == len(calls) == 1 and found[0].read_text() == "1"
    assert once.made(("other", tmp_path), make) != found[0] and len(calls) == 2


def test_what_fails_is_tried_anew(tmp_path: Path):
    def fail(path: Path) -> None:
        path.write_text("half")
        raise RuntimeError("no room")

    with pytest.raises(RuntimeError, match="no room"):
        once.made(("failing", tmp_path), fail)
    assert once.made(("failing", tmp_path), lambda path: path.write_text("whole")).read_text() == "whole"
