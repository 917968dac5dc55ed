"""Attention that knows distances (relative biases, windows, rotary positions), gates, and texts of any length."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepsparse import Engine
from deepsparse.errors import InputError
from deepsparse.native import library
from deepsparse.native.columns import rotated
from deepsparse.native.encoder import Encoder
from deepsparse.native.onnx_graph import read
from deepsparse.native.packing import build
from deepsparse.native.recognition import recognize
from deepsparse.native.renumbering import renumber
from support import exports
from support.encoders import VOCABULARY
from support.reference import reference_engine

torch = pytest.importorskip("torch")
pytest.importorskip("onnx_ir")
pytest.importorskip("onnxruntime")
needs_library = pytest.mark.skipif(library.file() is None, reason="the native engine is not built here")

CLOSE, STEP = 1e-4, 0.03
"""What float32 sums in another order come to, and what one step of an 8-bit grid may."""

LONG = 700
"""More tokens than one task of attention has queries."""

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "biases": ("mpnet", {"pad_token_id": 1, "max_position_embeddings": LONG + 2, "initializer_range": 0.5}),
    "windows": ("modernbert", {"num_hidden_layers": 3, "global_attn_every_n_layers": 3}),
    "wide windows": ("modernbert", {"local_attention": 500, "classifier_pooling": "mean"}),
    "long": ("bert", {"max_position_embeddings": LONG + 2}),
}


CASES = [
    pytest.param(
        name, quantized, marks=[] if quantized and name in ("biases", "windows") else [pytest.mark.slow]
    )
    for name in MODELS
    for quantized in (False, True)
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function from one of MODELS to its export, made once."""
    folder = tmp_path_factory.mktemp("relative")

    def make(name: str, quantized: bool) -> Path:
        path = folder / f"{name} {quantized}.onnx"
        if not path.exists():
            architecture, settings = MODELS[name]
            exports.portable(architecture, path, spread=True, quantized=quantized, **settings)
        return path

    return make


def feeds(engine: Engine, lengths: list[int], seed: int) -> dict[str, np.ndarray]:
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    ids = np.random.default_rng(seed).integers(2, VOCABULARY, mask.shape)
    given = {"input_ids": np.where(mask, ids, 0), "attention_mask": mask.astype(np.int64)}
    given["token_type_ids"] = np.zeros_like(ids)
    return {name: given[name] for name in engine.input_names}


@needs_library
@pytest.mark.parametrize(("name", "quantized"), CASES)
def test_answers_are_those_of_onnxruntime(
    made: Callable[..., Path], name: str, quantized: bool, monkeypatch: pytest.MonkeyPatch
):
    path = made(name, quantized)
    reference = reference_engine(path)
    for isa in library.isas():
        monkeypatch.setenv("DEEPSPARSE_ISA", isa.name)
        native = Engine(path, num_cores=2, engine_type="native")
        apart: list[bool] = []
        for seed, lengths in enumerate([[1], [2, 9], [30, 4, 17, 11], [70, 33, 1], [513], [LONG, 3]]):
            given = feeds(native, lengths, seed)
            (found,), (wanted,) = native.run(given), reference.run(given)
            np.testing.assert_allclose(found, wanted, atol=STEP, err_msg=isa.name)
            apart += list(np.abs(found - wanted).max(axis=1) > CLOSE)
        assert sum(apart) <= (0.1 * len(apart) if quantized else 0), isa.name


def answers(encoder: Encoder, lengths: list[int]) -> np.ndarray:
    """Of the engine, for an encoder as it was recognized, or changed."""
    block = build(renumber(encoder), library.chosen_isa())
    model = library.Model(block, encoder.labels)
    ids = np.random.default_rng(0).integers(2, VOCABULARY, sum(lengths)).astype(np.int32)
    starts = np.cumsum([0, *lengths]).astype(np.int64)
    positions = np.concatenate([np.arange(length) for length in lengths]).astype(np.int32)
    return model.run(ids, None, positions, starts, 2)


def everywhere(encoder: Encoder, **changes: Any) -> Encoder:
    return replace(encoder, layers=tuple(replace(layer, **changes) for layer in encoder.layers))


@needs_library
def test_each_part_matters(made: Callable[..., Path]):
    """Without any one of them, answers would be others, so that the tests above hold them."""
    for name, changes in (("biases", ["bias"]), ("windows", ["window", "frequencies", "gate"])):
        encoder = recognize(read(made(name, True)))
        wanted = answers(encoder, [40])
        for change in changes:
            assert np.abs(answers(everywhere(encoder, **{change: None}), [40]) - wanted).max() > 20 * CLOSE, (
                change
            )


@needs_library
def test_the_same_bits_alone_and_in_a_batch(made: Callable[..., Path]):
    for name in ("biases", "windows"):
        encoder = recognize(read(made(name, True)))
        together = answers(encoder, [40, 600, 7])
        np.testing.assert_array_equal(answers(encoder, [40])[0], together[0])


@needs_library
def test_padding_between_tokens_is_refused(made: Callable[..., Path]):
    native = Engine(made("windows", True), num_cores=1, engine_type="native")
    given = feeds(native, [8, 8], 0)
    given["attention_mask"][1, :2] = 0  # on the left it may be
    native.run(given)
    given["attention_mask"][1, 4] = 0
    with pytest.raises(InputError, match="padding between the tokens of row 1"):
        native.run(given)


@needs_library
def test_longer_than_a_bias_reaches(made: Callable[..., Path]):
    encoder = recognize(read(made("biases", True)))
    assert encoder.reach == LONG + 2
    shorter = everywhere(encoder, bias=encoder.layers[0].bias[:, LONG + 2 - 20 : LONG + 2 + 19])  # type: ignore[index]
    np.testing.assert_array_equal(answers(shorter, [20]), answers(encoder, [20]))
    with pytest.raises(Exception, match="20 tokens that the model's relative positions reach"):
        answers(shorter, [21])


def test_rotations_keep_lengths_and_know_distances_alone():
    source = np.random.default_rng(0)
    frequencies = np.array([1, 0.3, 0.02, 0.0], np.float32)
    x, y = source.standard_normal((2, 1, 8)).astype(np.float32)
    turned, other = (rotated(np.repeat(one, 30, axis=0), frequencies) for one in (x, y))
    np.testing.assert_allclose(np.linalg.norm(turned, axis=1), np.linalg.norm(x), rtol=1e-5)
    products = turned @ other.T
    np.testing.assert_allclose(products[1:, 1:], products[:-1, :-1], atol=1e-4)
    assert np.ptp(products) > 0.1


MEASURE = """
import resource, sys
import numpy as np
from deepsparse import Engine
engine = Engine(sys.argv[1], num_cores=1, engine_type="native")
tokens = {name: np.ones((1, 8192), np.int64) for name in engine.input_names}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
engine.run(tokens)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@needs_library
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
def test_no_memory_for_all_pairs_of_tokens(made: Callable[..., Path]):
    """Scores of all pairs of 8,192 tokens would take 512 MiB."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(made("windows", True))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout) < 48
