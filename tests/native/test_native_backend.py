"""The native engine against ONNX Runtime on the same exports: every architecture, instruction set, length and batch."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from functools import cache as cache_calls
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepsparse import DeepsparseError, Engine, InputError
from deepsparse.backends import Resources
from deepsparse.backends.native import NativeBackend
from deepsparse.native import cache, library, records
from support.encoders import VOCABULARY
from support.exports import EVERY, FLOAT_HEADS, POSITIONS, SETTINGS
from support.reference import reference_engine

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.skipif(library.file() is None, reason="the native engine is not built here")

CLOSE = 1e-4
"""What sums of float32 in another order come to."""

STEP = 0.02
"""One step of an 8-bit grid, which such a difference tips in a row out of many, moves these logits by less."""

LIMIT = POSITIONS - 8
SHAPES = [
    (1, 1),
    (1, 2),
    (2, 15),
    (16, 16),
    (3, 17),
    (64, 12),
    (5, 63),
    (4, 64),
    (7, 65),
    (2, 128),
    (1, 511),
    (2, LIMIT),
]

Feeds = dict[str, np.ndarray]


def feeds(engine: Engine, rows: int, columns: int, padding: int, seed: int = 0, left: bool = False) -> Feeds:
    """Random tokens, every row but the first of another length."""
    source = np.random.default_rng(seed)
    lengths = source.integers(1, columns + 1, rows)
    lengths[0] = columns
    mask = np.arange(columns) < lengths[:, None]
    if left:
        mask = mask[:, ::-1]
    made = {
        "input_ids": np.where(mask, source.integers(2, VOCABULARY, (rows, columns)), padding),
        "attention_mask": mask.astype(np.int64),
        "token_type_ids": np.where(mask, source.integers(0, 2, (rows, columns)), 0),
    }
    if "roberta" in str(engine.model_path):
        made["token_type_ids"][:] = 0
    return {name: made[name] for name in engine.input_names}


def padding_of(architecture: str) -> int:
    return int(SETTINGS[architecture].get("pad_token_id", 0))


def engines(path: Path) -> tuple[Engine, Engine]:
    return (
        Engine(path, num_cores=2, engine_type="native"),
        reference_engine(path),
    )


def tipped(native: Engine, reference: Engine, given: Feeds) -> list[bool]:
    """For every row, whether its logits are further from ONNX Runtime's than float32 explains; by a step at most."""
    (found,), (wanted,) = native.run(given), reference.run(given)
    assert found.dtype == wanted.dtype and found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, atol=STEP)
    best = np.sort(wanted)[:, -2:]
    clear = best[:, 1] - best[:, 0] > 2 * STEP
    np.testing.assert_array_equal(found.argmax(1)[clear], wanted.argmax(1)[clear])
    return list(np.abs(found - wanted).max(1) > CLOSE)


@pytest.fixture(params=library.isas() if library.file() else [], ids=lambda isa: isa.name)
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> library.InstructionSet:
    """Each instruction set of this processor, forced."""
    monkeypatch.setenv("DEEPSPARSE_ISA", request.param.name)
    return request.param


def check_answers(path: Path, architecture: str) -> None:
    native, reference = engines(path)
    assert native.engine_type == "native"
    assert native.inputs == reference.inputs and native.outputs == reference.outputs
    rows: list[bool] = []
    # Many rows: with so small a vocabulary, one value that lies between two steps comes again in several of them.
    for seed, (count, columns) in enumerate(3 * SHAPES):
        rows += tipped(native, reference, feeds(native, count, columns, padding_of(architecture), seed))
    assert sum(rows) <= 0.04 * len(rows)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("architecture", EVERY)
def test_answers_are_those_of_onnxruntime(exported: Callable[[str], Path], architecture: str):
    check_answers(exported(architecture), architecture)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize(("architecture", "submodules"), FLOAT_HEADS)
def test_answers_of_heads_in_float(
    exported: Callable[..., Path], architecture: str, submodules: tuple[str, ...]
):
    check_answers(exported(architecture, *submodules), architecture)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_every_length(exported: Callable[[str], Path], architecture: str):
    native, reference = engines(exported(architecture))
    rows: list[bool] = []
    for length in range(1, LIMIT + 1, 3):
        rows += tipped(native, reference, feeds(native, 1, length, padding_of(architecture), length))
    assert sum(rows) <= 0.04 * len(rows)


@pytest.mark.parametrize("architecture", EVERY)
def test_an_answer_does_not_depend_on_its_padding(exported: Callable[[str], Path], architecture: str):
    native, reference = engines(exported(architecture))
    given = feeds(native, 6, 20, padding_of(architecture), left=True)
    (found,) = native.run(given)
    for row, kept in enumerate(given["attention_mask"].astype(bool)):
        (wanted,) = reference.run({name: array[row : row + 1, kept] for name, array in given.items()})
        np.testing.assert_allclose(found[row : row + 1], wanted, atol=STEP)


@pytest.mark.parametrize("architecture", EVERY)
def test_a_row_without_tokens(exported: Callable[[str], Path], architecture: str):
    """Its scores all are lowered alike, and by so much that they are rounded: about what every token gives."""
    if architecture == "modernbert":
        pytest.skip("its mean of no tokens is 0 / 0")
    native, reference = engines(exported(architecture))
    given = feeds(native, 3, 9, padding_of(architecture))
    given["attention_mask"][1] = 0
    (found,), (wanted,) = native.run(given), reference.run(given)
    np.testing.assert_allclose(found, wanted, atol=STEP)


def test_no_rows(exported: Callable[[str], Path]):
    native, _ = engines(exported("bert"))
    empty = {name: np.empty((0, 5), np.int64) for name in native.input_names}
    assert native.run(empty)[0].shape == (0, 3)


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("input_ids", VOCABULARY, f"token id {VOCABULARY}"),
        ("input_ids", -1, "token id -1"),
        ("input_ids", 2**40, "token id"),
        ("token_type_ids", 2, "token type 2"),
    ],
)
def test_tokens_that_the_model_does_not_have(
    exported: Callable[[str], Path], name: str, value: int, part: str
):
    native, _ = engines(exported("bert"))
    given = feeds(native, 2, 8, 0)
    given[name][0, 3] = value
    with pytest.raises(InputError, match=part):
        native.run(given)
    given[name][0, 3] = 1
    given["attention_mask"][0, 4:] = 0
    given[name][0, 5] = value  # padding is not looked at
    native.run(given)


def test_more_tokens_than_the_model_takes(exported: Callable[[str], Path]):
    native, _ = engines(exported("bert"))
    with pytest.raises(InputError, match=f"position {POSITIONS} "):
        native.run(feeds(native, 1, POSITIONS + 1, 0))


def test_several_threads_and_engines_at_once(exported: Callable[[str], Path]):
    path = exported("bert")
    shared, _ = engines(path)
    batches = [feeds(shared, 1 + seed % 5, 5 + 7 * seed, 0, seed) for seed in range(8)]
    wanted = [shared.run(batch)[0] for batch in batches]
    failed: list[str] = []

    def work(number: int) -> None:
        engine = shared if number % 2 else engines(path)[0]
        for turn in range(20):
            index = (number + turn) % len(batches)
            if not np.array_equal(engine.run(batches[index])[0], wanted[index]):
                failed.append(f"thread {number}, turn {turn}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=30),
    threads=st.sampled_from([1, 2, 3, 9]),
    padding=st.integers(0, 20),
    left=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_same_bits_whatever_the_threads_the_batch_and_the_padding(
    exported: Callable[[str], Path],
    lengths: list[int],
    threads: int,
    padding: int,
    left: bool,
    seed: int,
):
    path = exported("bert")
    alone, many = backend(path, 1), backend(path, threads)
    columns = max(lengths) + padding
    mask = np.arange(columns) < np.array(lengths)[:, None]
    if left:
        mask = mask[:, ::-1]
    source = np.random.default_rng(seed)
    feed = {
        "input_ids": np.where(mask, source.integers(2, VOCABULARY, mask.shape), 0),
        "attention_mask": mask.astype(np.int64),
        "token_type_ids": source.integers(0, 2, mask.shape),
    }
    (together,) = many.run(feed)
    for row, kept in enumerate(mask):
        (single,) = alone.run({name: array[row : row + 1, kept] for name, array in feed.items()})
        np.testing.assert_array_equal(single[0], together[row])


@cache_calls
def backend(path: Path, threads: int) -> NativeBackend:
    return NativeBackend(path, Resources(threads, 1))


def test_damaged_exports_never_crash(exported: Callable[[str], Path], tmp_path: Path):
    """Flipped bytes anywhere: one clear error, or a model that runs."""
    whole, path = exported("bert").read_bytes(), tmp_path / "model.onnx"
    source = random.Random(0)
    ran = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(source.randint(1, 6)):
            damaged[source.randrange(len(damaged))] = source.randrange(256)
        path.write_bytes(damaged)
        try:
            engine = Engine(path, num_cores=1, engine_type="native")
            engine.run(feeds(engine, 3, 9, 0))
            ran += 1
        except DeepsparseError as error:
            assert "\n" not in str(error)
    assert 0 < ran < 150


@pytest.mark.parametrize(
    "damage",
    [
        {"magic": 1},
        {"version": records.VERSION + 1},
        {"isa": 1 << 31},
        {"size": 64},
        {"layer_records": 1 << 40},
        {"labels": 70000},
    ],
    ids=lambda damage: next(iter(damage)),
)
def test_a_whole_packed_model_that_the_library_refuses_is_made_again(
    exported: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: dict[str, int]
):
    """As another build, or an attacker, would have written it: its digest is right."""
    monkeypatch.setenv("DEEPSPARSE_CACHE", str(tmp_path))
    engine = Engine(exported("bert"), num_cores=1, engine_type="native")
    given = feeds(engine, 3, 20, 0)
    (wanted,) = engine.run(given)
    (path,) = tmp_path.iterdir()
    key = path.read_bytes()[-32:]
    block = np.frombuffer(path.read_bytes(), np.uint8)[:-64].copy()
    record = records.ModelRecord.from_buffer(block.data)
    for name, value in damage.items():
        setattr(record, name, value)
    cache.renewed(key, lambda: block)
    for _ in range(2):
        (found,) = Engine(exported("bert"), num_cores=1, engine_type="native").run(given)
        np.testing.assert_array_equal(found, wanted)
        made = records.ModelRecord.from_buffer_copy(path.read_bytes())
        assert (made.magic, made.size) == (records.MAGIC, path.stat().st_size - 64)
