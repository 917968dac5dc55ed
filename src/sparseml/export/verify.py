"""Is the file the model? Answers compared row by row.

A quantized model is not a continuous function: floating-point sums in another order tip a value to the next step of its
8-bit grid now and then, and the steps after it follow. Two runs of PyTorch itself, in float32 and with its sums in
float64, then differ in the logits of a good part of the rows, and in the labels of one or two in a thousand. So an
export's differences are held against PyTorch's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from sparseml.export.onnx import ExportError

AGREEMENT: Final = 0.999
"""Least share of rows whose label must be the same."""

TIE: Final = 0.05
"""Two logits closer than this are a tie; or closer than PyTorch's own move when its sums are in float64."""

CLOSE: Final = 0.02
"""A difference of logits, on average over the rows, that needs no explanation."""

MOST_OF_OWN: Final = 3.0
"""How many times further the export may be from PyTorch, on average, than PyTorch is from its own float64 sums."""

_BATCH = 16

Row = tuple[str, ...]


@dataclass(frozen=True)
class Answers:
    """How PyTorch and the file answered the same rows.

    Attributes:
        expected, got: logits [rows, labels] of PyTorch and of the file in ONNX Runtime.
        rows: the texts, one or two each.
        kind: the problem type of the model.
        exact: logits of PyTorch with its sums in float64; None where there was nothing to explain.
    """

    expected: Array
    got: Array
    rows: Sequence[Row]
    kind: str
    exact: Array | None = None

    @property
    def need_explaining(self) -> bool:
        """Whether labels differ, or logits by more than a little."""
        return bool(self.flips.any()) or _distance(self.expected, self.got) > CLOSE

    @property
    def tie(self) -> float:
        """Margin of logits below which either label is right."""
        if self.exact is None:
            return TIE
        # Of the two logits of a margin each may move so far.
        return max(TIE, 2 * float(np.abs(self.expected - self.exact).max()))

    @property
    def flips(self) -> Array:
        """For every row how far PyTorch's answer is from the label that the file gives; 0 where they agree."""
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
        """The row whose label differs the most clearly, or else whose logits do."""
        return int((np.abs(self.expected - self.got).max(axis=1) + 1e6 * self.flips).argmax())

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
                "text": [text[:200] for text in self.rows[self.worst]],
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
            "mean_logit_difference": round(_distance(self.expected, self.got), 6),
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
        distance = _distance(self.expected, self.got)
        own = CLOSE if self.exact is None else max(CLOSE, MOST_OF_OWN * _distance(self.expected, self.exact))
        if distance > own:
            self._refuse(
                f"its logits are {distance:.4f} away from PyTorch's on average, where {own:.4f} would be explained by "
                "the order of sums"
            )

    def _refuse(self, what: str) -> NoReturn:
        texts = " | ".join(repr(text[:200]) for text in self.rows[self.worst])
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


def ask(
    model: Any, file: Path, tokenizer: Any, inputs: Sequence[str], rows: Sequence[Row], limit: int
) -> Answers:
    """Let PyTorch and ONNX Runtime answer the same rows, in batches padded to their longest.

    Where they differ, PyTorch answers once more with its sums in float64: that is how far it is from itself.

    Args:
        model: the classifier in evaluation mode, fake-quantized where it is quantized.
        file: the exported model.
        inputs: names of the graph's inputs.
        rows: one or two texts each.
        limit: tokens to cut texts at.

    Raises:
        ExportError: ONNX Runtime cannot run the file.
    """
    session = open_session(file)
    order = sorted(range(len(rows)), key=lambda index: sum(map(len, rows[index])))
    place = np.argsort(order)

    def batches(why: str) -> Iterator[dict[str, Tensor]]:
        for start in track(range(0, len(order), _BATCH), why):
            texts = map(list, zip(*(rows[index] for index in order[start : start + _BATCH]), strict=True))
            encoded = tokenizer(*texts, truncation=True, max_length=limit, padding=True, return_tensors="pt")
            yield {name: encoded[name] for name in inputs}

    def pytorch(batch: dict[str, Tensor]) -> Array:
        with torch.no_grad():
            logits: Array = model(**batch).logits.float().numpy()
        return logits

    expected, got = [], []
    for batch in batches("comparing with PyTorch"):
        expected.append(pytorch(batch))
        got.extend(session.run(["logits"], {name: tensor.numpy() for name, tensor in batch.items()}))
    kind = model.config.problem_type or "single_label_classification"
    answers = Answers(np.concatenate(expected)[place], np.concatenate(got)[place], rows, kind)
    if not answers.need_explaining:
        return answers
    with ExactSums():
        exact = [pytorch(batch) for batch in batches("comparing PyTorch with itself")]
    return replace(answers, exact=np.concatenate(exact)[place])


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


def _distance(left: Array, right: Array) -> float:
    """The rows' largest difference of logits, on average."""
    return float(np.abs(left - right).max(axis=1).mean())


def _double(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value
