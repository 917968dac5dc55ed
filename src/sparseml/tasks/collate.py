"""From encoded rows to a batch: what the tasks of texts have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from torch import Tensor

_INPUTS: Final = ("input_ids", "attention_mask", "token_type_ids")


class Collate:
    """Pads token ids behind the text to the longest row of the batch; a subclass adds what is to be learned.

    Args:
        tokenizer: whose padding token to use.
        multiple_of: pad to a multiple of this many tokens.
    """

    def __init__(self, tokenizer: Any, multiple_of: int | None = None) -> None:
        self._tokenizer = tokenizer
        self._multiple_of = multiple_of

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Encoded rows to [batch, tokens] int64 each, and their `targets`."""
        inputs = [{name: row[name] for name in _INPUTS if name in row} for row in rows]
        batch = self._tokenizer.pad(
            inputs, padding_side="right", pad_to_multiple_of=self._multiple_of, return_tensors="pt"
        )
        return {**batch, **self.targets(rows, batch["input_ids"].shape[1])}

    def targets(self, rows: Sequence[Mapping[str, Any]], tokens: int) -> dict[str, Tensor]:
        """The labels, and whatever else is learned, of rows padded to `tokens`; none where rows have none."""
        raise NotImplementedError
