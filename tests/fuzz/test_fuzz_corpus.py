"""Every reader of foreign input, with its corpus and with damage to it: an answer or one clear error.

`python tests/fuzz/run.py` looks for longer, and by coverage.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.fuzz_targets import TARGETS, remove_folders
from support.fuzzing import CORPUS, FaultError, Memory, Target, check
from support.mutation import HOSTILE_VALUES, mutated, replaced

_SECONDS = 0.7
_JSON = [
    name for name in TARGETS if name.startswith(("deployed_", "trained_")) or name in ("body", "endpoint")
]

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module", autouse=True)
def folders() -> Iterator[None]:
    yield
    remove_folders()


def test_every_target_has_a_corpus_and_every_corpus_a_target():
    assert {path.name for path in CORPUS.iterdir()} == {*TARGETS}


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_and_damage_to_it(name: str, tmp_path: Path):
    target = TARGETS[name]
    target.warm(tmp_path)
    corpus, source = target.corpus(), random.Random(name)
    answered = [check(target, data, tmp_path) for data in corpus]
    assert any(answered), "nothing of the corpus is in order"
    memory = Memory()
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        check(target, mutated(source.choice(corpus), corpus, target.tokens, source), tmp_path, memory)


@pytest.mark.parametrize("name", _JSON)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 400), value=st.sampled_from(HOSTILE_VALUES) | st.text(max_size=3))
def test_a_setting_that_is_something_else(name: str, tmp_path: Path, place: int, value: object):
    import json

    target = TARGETS[name]
    document = json.loads((target.folder / "plain").read_bytes())
    target.warm(tmp_path)
    check(target, json.dumps(replaced(document, place, value)).encode(), tmp_path)


def test_what_is_a_fault(tmp_path: Path):
    def raising(error: Exception):
        def feed(data: bytes, folder: Path) -> None:
            (folder / "left").touch()
            raise error

        return Target("made", feed, ())

    for error in (ValueError("no UserError"), RecursionError(), MemoryError()):
        with pytest.raises(FaultError):
            check(raising(error), b"", tmp_path)
    assert not [*tmp_path.iterdir()]
    ballast = []
    with pytest.raises(FaultError, match="memory"):
        memory = Memory()
        memory.normal //= 4
        check(Target("made", lambda data, folder: ballast.append(data), ()), b"", tmp_path, memory)
