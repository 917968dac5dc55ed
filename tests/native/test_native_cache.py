"""Packed models on disk: shared by processes, made again when damaged, never in the way."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepsparse.native import cache
from resparse import files

KEY = b"k" * 32
BLOCK = np.arange(4096, dtype=np.uint8)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEEPSPARSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Maker:
    """Makes the block, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> np.ndarray:
        self.times += 1
        return BLOCK


def test_made_once_then_mapped_and_only_read(place: Path):
    make = Maker()
    for _ in range(3):
        block = cache.cached(KEY, make)
        np.testing.assert_array_equal(block, BLOCK)
        assert not block.flags.writeable and block.ctypes.data % 64 == 0
    assert make.times == 1
    assert len(list(place.iterdir())) == 1, "nothing is left beside the file"


@pytest.mark.parametrize("damage", ["block", "seal", "short", "long", "empty", "text"])
def test_damaged_files_are_made_again(place: Path, damage: str):
    make = Maker()
    cache.cached(KEY, make)
    (path,) = place.iterdir()
    whole = path.read_bytes()
    spoiled = {
        "block": b"x" + whole[1:],
        "seal": whole[:-1] + b"x",
        "short": whole[:-100],
        "long": whole + b"x" * 100,
        "empty": b"",
        "text": b"hello",
    }
    path.write_bytes(spoiled[damage])
    np.testing.assert_array_equal(cache.cached(KEY, make), BLOCK)
    assert make.times == 2 and path.read_bytes() == whole


def test_another_models_file_under_this_name_is_made_again(place: Path):
    cache.cached(KEY, Maker())
    (path,) = place.iterdir()
    other = KEY[:16] + b"another model's."
    make = Maker()
    cache.cached(other, make)
    assert make.times == 1 and len(list(place.iterdir())) == 1 and path.exists()


def test_a_file_replaced_or_removed_while_it_is_mapped(place: Path):
    block = cache.cached(KEY, Maker())
    (path,) = place.iterdir()
    path.unlink()
    np.testing.assert_array_equal(block, BLOCK)
    np.testing.assert_array_equal(cache.cached(KEY, Maker()), BLOCK)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_happens_to_a_file_the_block_is_right(place: Path, data: st.DataObject):
    cache.cached(KEY, Maker())
    (path,) = place.iterdir()
    spoiled = bytearray(path.read_bytes())
    if data.draw(st.booleans(), "cut"):
        del spoiled[data.draw(st.integers(0, len(spoiled) - 1), "at") :]
    else:
        for _ in range(data.draw(st.integers(1, 4), "bits")):
            at = data.draw(st.integers(0, 8 * len(spoiled) - 1), "bit")
            spoiled[at // 8] ^= 1 << at % 8
    path.write_bytes(spoiled)
    np.testing.assert_array_equal(cache.cached(KEY, Maker()), BLOCK)
    make = Maker()
    np.testing.assert_array_equal(cache.cached(KEY, make), BLOCK)
    assert make.times == 0, "the file was put right"


def test_a_full_disk_is_no_error_and_leaves_nothing(place: Path):
    """The limit of a file's size fails as a full disk does: in the midst of a file."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        found = cache.cached(KEY, Maker())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    np.testing.assert_array_equal(found, BLOCK)
    assert not list(place.iterdir())
    make = Maker()
    cache.cached(KEY, make)
    assert make.times == 1 and len(list(place.iterdir())) == 1


def test_a_folder_that_may_only_be_read(place: Path, monkeypatch: pytest.MonkeyPatch):
    """What is in it is used, what is not is made each time. (Permissions do not hold for root.)"""
    cache.cached(KEY, Maker())

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "mkstemp", refused)
    monkeypatch.setattr(os, "utime", refused)
    make, other = Maker(), Maker()
    np.testing.assert_array_equal(cache.cached(KEY, make), BLOCK)
    np.testing.assert_array_equal(cache.cached(b"o" * 32, other), BLOCK)
    assert (make.times, other.times) == (0, 1) and len(list(place.iterdir())) == 1


def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("DEEPSPARSE_CACHE", raising=False)

    def homeless(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    assert cache.folder() is None
    np.testing.assert_array_equal(cache.cached(KEY, Maker()), BLOCK)


def test_unfinished_files_go_with_their_process(place: Path):
    """Of another key, too: a process that was killed may never come again."""
    place.mkdir()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left, written = (place / f".a.packed.{files._machine()}-{pid}-x.part" for pid in (ended.pid, os.getpid()))
    for path in (left, written):
        path.touch()
    cache.cached(KEY, Maker())
    assert not left.exists() and written.exists()


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DEEPSPARSE_CACHE", str(tmp_path / "file"))
    np.testing.assert_array_equal(cache.cached(KEY, Maker()), BLOCK)


def test_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("DEEPSPARSE_CACHE", "")
    assert cache.folder() is None
    monkeypatch.delenv("DEEPSPARSE_CACHE")
    assert cache.folder() == tmp_path / "resparse" / "native"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache.folder() == Path.home() / ".cache" / "resparse" / "native"


def test_the_files_used_last_are_kept(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cache, "KEPT", 2)
    keys = [bytes([index]) * 32 for index in range(3)]
    for age, key in enumerate(keys[:2]):
        cache.cached(key, Maker())
        os.utime(place / f"{key.hex()[:32]}.packed", (age, age))
    cache.cached(keys[0], Maker())  # used again: the other one is older now
    cache.cached(keys[2], Maker())
    assert {path.stem for path in place.iterdir()} == {keys[0].hex()[:32], keys[2].hex()[:32]}


def test_the_key_changes_with_all_that_matters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model, data = tmp_path / "model.onnx", tmp_path / "model.data"
    files = {model: memoryview(b"ab"), data: memoryview(b"c")}
    keys = {
        cache.key_of(files, "avx2"),
        cache.key_of(files, "avx512"),
        cache.key_of({**files, data: memoryview(b"d")}, "avx2"),
        cache.key_of({model: memoryview(b"a"), data: memoryview(b"bc")}, "avx2"),
    }
    assert len(keys) == 4
    assert cache.key_of(dict(files), "avx2") in keys
    for function in ("cache.cpu_identity", "library.digest"):
        with monkeypatch.context() as patched:
            patched.setattr(f"deepsparse.native.{function}", lambda: b"another")
            assert cache.key_of(files, "avx2") not in keys


PROCESS = """
import sys, numpy as np
from deepsparse.native import cache
def make():
    print("made", flush=True)
    sys.stdin.readline()
    return np.arange(4096, dtype=np.uint8)
block = cache.cached(b"k" * 32, make)
print(int(block.sum()), block.flags.writeable)
"""


def test_two_processes_that_pack_the_same_model_at_the_same_time(place: Path):
    environment = {**os.environ, "DEEPSPARSE_CACHE": str(place)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for _ in range(2)
    ]
    for process in running:
        assert process.stdout is not None and process.stdout.readline() == "made\n"
    for process in running:
        output, _ = process.communicate("\n")
        assert output.split() == [str(int(BLOCK.sum())), "False"]
    assert len(list(place.iterdir())) == 1
