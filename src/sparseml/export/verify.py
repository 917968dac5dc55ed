"""Whether the exported file computes what the model computes: their outputs compared, row by row.

A quantized model is not a continuous function: floating-point sums in another order now and then round a value to
another step of its 8-bit grid, and the layers after it follow. Two runs of PyTorch itself, in float32 and with its sums
in float64, then differ in the logits of many rows, and in the labels of one or two in a thousand. So an export's
differences are compared with PyTorch's own.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from resparse.arrays import Array
from resparse.progress import track
from sparseml.export.trace import ExportError
from sparseml.tasks.base import Task, Texts

AGREEMENT: Final = 0.999
"""Share of rows whose label must be the same, at least."""

TIE: Final = 0.05
"""Logits closer than this are a tie; so are those closer than float64 sums move PyTorch's own."""

CLOSE: Final = 0.02
"""A mean difference of logits that needs no explanation."""

MOST_OF_OWN: Final = 3.0
"""How many times further the export may be from PyTorch, on average, than PyTorch is from its own float64 sums."""

MOST: Final = 1000
"""Rows compared at most."""

_MADE_UP: Final = 64
_BATCH = 16
_NEVER = -1e4


@dataclass(frozen=True)
class Answers:
    """What PyTorch and the file computed for the same rows.

    Attributes:
        expected, got: logits [decisions, choices] of PyTorch and of the file in ONNX Runtime; see `Task.decisions`.
        rows: the texts, one or two each.
        kind: the problem type of the model.
        exact: logits of PyTorch with its sums in float64; None where there was nothing to explain.
        row_of: the row [decisions] that each decision belongs to; None where every row has one.
    """

    expected: Array
    got: Array
    rows: Sequence[Texts]
    kind: str
    exact: Array | None = None
    row_of: Array | None = None

    @property
    def need_explaining(self) -> bool:
        """Whether labels differ, or logits by more than a little."""
        return bool(self.flips.any()) or self._distance(self.got) > CLOSE

    @property
    def tie(self) -> float:
        """Margin of logits below which either label is right."""
        if self.exact is None:
            return TIE
        # Of the two logits of a margin each may move so far.
        return max(TIE, 2 * float(np.abs(self.expected - self.exact).max()))

    @property
    def flips(self) -> Array:
        """For every row how far PyTorch's logits are from the label that the file gives; 0 where they agree."""
        return self._by_row(self._flipped())

    def _flipped(self) -> Array:
        """`flips` for every decision."""
        if self.kind == "regression" or self.expected.shape[1] == 1:
            spread = max(float(self.expected.std()), 1.0)
            far = np.abs(self.expected - self.got)[:, 0] / spread
            return np.where(far > 5 * TIE, far, 0.0)
        if self.kind == "multi_label_classification":
            differ = (self.expected > 0) != (self.got > 0)
            return np.where(differ, np.abs(self.expected), 0.0).max(axis=1)
        chosen = np.take_along_axis(self.expected, self.got.argmax(axis=1)[:, None], axis=1)[:, 0]
        flips: Array = self.expected.max(axis=1) - chosen
        return flips

    @property
    def worst(self) -> int:
        """The decision whose label differs the most clearly, or else whose logits do."""
        return int((np.abs(self.expected - self.got).max(axis=1) + 1e6 * self._flipped()).argmax())

    @property
    def worst_row(self) -> list[str]:
        """The texts of its row, cut to what fits a message."""
        row = self.worst if self.row_of is None else int(self.row_of[self.worst])
        return [text[:200] for text in self.rows[row]]

    def _by_row(self, values: Array) -> Array:
        """The largest value among each row's decisions."""
        if self.row_of is None:
            return values
        largest = np.zeros(len(self.rows), values.dtype)
        np.maximum.at(largest, self.row_of, values)
        return largest

    def _distance(self, other: Array) -> float:
        """The rows' largest difference from the expected logits, on average."""
        return float(self._by_row(np.abs(self.expected - other).max(axis=1)).mean())

    def facts(self) -> dict[str, Any]:
        """For the report; the keys say what they are."""
        own = {} if self.exact is None else {"pytorch_against_its_float64_sums": self._own.differences()}
        return {
            "rows": len(self.rows),
            **self.differences(),
            "near_ties": int(((self.flips > 0) & (self.flips <= self.tie)).sum()),
            "tie": round(self.tie, 6),
            **own,
            "worst_row": {
                "text": self.worst_row,
                "pytorch": _rounded(self.expected[self.worst]),
                "onnx": _rounded(self.got[self.worst]),
            },
        }

    def differences(self) -> dict[str, float]:
        """Share of rows with the same label; largest, median and mean (of the rows' largest) difference of logits."""
        difference = np.abs(self.expected - self.got)
        return {
            "label_agreement": round(float((self.flips == 0).mean()), 6),
            "largest_logit_difference": round(float(difference.max()), 6),
            "median_logit_difference": round(float(np.median(difference)), 6),
            "mean_logit_difference": round(self._distance(self.got), 6),
        }

    @property
    def _own(self) -> Answers:
        """PyTorch's answers beside those of its float64 sums."""
        assert self.exact is not None
        return replace(self, got=self.exact, exact=None)

    def refuse_mismatch(self) -> None:
        """Check that the labels are the same, near ties aside, and the logits as near as PyTorch is to itself.

        Raises:
            ExportError: they are not; shows the worst row.
        """
        if not np.isfinite(self.got).all():
            raise ExportError(
                "The exported model answers with numbers that are not finite; PyTorch does not."
            )
        clear = int((self.flips > self.tie).sum())
        if clear > (1 - AGREEMENT) * len(self.rows):
            self._refuse(
                f"{clear} of {len(self.rows)} rows get another label in ONNX Runtime than in PyTorch"
            )
        distance = self._distance(self.got)
        own = CLOSE if self.exact is None else max(CLOSE, MOST_OF_OWN * self._distance(self.exact))
        if distance > own:
            self._refuse(
                f"its logits are {distance:.4f} away from PyTorch's on average, where {own:.4f} would be explained by "
                "the order of sums"
            )

    def _refuse(self, what: str) -> NoReturn:
        texts = " | ".join(map(repr, self.worst_row))
        raise ExportError(
            f"The exported model is not the trained one: {what}. The worst row: {texts}\n"
            f"  PyTorch's logits:      {_rounded(self.expected[self.worst])}\n"
            f"  ONNX Runtime's logits: {_rounded(self.got[self.worst])}\n"
            "Nothing was deployed. This is a fault of the export, not of the model: please report it."
        )


class ExactSums(TorchFunctionMode):
    """Within: matrix products add up in float64, and give what they give otherwise, in float32."""

    _PRODUCTS: Final = frozenset({F.linear, torch.matmul, Tensor.matmul, F.scaled_dot_product_attention})

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Compute `func`, a product in float64."""
        kwargs = kwargs or {}
        if func not in self._PRODUCTS:
            return func(*args, **kwargs)
        return func(*map(_double, args), **{key: _double(value) for key, value in kwargs.items()}).float()


def compare(
    task: Task,
    model: Any,
    file: Path,
    tokenizer: Any,
    inputs: Sequence[str],
    rows: Sequence[Texts],
    limit: int,
) -> Answers:
    """Run PyTorch and ONNX Runtime on the same rows, in batches padded to their longest.

    Where they differ, PyTorch runs once more with its sums in float64: that shows how far it is from itself.

    Args:
        task: says what the outputs decide.
        model: in evaluation mode, fake-quantized where it is quantized.
        file: the exported model.
        inputs: names of the graph's inputs.
        rows: one or two texts each.
        limit: tokens to truncate texts to.

    Raises:
        ExportError: ONNX Runtime cannot run the file.
    """
    session = open_session(file)
    names = list(task.output_names)
    order = np.asarray(sorted(range(len(rows)), key=lambda index: sum(map(len, rows[index]))), np.int64)

    def run(compute: Callable[[dict[str, Tensor]], Sequence[Array]], why: str) -> tuple[Array, Array]:
        """Logits [decisions, choices] in the order of the rows, and each decision's row."""
        logits, owners = [], []
        for start in track(range(0, len(order), _BATCH), why):
            batch_rows = order[start : start + _BATCH]
            texts = map(list, zip(*(rows[index] for index in batch_rows), strict=True))
            encoded = tokenizer(*texts, truncation=True, max_length=limit, padding=True, return_tensors="pt")
            outputs = compute({name: encoded[name] for name in inputs})
            decided, owner = task.decisions(
                dict(zip(names, outputs, strict=True)), encoded["attention_mask"].numpy()
            )
            logits.append(decided)
            owners.append(batch_rows[owner])
        owner = np.concatenate(owners)
        by_row = np.argsort(owner, kind="stable")
        return _stacked(logits)[by_row], owner[by_row]

    def pytorch(batch: dict[str, Tensor]) -> list[Array]:
        with torch.no_grad():
            outputs = model(**batch)
        return [outputs[name].float().numpy() for name in names]

    def onnxruntime(batch: dict[str, Tensor]) -> list[Array]:
        found: list[Array] = session.run(names, {name: tensor.numpy() for name, tensor in batch.items()})
        return found

    expected, owner = run(pytorch, "comparing with PyTorch")
    got, _ = run(onnxruntime, "comparing with PyTorch")
    kind = model.config.problem_type or "single_label_classification"
    answers = Answers(expected, got, rows, kind, row_of=owner)
    if not answers.need_explaining:
        return answers
    with ExactSums():
        exact, _ = run(pytorch, "comparing PyTorch with itself")
    return replace(answers, exact=exact)


def open_session(file: Path) -> Any:
    """An ONNX Runtime session on the CPU.

    Raises:
        ExportError: it does not load the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common base of their own
        reason = str(error).splitlines()[0]
        raise ExportError(f"ONNX Runtime does not load the exported model: {reason}") from error


def _rounded(values: Array) -> list[float]:
    return [round(float(value), 4) for value in values]


def _stacked(parts: Sequence[Array]) -> Array:
    """[decisions, choices] of all batches; where these differ in their choices, the missing ones are never chosen."""
    most = max(part.shape[1] for part in parts)
    padded = [np.pad(part, ((0, 0), (0, most - part.shape[1])), constant_values=_NEVER) for part in parts]
    return np.concatenate(padded)


def _double(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def spread(rows: Sequence[Texts], most: int = MOST) -> list[Texts]:
    """At most `most` rows, evenly spread over all."""
    if len(rows) <= most:
        return list(rows)
    return [rows[index * len(rows) // most] for index in range(most)]


def made_up(tokenizer: Any, limit: int, count: int = _MADE_UP) -> list[Texts]:
    """Texts of words of the vocabulary, of zero to more than `limit` tokens; the same ones every time."""
    words = sorted(
        word
        for token in tokenizer.get_vocab()
        if (word := token.lstrip("Ġ▁#")).isalpha() and token not in tokenizer.all_special_tokens
    )
    source = random.Random(0)
    longest = min(limit, 512)
    lengths = [0, 1, 2, longest, *(round(longest ** (index / count)) for index in range(count - 4))]
    return [(" ".join(source.choices(words or ["a"], k=length)),) for length in lengths[:count]]
