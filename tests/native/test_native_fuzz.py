"""The loader of packed models under libFuzzer, for seconds; `make stress` searches for minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import native_fuzz

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not native_fuzz.available(), reason="no clang with libFuzzer here (Debian: clang, libclang-rt-dev)"
    ),
]


def test_the_loader_refuses_or_runs_whatever_it_is_given(tmp_path: Path):
    program = native_fuzz.built(tmp_path / "fuzz" / "loader")
    said: list[str] = []
    assert native_fuzz.searched(program, tmp_path / "corpus", 6, tmp_path / "found", said.append), said
    assert int(said[0].split()[-1]) > 100
