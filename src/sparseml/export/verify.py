"""Verification of an export: the outputs of PyTorch and of ONNX Runtime are compared row by row.

A quantized model is not continuous: a result that is rounded otherwise in its last digit occasionally rounds a value to
the next step of its 8-bit grid, and the following layers amplify that. So an export's differences are judged by how far
PyTorch's own answers to the same rows move when its products are rounded otherwise (`rounding.py`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
import torch
from torch import Tensor

from resparse.arrays import Array
from resparse.confidence import Confidence
from resparse.long_texts import pool
from resparse.progress import track
from resparse.thresholds import as_logit, threshold_of
from sparseml.data.rows import labels_text
from sparseml.export.rounding import OtherRounding
from sparseml.export.sessions import open_session
from sparseml.export.trace import ExportError
from sparseml.export.trained import Trained
from sparseml.tasks.base import Texts

# Minimum share of labels that agree: one a row, or one a token where every token has one.
AGREEMENT: Final = 0.999
# Margin of logits that counts as a tie, unless other rounding moves PyTorch's own logits of that row further.
TIE: Final = 0.05
# Mean difference of logits that is accepted without comparing PyTorch with itself.
MEAN_TOLERANCE: Final = 0.02
# The export's mean difference from PyTorch may be this many times that of PyTorch with other rounding.
ROUNDING_FACTOR: Final = 3.0

# How often rows with another label are computed with other rounding: a value that is a few units in the last place from
# the next step reaches it in one draw of dozens. Many such rows are no matter of rounding.
DRAWS: Final = 64
_DRAWS_OF_MANY: Final = 8
_MANY: Final = 16

_MAX_ROWS: Final = 1000
_SYNTHETIC_ROWS: Final = 64
_BATCH = 16
_NEVER_CHOSEN = -1e4


@dataclass(frozen=True)
class Comparison:
    """The logits of PyTorch and of ONNX Runtime for the same rows."""

    expected: Array  # PyTorch's logits [decisions, choices]; see `Task.decisions`
    actual: Array  # ONNX Runtime's logits, of the same shape
    rows: Sequence[Texts]  # the texts, one or two each
    kind: str  # the model's problem type
    rounded: Array | None = None  # PyTorch's logits with other rounding; None where not needed
    moved: Array | None = None  # by row, how far rounding moved it in some draws; 0 where labels agree
    row_of: Array | None = None  # the row [decisions] of each decision; None: one decision a row
    boundary: float | Array = 0.0  # of several labels, the logit above which one counts, or one for each

    @property
    def differ(self) -> bool:
        """Whether labels differ, or logits by more than MEAN_TOLERANCE."""
        return bool(self.flips.any()) or self._distance(self.actual) > MEAN_TOLERANCE

    @property
    def ties(self) -> Array:
        """By row, the margin of logits below which either label is accepted."""
        ties = np.full(len(self.rows), TIE)
        # Each of the margin's two logits may move this far.
        if self.rounded is not None:
            ties = np.maximum(ties, 2 * self._by_row(np.abs(self.expected - self.rounded).max(axis=1)))
        return ties if self.moved is None else np.maximum(ties, 2 * self.moved)

    @property
    def _near(self) -> Array:
        """`ties` by decision."""
        return self.ties if self.row_of is None else self.ties[self.row_of]

    @property
    def flips(self) -> Array:
        """By row, PyTorch's margin between its own label and the file's: 0 where they agree, small in a near tie."""
        return self._by_row(self._flipped())

    def _flipped(self) -> Array:
        """`flips` by decision."""
        if self.kind == "regression" or self.expected.shape[1] == 1:
            spread = max(float(self.expected.std()), 1.0)
            far = np.abs(self.expected - self.actual)[:, 0] / spread
            return np.where(far > 5 * TIE, far, 0.0)
        if self.kind == "multi_label_classification":
            above = self.expected - self.boundary
            differ = (above > 0) != (self.actual > self.boundary)
            return np.where(differ, np.abs(above), 0.0).max(axis=1)
        chosen = np.take_along_axis(self.expected, self.actual.argmax(axis=1)[:, None], axis=1)[:, 0]
        flips: Array = self.expected.max(axis=1) - chosen
        return flips

    @property
    def worst(self) -> int:
        """The decision with the largest flip, or else the largest difference of logits."""
        return int((np.abs(self.expected - self.actual).max(axis=1) + 1e6 * self._flipped()).argmax())

    @property
    def worst_row(self) -> list[str]:
        """The texts of that decision's row, truncated for messages."""
        row = self.worst if self.row_of is None else int(self.row_of[self.worst])
        return [text[:200] for text in self.rows[row]]

    def _by_row(self, values: Array) -> Array:
        """The maximum over each row's decisions."""
        if self.row_of is None:
            return values
        largest = np.zeros(len(self.rows), values.dtype)
        np.maximum.at(largest, self.row_of, values)
        return largest

    def _distance(self, other: Array) -> float:
        """The mean over rows of the largest absolute difference from the expected logits."""
        return float(self._by_row(np.abs(self.expected - other).max(axis=1)).mean())

    def facts(self) -> dict[str, Any]:
        """The comparison for the report."""
        own = {}
        if self.rounded is not None:
            own["pytorch_with_other_rounding"] = replace(self, actual=self.rounded).differences()
        return {
            "rows": len(self.rows),
            "labels": len(self.expected),
            **self.differences(),
            "near_ties": int(((self._flipped() > 0) & (self._flipped() <= self._near)).sum()),
            "tie": round(float(self.ties.max()), 6),
            **own,
            "worst_row": {
                "text": self.worst_row,
                "pytorch": _rounded(self.expected[self.worst]),
                "onnx": _rounded(self.actual[self.worst]),
            },
        }

    def differences(self) -> dict[str, float]:
        """Share of equal labels; largest, median, and mean (of rows' largest) difference of logits."""
        difference = np.abs(self.expected - self.actual)
        return {
            "label_agreement": round(float((self._flipped() == 0).mean()), 6),
            "largest_logit_difference": round(float(difference.max()), 6),
            "median_logit_difference": round(float(np.median(difference)), 6),
            "mean_logit_difference": round(self._distance(self.actual), 6),
        }

    def refuse_mismatch(self) -> None:
        """Raise an ExportError unless labels agree, near ties aside, and logits are about as close as to itself."""
        if not np.isfinite(self.actual).all():
            raise ExportError(
                "The exported model answers with numbers that are not finite; PyTorch does not."
            )
        clear, labels = int((self._flipped() > self._near).sum()), len(self.expected)
        if clear > (1 - AGREEMENT) * labels:
            self._refuse(
                f"{clear:,} of {labels_text(labels, len(self.rows))} get another label in ONNX Runtime than in PyTorch"
            )
        distance = self._distance(self.actual)
        own = 0.0 if self.rounded is None else self._distance(self.rounded)
        accepted = max(MEAN_TOLERANCE, ROUNDING_FACTOR * own)
        if distance > accepted:
            self._refuse(
                f"its logits are {distance:.4f} away from PyTorch's on average, where {accepted:.4f} would be "
                "explained by rounding"
            )

    def _refuse(self, what: str) -> NoReturn:
        texts = " | ".join(map(repr, self.worst_row))
        raise ExportError(
            f"The exported model is not the trained one: {what}. The worst row: {texts}\n"
            f"  PyTorch's logits:      {_rounded(self.expected[self.worst])}\n"
            f"  ONNX Runtime's logits: {_rounded(self.actual[self.worst])}\n"
            "Nothing was deployed. This is a fault of the export, not of the model: please report it."
        )


def compare(trained: Trained, file: Path, rows: Sequence[Texts]) -> Comparison:
    """Run PyTorch and ONNX Runtime on the same rows, and PyTorch with other rounding too where they differ."""
    session = open_session(file)
    names = list(trained.task.output_names)
    by_length = np.asarray(sorted(range(len(rows)), key=lambda index: sum(map(len, rows[index]))), np.int64)

    def run(
        compute: Callable[[dict[str, Tensor]], Sequence[Array]], why: str, order: Array
    ) -> tuple[Array, Array]:
        """Logits [decisions, choices] in the order of the rows, and each decision's row."""
        logits, whose = [], []
        for start in track(range(0, len(order), _BATCH), why):
            batch_rows = order[start : start + _BATCH]
            outputs, mask = _outputs(trained, [rows[index] for index in batch_rows], compute)
            decided, owner = trained.task.decisions(outputs, mask)
            logits.append(decided)
            whose.append(batch_rows[owner])
        owner = np.concatenate(whose)
        by_row = np.argsort(owner, kind="stable")
        return _concatenate(logits)[by_row], owner[by_row]

    def pytorch(batch: dict[str, Tensor]) -> list[Array]:
        with torch.no_grad():
            outputs = trained.model(**batch)
        return [outputs[name].float().numpy() for name in names]

    def onnxruntime(batch: dict[str, Tensor]) -> list[Array]:
        outputs: list[Array] = session.run(names, {name: tensor.numpy() for name, tensor in batch.items()})
        return outputs

    expected, owners = run(pytorch, "comparing with PyTorch", by_length)
    actual, _ = run(onnxruntime, "comparing with PyTorch", by_length)
    kind = trained.model.config.problem_type or "single_label_classification"
    config = trained.model.config
    values = config.to_dict()
    labels = [str(name) for _, name in sorted(config.id2label.items())]
    # Thresholds are of probabilities at the model's temperature.
    boundary = as_logit(threshold_of(values, labels)) * Confidence.of(values).temperature
    comparison = Comparison(expected, actual, rows, kind, row_of=owners, boundary=boundary)
    if not comparison.differ:
        return comparison
    with OtherRounding(0):
        rounded, _ = run(pytorch, "comparing PyTorch with itself", by_length)
    comparison = replace(comparison, rounded=rounded)
    unclear = by_length[(comparison.flips > comparison.ties)[by_length]]
    moved = np.zeros(len(rows))
    draws = DRAWS if len(unclear) <= _MANY else _DRAWS_OF_MANY
    for draw in range(1, draws + 1) if len(unclear) else ():
        with OtherRounding(draw):
            again, owner = run(pytorch, "comparing PyTorch with itself", unclear)
        # The same decisions in the same order, of these rows alone.
        before = expected[np.isin(owners, unclear)][:, : again.shape[1]]
        np.maximum.at(moved, owner, np.abs(before - again).max(axis=1))
    return replace(comparison, moved=moved)


def _outputs(
    trained: Trained, rows: Sequence[Texts], compute: Callable[[dict[str, Tensor]], Sequence[Array]]
) -> tuple[dict[str, Array], Array]:
    """A model's outputs for a batch of rows by name, and the attention mask; of windows, the rows' pooled outputs."""
    names = trained.task.output_names
    if not trained.long_texts.windows:
        encoded = trained.encode(rows)
        fed = {name: encoded[name] for name in trained.inputs}
        return dict(zip(names, compute(fed), strict=True)), encoded["attention_mask"].numpy()
    encoded, starts = trained.windows(rows)
    fed = {name: encoded[name] for name in trained.inputs}
    found = [
        compute({name: tensor[first : first + _BATCH] for name, tensor in fed.items()})
        for first in range(0, starts[-1], _BATCH)
    ]
    whole = [np.concatenate(parts) for parts in zip(*found, strict=True)]
    outputs = {
        name: pool(array, starts, trained.long_texts.pooling)
        for name, array in zip(names, whole, strict=True)
    }
    return outputs, encoded["attention_mask"][starts[:-1]].numpy()


def _rounded(values: Array) -> list[float]:
    return [round(float(value), 4) for value in values]


def _concatenate(parts: Sequence[Array]) -> Array:
    """[decisions, choices] of all batches; choices that a batch lacks are padded with values that are never chosen."""
    most = max(part.shape[1] for part in parts)
    padded = [
        np.pad(part, ((0, 0), (0, most - part.shape[1])), constant_values=_NEVER_CHOSEN) for part in parts
    ]
    return np.concatenate(padded)


def evenly_spaced(rows: Sequence[Texts], most: int = _MAX_ROWS) -> list[Texts]:
    """At most `most` rows, evenly spaced over all."""
    if len(rows) <= most:
        return list(rows)
    return [rows[index * len(rows) // most] for index in range(most)]


def synthetic_texts(tokenizer: Any, limit: int, count: int = _SYNTHETIC_ROWS) -> list[Texts]:
    """Texts of words from the vocabulary, of zero to more than `limit` tokens; always the same ones."""
    words = sorted(
        word
        for token in tokenizer.get_vocab()
        if (word := token.lstrip("Ġ▁#")).isalpha() and token not in tokenizer.all_special_tokens
    )
    source = random.Random(0)
    longest = min(limit, 512)
    lengths = [0, 1, 2, longest, *(round(longest ** (index / count)) for index in range(count - 4))]
    return [(" ".join(source.choices(words or ["a"], k=length)),) for length in lengths[:count]]
