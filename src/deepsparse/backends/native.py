"""Our own engine: sparse int8 encoders, without a step for zeros or for padding."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from deepsparse.backends.base import Resources, TensorSpec
from deepsparse.errors import InputError
from deepsparse.native import cache, library
from deepsparse.native.architecture import recognize
from deepsparse.native.embeddings import MASK, TYPES, WORDS
from deepsparse.native.encoder import Encoder, Positions
from deepsparse.native.onnx_file import Port, read
from deepsparse.native.order import ordered
from deepsparse.native.packing import build
from resparse import __version__
from resparse.arrays import Array

_KINDS = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_}


class NativeBackend:
    """An encoder in the form that the processor at hand likes best.

    Raises:
        EngineError: the engine was not built, or `DEEPSPARSE_ISA` asks for what is not to be had.
        ModelError: the model is damaged; as `UnsupportedError`, it is sound, and not for this engine.
    """

    name = "native"
    version: str = __version__
    length_step = 1
    pads = False

    def __init__(self, model: Path, resources: Resources) -> None:
        self.isa = library.chosen_isa()
        self._cores = resources.cores
        self._model = self._opened(model)
        library.trim()

    def _opened(self, model: Path) -> library.Model:
        """Read and pack; what that takes is free when this returns."""
        graph = read(model)
        encoder = recognize(graph)
        self.inputs = tuple(map(_spec, graph.inputs))
        self.outputs = tuple(map(_spec, graph.outputs))
        self._tokens = _Tokens(encoder)
        block = cache.cached(cache.key_of(graph.files, self.isa), lambda: build(ordered(encoder), self.isa))
        return library.Model(block, encoder.labels)

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """Compute the logits.

        A text's answer does not depend on its padding: where that is on the left, the text is computed as if there were
        none. (The ONNX graph numbers such tokens differently, and takes padding for the first token.)

        Raises:
            InputError: a token that the model does not have.
        """
        ids, types, positions, starts = self._tokens.without_padding(feeds)
        return [self._model.run(ids, types, positions, starts, self._cores)]


class _Tokens:
    """Which tokens a model takes; holds no tables, whose memory is to be given back."""

    def __init__(self, encoder: Encoder) -> None:
        self._words = len(encoder.words.rows)
        self._positions = len(encoder.positions.rows)
        self._types = len(encoder.types.rows) if encoder.takes_types and encoder.types is not None else 0
        self._numbering = encoder.numbering

    def without_padding(self, feeds: Mapping[str, Array]) -> tuple[Array, Array | None, Array, Array]:
        """Ids, types and positions of all tokens, int32 [tokens], and where each row's begin, int64 [rows + 1].

        Raises:
            InputError: an id, a type or a position that the model does not have.
        """
        ids, mask = feeds[WORDS], feeds[MASK] != 0
        if ids.shape != mask.shape or not ids.shape[1]:
            raise InputError(f"{WORDS} and {MASK} differ in shape, or have no columns.")
        # Where a row has no token at all, its scores all are lowered alike: every token sees every other.
        mask = mask | ~mask.any(axis=1, keepdims=True)
        starts = np.zeros(len(ids) + 1, np.int64)
        np.cumsum(mask.sum(axis=1), out=starts[1:])
        positions = _positions(ids, mask, self._numbering)[mask]
        types = feeds[TYPES][mask] if self._types and TYPES in feeds else None
        ids = ids[mask]
        _check("The token id", ids, self._words)
        _check("The position", positions, self._positions)
        if types is not None:
            _check("The token type", types, self._types)
            types = types.astype(np.int32)
        return ids.astype(np.int32), types, positions.astype(np.int32), starts


def _positions(ids: Array, mask: Array, numbering: Positions) -> Array:
    """The position of every token, [rows, columns]."""
    if numbering.padding is not None:
        counted = ids != numbering.padding
        numbers: Array = np.cumsum(counted, axis=1) * counted + numbering.offset
    else:
        numbers = np.arange(ids.shape[1]) - mask.argmax(axis=1, keepdims=True)
    return numbers


def _check(what: str, values: Array, count: int) -> None:
    wrong = values[(values < 0) | (values >= count)]
    if wrong.size:
        raise InputError(f"{what} {wrong[0]} is out of range: the model has {count:,}.")


def _spec(port: Port) -> TensorSpec:
    return TensorSpec(port.name, np.dtype(_KINDS.get(port.kind, np.float32)), port.shape)
