"""Documents of a tokenized corpus as rows of their own: batches of similar length, padded.

All is a function of seed, epoch and index, as of `windows.Windows`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparseml.data.ranges import Pieces, Ranges
from sparseml.data.rows import DataError
from sparseml.data.token_file import TokenFile, separator_of
from sparseml.data.windows import Masking, permuted, template_of

# Batches whose documents are sorted together, documents that the mean length is taken of, and what lengths are
# rounded up to.
_POOLED, _SAMPLED, _MULTIPLE = 32, 10_000, 8


class Documents(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Batches of whole documents; an item is a whole batch, with about the same number of tokens as others.

    An epoch permutes the documents and divides them into pools; those of a pool are sorted by length and cut into
    batches of equal numbers of tokens. A document longer than `max_length` gives a part of it, another each epoch.

    Args:
        file: the corpus.
        tokenizer: for its special tokens.
        ranges: from, to (exclusive), of documents.
        max_length: of a row, in tokens, special ones included.
        rows: rows of the longest length in a batch; of shorter ones there are more.
        masking: None leaves the tokens as they are, without labels.
        seed: of the order and of all that is drawn.

    Raises:
        DataError: there are no documents.
    """

    whole_batches = True

    def __init__(
        self,
        file: TokenFile,
        tokenizer: Any,
        ranges: Ranges,
        *,
        max_length: int,
        rows: int,
        masking: Masking | None = None,
        seed: int = 0,
    ) -> None:
        self._file, self._masking, self._seed = file, masking, seed
        self._template = template_of(tokenizer, False)
        self._types = "token_type_ids" in tokenizer.model_input_names
        pad = tokenizer.pad_token_id
        self._pad = int(pad) if pad is not None else separator_of(tokenizer)
        self._max_length = max_length
        self._documents = Pieces(ranges)
        self._count = len(self._documents)
        if not self._count:
            raise DataError("The corpus has no documents here: give more text.")
        sample = np.linspace(0, self._count - 1, min(self._count, _SAMPLED)).astype(np.int64)
        tokens = self._count * float(self._sizes(self._documents.begin(sample)).mean())
        batches = max(1, int(tokens / (rows * max_length)))
        self._pools = max(1, batches // _POOLED)
        self._per_pool = batches // self._pools
        self._pool: tuple[tuple[int, int], list[NDArray[np.int64]]] | None = None

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self._pools * self._per_pool

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """The batch `index` of epoch 0; further epochs follow on one another, `len` batches each."""
        epoch, place = divmod(index, len(self))
        pool, inside = divmod(place, self._per_pool)
        generator = np.random.default_rng((self._seed, epoch, place))
        ids, types, mask = self._assemble(self._batches(epoch, pool)[inside], generator)
        batch = {"input_ids": ids, "attention_mask": mask}
        if self._types:
            batch["token_type_ids"] = types
        if self._masking is not None:
            batch["labels"] = self._masking(ids, generator)
        return {name: torch.from_numpy(values) for name, values in batch.items()}

    def _batches(self, epoch: int, pool: int) -> list[NDArray[np.int64]]:
        """The documents of each batch of a pool; the last pool's is kept, since its batches follow on one another."""
        if self._pool is None or self._pool[0] != (epoch, pool):
            first, last = (self._count * number // self._pools for number in (pool, pool + 1))
            order = permuted(np.arange(first, last), self._count, (self._seed, epoch))
            documents = self._documents.begin(order)
            sizes = self._sizes(documents)
            by_length = np.argsort(sizes, kind="stable")
            sums = np.cumsum(sizes[by_length])
            shares = np.arange(1, self._per_pool) / self._per_pool
            cuts = np.searchsorted(sums, shares * sums[-1])
            # None is empty, however few the documents.
            number = np.arange(1, self._per_pool)
            cuts = np.clip(cuts, number, len(documents) - self._per_pool + number)
            batches = np.split(documents[by_length], cuts)
            shuffled = np.random.default_rng((self._seed, epoch, pool, 1)).permutation(len(batches))
            self._pool = ((epoch, pool), [batches[index] for index in shuffled])
        return self._pool[1]

    def _spans(self, documents: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where documents begin in the token file, and their tokens without the separator."""
        ends = self._file.ends
        begin = np.where(documents > 0, ends[np.maximum(documents - 1, 0)], 0)
        return begin, ends[documents] - 1 - begin

    def _sizes(self, documents: NDArray[np.int64]) -> NDArray[np.int64]:
        """Tokens of rows, with special ones."""
        return np.minimum(self._spans(documents)[1] + self._template.specials, self._max_length)

    def _assemble(
        self, documents: NDArray[np.int64], generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Ids, token types and attention mask, [documents, tokens]."""
        template, stream = self._template, self._file.tokens
        ahead, behind = len(template.before), len(template.after)
        begin, held = self._spans(documents)
        shown = np.minimum(held, self._max_length - template.specials)
        begin = begin + (generator.random(len(documents)) * (held - shown + 1)).astype(np.int64)
        longest = int(shown.max()) + template.specials
        width = min(-(-longest // _MULTIPLE) * _MULTIPLE, self._max_length)
        place = np.arange(width)[None, :]
        cut = (ahead + shown)[:, None]
        source = np.clip(begin[:, None] + place - ahead, 0, len(stream) - 1)
        ids = np.where(place < cut, stream[source], self._pad).astype(np.int64)
        types = np.where(place < cut, template.types[1], 0) * np.ones_like(ids)
        ids[:, :ahead], types[:, :ahead] = template.before, template.types[0]
        if behind:
            closing = (place >= cut) & (place < cut + behind)
            ids = np.where(closing, template.after[np.clip(place - cut, 0, behind - 1)], ids)
            types = np.where(closing, template.types[4], types)
        return ids, types, (place < cut + behind).astype(np.int64)
