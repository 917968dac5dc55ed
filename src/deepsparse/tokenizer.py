"""Text to token ids with the `tokenizers` library, equal to Transformers' from the same files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Encoding
from tokenizers import Tokenizer as RustTokenizer

from deepsparse.deployment import SPECIAL_TOKENS, TOKENIZER, TOKENIZER_CONFIG, Deployment, read_json
from deepsparse.errors import EngineError, ModelError
from resparse.arrays import Array
from resparse.console import say_once

# Transformers writes a number above this as the length of models without a limit.
_UNLIMITED = 10**9
# Their position ids begin after the padding token's id.
_OFFSET_POSITIONS = ("roberta", "camembert", "xlm-roberta", "longformer", "mpnet")

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""The inputs of a model that a tokenizer makes."""

USUAL_LENGTHS = (128, 384)
"""Default lengths that texts are truncated to, of pipelines (as in DeepSparse) and of evaluations."""


@dataclass(frozen=True)
class Padding:
    """How shorter rows of a batch are padded: with a token's id and type (`segment`); `left`: before the text."""

    token: int
    segment: int
    left: bool


@dataclass(frozen=True)
class Truncation:
    """How rows that are too long are cut.

    Attributes:
        strategy: which text of a pair is cut: "longest_first", "only_first" or "only_second".
        stride: tokens that neighbouring windows have in common; the rest of a row is in `Encoding.overflowing`.
        left: whether its beginning is cut off, not its end.
    """

    strategy: str = "longest_first"
    stride: int = 0
    left: bool = False


class Tokenizer:
    """A model's tokenizer.

    Attributes:
        max_length: tokens that a row is cut to, special ones included.
        pads_left: whether padding goes before the text.
    """

    def __init__(
        self, rust: RustTokenizer, padding: Padding, max_length: int, truncation: Truncation
    ) -> None:
        least = rust.num_special_tokens_to_add(is_pair=True) + 1
        if max_length < least:
            raise EngineError(
                f"sequence_length={max_length} leaves no room for text: {least} or more is wanted."
            )
        self.max_length = max_length
        self._padding = padding
        self.pads_left = padding.left
        self._rust = rust
        self._truncation = truncation
        rust.no_padding()
        self.set_stride(truncation.stride)

    @property
    def special(self) -> int:
        """Tokens that a row of two texts has beside those of its texts."""
        return int(self._rust.num_special_tokens_to_add(is_pair=True))

    def set_stride(self, stride: int) -> None:
        """Choose how many tokens neighbouring windows have in common; before the first row is encoded."""
        self._rust.enable_truncation(
            self.max_length,
            stride=stride,
            strategy=self._truncation.strategy,
            direction="left" if self._truncation.left else "right",
        )

    def encode(
        self, rows: Sequence[Any], offsets: bool = False, is_pretokenized: bool = False
    ) -> list[Encoding]:
        """Tokenize and truncate rows; safe to call from several threads.

        Args:
            rows: texts and pairs of texts; where they are split into words, lists of words and pairs of them.
            offsets: note each token's place in the text, which takes longer.
            is_pretokenized: whether rows are split into words.

        Raises:
            ModelError: the tokenizer lacks what it needs, such as its own unknown token.
        """
        encode = self._rust.encode_batch if offsets else self._rust.encode_batch_fast
        try:
            return encode(list(rows), is_pretokenized)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the library raises nothing more precise; its panics are no Exception
            raise ModelError(
                f"The model's {TOKENIZER} cannot tokenize this: {error}. Copy it again."
            ) from error

    def arrays(self, encodings: Sequence[Encoding], length: int, names: Sequence[str]) -> dict[str, Array]:
        """A batch's inputs: of the `names` that a tokenizer makes, arrays of int64, (rows, length), padded.

        `length` is in tokens, at least those of the longest row.
        """
        shape = (len(encodings), length)
        fills = {"input_ids": self._padding.token, "token_type_ids": self._padding.segment}
        made = {name: np.full(shape, fills.get(name, 0), np.int64) for name in INPUTS if name in names}
        for row, encoding in enumerate(encodings):
            count = len(encoding)
            place = slice(length - count, length) if self.pads_left else slice(0, count)
            for name, array in made.items():
                if name == "input_ids":
                    array[row, place] = encoding.ids
                elif name == "attention_mask":
                    array[row, place] = 1
                else:
                    array[row, place] = encoding.type_ids
        return made


def load_tokenizer(
    deployment: Deployment, sequence_length: int | None, strategy: str = "longest_first", stride: int = 0
) -> Tokenizer:
    """The tokenizer of a deployment folder.

    Args:
        sequence_length: tokens that a row is cut to; None for as many as the model takes.
        strategy, stride: see `Truncation`.

    Raises:
        ModelError: there is none, or it is damaged.
        EngineError: the length makes no sense.
    """
    path = deployment.folder / TOKENIZER
    if not path.is_file():
        raise ModelError(
            f"{path} is missing: without it, text cannot become tokens. Copy it from the checkpoint's folder, "
            "or export again."
        )
    try:
        rust = RustTokenizer.from_file(str(path))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library raises nothing more precise; its panics are no Exception
        raise ModelError(f"{path} is no tokenizer that can be read: {error}. Copy it again.") from error
    settings = _settings(deployment.folder)
    most = _model_length(settings, deployment.config)
    if sequence_length not in (None, *USUAL_LENGTHS) and most is not None and sequence_length > most:
        say_once(f"sequence_length {sequence_length} is more than the model takes: {most} used instead.")
    lengths = [length for length in (sequence_length, most) if length is not None]
    return Tokenizer(
        rust,
        _padding(rust, settings, deployment.config),
        min(lengths, default=512),
        Truncation(strategy, stride, left=settings.get("truncation_side") == "left"),
    )


def _settings(folder: Path) -> dict[str, Any]:
    """`tokenizer_config.json`, completed by `special_tokens_map.json`; either may be missing."""
    found: dict[str, Any] = {}
    for name in (SPECIAL_TOKENS, TOKENIZER_CONFIG):
        if (folder / name).is_file():
            found |= read_json(folder / name, "")
    return found


def _model_length(settings: Mapping[str, Any], config: Mapping[str, Any]) -> int | None:
    stated = settings.get("model_max_length")
    if isinstance(stated, int | float) and 0 < stated < _UNLIMITED:
        return int(stated)
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int) or positions < 1:
        return None
    if config.get("model_type") in _OFFSET_POSITIONS:
        return positions - (_identity(config.get("pad_token_id")) + 1)
    return positions


def _identity(value: Any) -> int:
    """The number of a token or type as a configuration gives it; 0 where it is none."""
    return value if isinstance(value, int) and 0 <= value < 1 << 31 else 0


def _padding(rust: RustTokenizer, settings: Mapping[str, Any], config: Mapping[str, Any]) -> Padding:
    token = settings.get("pad_token")
    if isinstance(token, Mapping):
        token = token.get("content")
    identity = rust.token_to_id(token) if isinstance(token, str) and token.isprintable() else None
    return Padding(
        # Padding is masked, so any token will do where none is named.
        token=_identity(config.get("pad_token_id") if identity is None else identity),
        segment=_identity(settings.get("pad_token_type_id")),
        left=settings.get("padding_side") == "left",
    )
