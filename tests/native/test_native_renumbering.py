"""Units in another order: the same answers, in less room where rows differ in how much they keep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deepsparse.native import library
from deepsparse.native.encoder import Encoder, Linear, check, linears
from deepsparse.native.library import InstructionSet, WeightFormat
from deepsparse.native.onnx_graph import read
from deepsparse.native.packing import build
from deepsparse.native.recognition import recognize
from deepsparse.native.renumbering import renumber

pytestmark = pytest.mark.skipif(library.file() is None, reason="the native engine is not built here")


def uneven(linear: Linear, seed: int) -> Linear:
    """The layer with rows from empty to full, by chance."""
    chance = np.random.default_rng(seed)
    kept = chance.random(linear.weights.shape) < chance.random((linear.outputs, 1))
    return replace(linear, weights=np.where(kept, linear.weights, 0).astype(np.int8))


def uneven_encoder(path: Path) -> Encoder:
    encoder = recognize(read(path))
    names = ("query", "key", "value", "attention_output", "intermediate", "output")
    return replace(
        encoder,
        layers=tuple(
            replace(layer, **{name: uneven(getattr(layer, name), 10 * i + j) for j, name in enumerate(names)})
            for i, layer in enumerate(encoder.layers)
        ),
    )


def answers(encoder: Encoder, isa: InstructionSet) -> np.ndarray:
    chance = np.random.default_rng(0)
    lengths = [1, 2, 7, 16, 33]
    starts = np.cumsum([0, *lengths], dtype=np.int64)
    positions = np.concatenate([np.arange(length, dtype=np.int32) for length in lengths])
    ids = chance.integers(0, len(encoder.words.rows), starts[-1], dtype=np.int32)
    return library.Model(build(encoder, isa), encoder.labels).run(ids, None, positions, starts, 2)


@pytest.mark.parametrize("export", [("bert",), ("electra",), ("electra", "bert.encoder")], ids="-".join)
def test_the_answers_stay_the_same(exported: Callable[..., Path], export: tuple[str, ...]):
    """The last one's projection and head are in float."""
    encoder = uneven_encoder(exported(*export))
    other = renumber(encoder)
    check(other)
    assert not np.array_equal(other.layers[0].query.weights, encoder.layers[0].query.weights)
    for isa in library.isas():
        np.testing.assert_allclose(answers(other, isa), answers(encoder, isa), atol=1e-4)


def test_it_takes_less_room(exported: Callable[[str], Path]):
    def size(encoder: Encoder) -> int:
        matrices = [np.ascontiguousarray(linear.weights) for linear in linears(encoder)]
        return sum(library.packed_size(WeightFormat.SLOTS64, weights) for weights in matrices)

    encoder = uneven_encoder(exported("bert"))
    assert size(renumber(encoder)) < size(encoder)
