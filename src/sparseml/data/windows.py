"""Windows of a tokenized corpus, a whole batch at a time: without padding, with special tokens, masked where asked.

All is a function of seed, epoch and index: a resumed run sees the same batches, and nothing is kept in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparseml.data.ranges import Pieces, Ranges
from sparseml.data.rows import DataError
from sparseml.data.token_file import TokenFile

IGNORED = -100
"""The label of tokens that are not to be predicted."""


@dataclass(frozen=True)
class Template:
    """The special tokens around one text, or around and between two, as a tokenizer sets them.

    Attributes:
        before, between, after: ids; `between` is empty for one text.
        types: token types of before, the first text, between, the second text, and after.
    """

    before: NDArray[np.int64]
    between: NDArray[np.int64]
    after: NDArray[np.int64]
    types: tuple[int, int, int, int, int]

    @property
    def specials(self) -> int:
        """The number of special tokens."""
        return len(self.before) + len(self.between) + len(self.after)


def template_of(tokenizer: Any, pair: bool) -> Template:
    """Read a tokenizer's template off what it makes of one or two texts of a token each."""
    words = ["a", "a"] if pair else ["a"]
    encoded = tokenizer(*words, return_token_type_ids=True)
    ids, types, owners = encoded["input_ids"], encoded["token_type_ids"], encoded.sequence_ids(0)
    places = [index for index, owner in enumerate(owners) if owner is not None]
    first, last = [index for index in places if owners[index] == 0], places[-1]
    second = [index for index in places if owners[index] == 1]
    between = range(first[-1] + 1, second[0]) if pair else range(0)
    return Template(
        np.asarray(ids[: first[0]], dtype=np.int64),
        np.asarray([ids[index] for index in between], dtype=np.int64),
        np.asarray(ids[last + 1 :], dtype=np.int64),
        (
            types[0],
            types[first[0]],
            types[between[0]] if between else types[first[0]],
            types[second[0]] if pair else types[first[0]],
            types[-1],
        ),
    )


@dataclass(frozen=True)
class Masking:
    """Which tokens a masked language model is to predict: 80 % of them masked, 10 % replaced, 10 % left.

    Devlin et al. 2019, arXiv:1810.04805.

    Attributes:
        mask: the id of the mask token.
        vocabulary: number of ids, to replace by.
        special: [ids], True for special tokens, which are never chosen.
        continues: [ids], True for tokens that continue a word, for masking whole words; None for single tokens.
        probability: of a word, or a token, to be chosen.
    """

    mask: int
    vocabulary: int
    special: NDArray[np.bool_]
    continues: NDArray[np.bool_] | None
    probability: float

    def __call__(self, ids: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
        """Mask `ids`, [rows, tokens], in place; returns the labels, with IGNORED at tokens that were not chosen."""
        special = self.special[ids]
        drawn = generator.random(ids.shape)
        if self.continues is not None:
            follows = self.continues[ids] & ~special
            follows[:, 0] = False
            words = np.cumsum(~follows, axis=1) - 1
            drawn = np.take_along_axis(drawn, words, axis=1)
        chosen = (drawn < self.probability) & ~special
        labels = np.where(chosen, ids, IGNORED)
        kind = generator.random(ids.shape)
        ids[chosen & (kind < 0.8)] = self.mask
        replaced = chosen & (kind >= 0.8) & (kind < 0.9)
        ids[replaced] = generator.integers(0, self.vocabulary, int(replaced.sum()))
        return labels


def masking_of(tokenizer: Any, probability: float, whole_words: bool) -> Masking:
    """The masking for a tokenizer's vocabulary.

    Raises:
        DataError: it has no mask token.
    """
    if tokenizer.mask_token_id is None:
        raise DataError("The model's tokenizer has no mask token, which masked language modelling needs.")
    special = np.zeros(len(tokenizer), dtype=bool)
    special[list(tokenizer.all_special_ids)] = True
    continues = None
    if whole_words:
        tokens = [str(token) for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))]
        starts = tuple(mark for mark in ("Ġ", "▁") if any(token.startswith(mark) for token in tokens))
        begins = [token.startswith(starts) if starts else not token.startswith("##") for token in tokens]
        continues = ~np.asarray(begins)
    return Masking(int(tokenizer.mask_token_id), len(tokenizer), special, continues, probability)


class Windows(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Batches of windows; an item is a whole batch, of one length, with about the same number of tokens as others.

    An epoch cuts the corpus into slots of the longest length, in an order and from a place of its own. A batch takes
    some of them and cuts each into windows of its length.

    Args:
        file: the corpus.
        tokenizer: for its special tokens.
        ranges: the parts of the corpus to take.
        max_length: of a window, in tokens, special ones included.
        lengths: of windows, each dividing `max_length`.
        rows: windows of the longest length in a batch; of shorter ones there are more.
        pair_probability: share of windows that hold two texts: of these half a text and what follows it, half two
            texts from different places.
        masking: None leaves the tokens as they are, without labels.
        seed: of the order and of all that is drawn.

    Raises:
        DataError: the corpus is too short for a batch.
    """

    whole_batches = True

    def __init__(
        self,
        file: TokenFile,
        tokenizer: Any,
        ranges: Ranges,
        *,
        max_length: int,
        lengths: Sequence[int],
        rows: int,
        pair_probability: float = 0.0,
        masking: Masking | None = None,
        seed: int = 0,
    ) -> None:
        self._tokens = file.tokens
        self._single, self._pair = template_of(tokenizer, False), template_of(tokenizer, True)
        self._types = "token_type_ids" in tokenizer.model_input_names
        self._max_length, self._lengths = max_length, np.asarray(lengths)
        self._pair_probability, self._masking, self._seed = pair_probability, masking, seed
        # One slot less: each epoch begins at another place.
        self._slots = Pieces(ranges, max_length, spare=1)
        self._rows = min(rows, len(self._slots))
        if not self._rows:
            raise DataError(
                f"The corpus has {sum(end - start for start, end in ranges):,} tokens here, too few for windows of "
                f"{max_length}: give more text, or a smaller --max_seq_length."
            )

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._slots) // self._rows

    @property
    def tokens(self) -> int:
        """Tokens in an epoch."""
        return len(self) * self._rows * self._max_length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """The batch `index` of epoch 0; further epochs follow on one another, `len` batches each."""
        epoch, place = divmod(index, len(self))
        generator = np.random.default_rng((self._seed, epoch, place))
        length = int(generator.choice(self._lengths))
        starts = self._window_starts(epoch, place, length)
        ids, types = self._assemble(starts, length, generator)
        batch = {"input_ids": ids}
        if self._types:
            batch["token_type_ids"] = types
        if self._masking is not None:
            batch["labels"] = self._masking(ids, generator)
        return {name: torch.from_numpy(values) for name, values in batch.items()}

    def _window_starts(self, epoch: int, place: int, length: int) -> NDArray[np.int64]:
        order = np.arange(place * self._rows, (place + 1) * self._rows)
        slots = permuted(order, len(self._slots), (self._seed, epoch))
        shift = np.random.default_rng((self._seed, epoch)).integers(self._max_length)
        begin = self._slots.begin(slots) + shift
        inside = np.arange(self._max_length // length) * length
        return np.asarray((begin[:, None] + inside).reshape(-1), dtype=np.int64)

    def _assemble(
        self, starts: NDArray[np.int64], length: int, generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ids and token types, [windows, length], of windows that begin at `starts`."""
        paired = generator.random(len(starts)) < self._pair_probability
        if length - self._pair.specials < 2:
            paired[:] = False
        ids = np.empty((len(starts), length), dtype=np.int64)
        types = np.empty_like(ids)
        for template, chosen in ((self._single, ~paired), (self._pair, paired)):
            if chosen.any():
                ids[chosen], types[chosen] = self._filled(template, starts[chosen], length, generator)
        return ids, types

    def _filled(
        self, template: Template, starts: NDArray[np.int64], length: int, generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        room = length - template.specials
        ahead, middle = len(template.before), len(template.between)
        pair = middle > 0
        first = generator.integers(1, room, len(starts)) if pair else np.full(len(starts), room)
        follows = starts + first
        if pair:
            elsewhere = generator.random(len(starts)) < 0.5
            follows = np.where(elsewhere, np.roll(starts, max(len(starts) // 2, 1)), follows)
        place = np.arange(length)[None, :]
        cut = (ahead + first)[:, None]  # where the first text ends
        second = cut + middle  # where the second begins
        is_second = place >= second
        source = np.where(is_second, follows[:, None] + place - second, starts[:, None] + place - ahead)
        tokens = self._tokens[np.clip(source, 0, len(self._tokens) - 1)].astype(np.int64)
        types = np.where(is_second, template.types[3], template.types[1]) * np.ones_like(tokens)
        if pair:
            between = (place >= cut) & (place < second)
            tokens = np.where(between, template.between[np.clip(place - cut, 0, middle - 1)], tokens)
            types = np.where(between, template.types[2], types)
        tokens[:, :ahead], types[:, :ahead] = template.before, template.types[0]
        if len(template.after):
            tokens[:, -len(template.after) :] = template.after
            types[:, -len(template.after) :] = template.types[4]
        return tokens, types


def permuted(index: NDArray[np.int64], count: int, key: tuple[int, ...]) -> NDArray[np.int64]:
    """Where a pseudo-random permutation of range(count) takes `index`, without a table.

    A Feistel network over the next power of four, applied again to what lies beyond `count` (Black and Rogaway 2002,
    "Ciphers with arbitrary finite domains").
    """
    half = max(1, (max(count - 1, 1).bit_length() + 1) // 2)
    low = np.uint64((1 << half) - 1)
    keys = np.random.default_rng(key).integers(0, 2**63, 4, dtype=np.uint64)
    values = index.astype(np.uint64)
    waiting = np.ones(len(values), dtype=bool)
    while waiting.any():
        left, right = values[waiting] >> np.uint64(half), values[waiting] & low
        for each in keys:
            mixed = (right + each) * np.uint64(0x9E3779B97F4A7C15)
            left, right = right, left ^ ((mixed ^ (mixed >> np.uint64(29))) >> np.uint64(16)) & low
        values[waiting] = (left << np.uint64(half)) | right
        waiting = values >= count
    return values.astype(np.int64)
