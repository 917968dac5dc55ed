"""The native engine as a backend: sparse encoders, int8, float32 or mixed, without computing zeros or padding."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from deepsparse.backends.base import Resources, TensorSpec
from deepsparse.errors import InputError, ModelError
from deepsparse.native import cache, library
from deepsparse.native.embeddings import TYPES, WORDS
from deepsparse.native.encoder import Encoder, Positions
from deepsparse.native.masks import MASK
from deepsparse.native.onnx_graph import ValueInfo, read
from deepsparse.native.packing import build
from deepsparse.native.recognition import recognize
from deepsparse.native.renumbering import renumber
from resparse import __version__
from resparse.arrays import Array

# By TensorProto.DataType.
_DTYPES = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_}


class NativeBackend:
    """An encoder, packed for this processor.

    Raises:
        EngineError: the engine was not built, or `DEEPSPARSE_ISA` names an instruction set that is not available.
        ModelError: the model is damaged; as `UnsupportedError`: the engine cannot run it.
    """

    name = "native"
    version: str = __version__
    length_step = 1
    pads = False

    def __init__(self, model: Path, resources: Resources) -> None:
        self.isa = library.chosen_isa()
        self._cores = resources.cores
        self._model = self._open(model)
        library.trim()

    def _open(self, model: Path) -> library.Model:
        """Read and pack; a function of its own, so that graph and encoder are freed when it returns."""
        graph = read(model)
        encoder = recognize(graph)
        self.inputs = tuple(map(_spec, graph.inputs))
        self.outputs = tuple(map(_spec, graph.outputs))
        self._tokens = _Tokens(encoder)
        self._every_token, self._columns = encoder.every_token, encoder.columns
        in_bfloats = library.multiplies_bfloats(self.isa)
        key = cache.key_of(graph.files, f"{self.isa.name} bf16" if in_bfloats else self.isa.name)

        def packed() -> Array:
            return build(renumber(encoder), self.isa, in_bfloats)

        try:
            return library.Model(cache.cached(key, packed), encoder.labels, encoder.every_token)
        except ModelError:
            # A whole file that this library does not read: another build of this version has packed it.
            return library.Model(cache.renewed(key, packed), encoder.labels, encoder.every_token)

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """Compute the logits, float32 [rows, labels], or [rows, columns, labels] with a head on every token.

        Where the model gives these labels as outputs of their own, one [rows, columns] each.

        The logits of a text do not depend on its padding: with padding on the left, it is computed as without any. (The
        ONNX graph gives such tokens other positions, and classifies a padding token.) Those of padding are 0.

        Raises:
            InputError: a token that the model does not have.
        """
        mask, ids, types, positions, starts = self._tokens.without_padding(feeds)
        logits = self._model.run(ids, types, positions, starts, self._cores)
        if not self._every_token:
            return [logits]
        padded = np.zeros((*mask.shape, logits.shape[1]), np.float32)
        padded[mask] = logits
        if self._columns is None:
            return [padded]
        return [np.ascontiguousarray(padded[:, :, column]) for column in self._columns]


class _Tokens:
    """Converts padded rows to concatenated tokens. Holds no embedding tables, so that their memory can be freed."""

    def __init__(self, encoder: Encoder) -> None:
        self._words = len(encoder.words.rows)
        self._positions = None if encoder.positions is None else len(encoder.positions.rows)
        self._reach = encoder.reach
        self._knows_distances = any(layer.knows_distances for layer in encoder.layers)
        self._types = len(encoder.types.rows) if encoder.takes_types and encoder.types is not None else 0
        self._numbering = encoder.numbering

    def without_padding(self, feeds: Mapping[str, Array]) -> tuple[Array, Array, Array | None, Array, Array]:
        """The tokens without padding.

        Returns:
            The mask of tokens, bool [rows, columns]; ids, types (None: all 0) and positions, int32 [tokens]; and where
            each row begins, int64 [rows + 1].

        Raises:
            InputError: an id, a type or a position that the model does not have; or padding between tokens, where
                the model knows distances.
        """
        ids, mask = feeds[WORDS], feeds[MASK] != 0
        if ids.shape != mask.shape or not ids.shape[1]:
            raise InputError(f"{WORDS} and {MASK} differ in shape, or have no columns.")
        # Softmax of a row without any token: all scores are lowered alike, so every token sees every other.
        mask = mask | ~mask.any(axis=1, keepdims=True)
        starts = np.zeros(len(ids) + 1, np.int64)
        np.cumsum(mask.sum(axis=1), out=starts[1:])
        self._check_distances(mask)
        positions = _positions(ids, mask, self._numbering)[mask]
        types = feeds[TYPES][mask] if self._types and TYPES in feeds else None
        ids = ids[mask]
        _check("The token id", ids, self._words)
        if self._positions is not None:
            _check("The position", positions, self._positions)
        if types is not None:
            _check("The token type", types, self._types)
            types = types.astype(np.int32)
        return mask, ids.astype(np.int32), types, positions.astype(np.int32), starts

    def _check_distances(self, mask: Array) -> None:
        if not self._knows_distances:
            return
        # A row of tokens without padding between them rises once, from padding to a token, or begins with one.
        rises = (mask[:, 1:] & ~mask[:, :-1]).sum(axis=1) + mask[:, 0]
        if (rises > 1).any():
            raise InputError(
                f"{MASK} has padding between the tokens of row {int(rises.argmax())}: the native engine leaves padding "
                "out, and the distances of this model's tokens would change. Move it to the end."
            )
        longest = int(mask.sum(axis=1).max(initial=0))
        if self._reach is not None and longest > self._reach:
            raise InputError(
                f"A text has {longest:,} tokens; the model's relative positions reach {self._reach:,}."
            )


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


def _spec(value: ValueInfo) -> TensorSpec:
    return TensorSpec(value.name, np.dtype(_DTYPES.get(value.elem_type, np.float32)), value.shape)
