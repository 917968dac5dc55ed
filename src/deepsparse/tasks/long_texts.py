"""Tasks with one output a row, whose long texts may be read in windows: their settings, and the windows' pooling."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deepsparse.deployment import Deployment
from deepsparse.errors import EngineError, ModelError
from deepsparse.tasks.base import Outputs, OutputT, PredictionT, Row, Sequences
from deepsparse.tasks.text_inputs import TextTask
from resparse.long_texts import WHOLE, LongTexts, long_texts_of, pool, starts_of

if TYPE_CHECKING:
    from deepsparse.tokenizer import Tokenizer

_NAMES = {"read": "long_texts", "stride": "window_stride", "pooling": "window_pooling", "most": "max_windows"}


class LongTextTask(TextTask[PredictionT, OutputT], ABC):
    """A task of texts whose `logits` are (rows, ...).

    Args:
        long_texts, window_stride, window_pooling, max_windows: in place of the deployment's; see `LongTexts`.

    Raises:
        ModelError: what the deployment's configuration says of long texts makes no sense.
        EngineError: what the caller says of them makes none.
    """

    def __init__(
        self,
        deployment: Deployment,
        *,
        long_texts: str | None = None,
        window_stride: int | None = None,
        window_pooling: str | None = None,
        max_windows: int | None = None,
    ) -> None:
        super().__init__(deployment)
        try:
            kept = long_texts_of(deployment.config)
        except ValueError as error:
            raise ModelError(f"{deployment.config_file}: {error}.") from error
        try:
            self.long_texts: LongTexts = kept.changed(
                read=long_texts, stride=window_stride, pooling=window_pooling, most=max_windows
            )
        except ValueError as error:
            name, _, rest = str(error).partition(" ")
            raise EngineError(f"{_NAMES[name]} {rest}.") from error
        self.windows = self.long_texts.windows
        if self.windows:
            self.truncation = WHOLE
            # Windows are as long as in training where nobody asks for another length.
            self.usual_length = self.long_texts.length or self.usual_length

    def sequences(self, tokenizer: Tokenizer, rows: Sequence[Row]) -> Sequences:
        if not self.windows:
            return super().sequences(tokenizer, rows)
        cuts = tokenizer.cut(rows, self.long_texts)
        return Sequences(
            [window for cut in cuts for window in cut.windows],
            starts_of(len(cut.windows) for cut in cuts),
            longer=sum(cut.longer for cut in cuts),
            unread=sum(cut.unread for cut in cuts),
        )

    def reduce(self, outputs: Outputs) -> Outputs:
        """One output a row: its windows' logits, pooled."""
        if outputs.starts is None:
            return outputs
        first = [outputs.encodings[start] for start in outputs.starts[:-1]]
        arrays: dict[str, Any] = {
            name: pool(array, outputs.starts, self.long_texts.pooling)
            for name, array in outputs.arrays.items()
        }
        return Outputs(arrays, first)
