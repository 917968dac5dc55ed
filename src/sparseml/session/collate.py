"""Rows to a padded batch of tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DataCollatorWithPadding

_TOKENS = ("input_ids", "attention_mask", "token_type_ids")


class Collate:
    """Pads token ids to the longest row of the batch, and stacks labels and the teacher's logits.

    Args:
        tokenizer: whose padding token to use.
        labels_as_float: labels are scores or rows of zeros and ones, not class ids.
        multiple_of: pad to a multiple of this many tokens; 8 suits tensor cores.
    """

    def __init__(self, tokenizer: Any, labels_as_float: bool = False, multiple_of: int | None = None) -> None:
        self._pad = DataCollatorWithPadding(tokenizer, pad_to_multiple_of=multiple_of)
        self._label_type = torch.float32 if labels_as_float else torch.int64

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Rows with `input_ids`, `attention_mask`, perhaps `token_type_ids`, `labels`, `teacher_logits`.

        Returns:
            The same names: [batch, tokens] int64; labels [batch] or [batch, labels]; teacher_logits [batch, labels].
        """
        batch = dict(self._pad([{key: row[key] for key in _TOKENS if key in row} for row in rows]))
        if "labels" in rows[0]:
            batch["labels"] = torch.tensor([row["labels"] for row in rows], dtype=self._label_type)
        if "teacher_logits" in rows[0]:
            batch["teacher_logits"] = torch.from_numpy(
                np.asarray([row["teacher_logits"] for row in rows], dtype=np.float32)
            )
        return batch
