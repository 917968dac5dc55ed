"""Token classification: texts or words in, the tags of their tokens or the entities that these make out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from deepsparse.deployment import Deployment
from deepsparse.errors import EngineError, InputError, ModelError
from deepsparse.rows import TableError
from deepsparse.tasks.base import Outputs, Task, TaskOutput
from deepsparse.tasks.label_set import softmax
from deepsparse.tasks.tagged import Tagged, TokenClassificationResult
from deepsparse.tasks.text_inputs import encodable, has_text, kind
from resparse.arrays import Array
from resparse.column_names import TEXTS, WORDS, by_name
from resparse.errors import did_you_mean
from resparse.tags import OUTSIDE
from resparse.words import joined, owners, places, written_list

if TYPE_CHECKING:
    from tokenizers import Encoding

    from deepsparse.tokenizer import Tokenizer

Row = str | tuple[str, ...]
"""A text, or its words."""

STRATEGIES: Final = ("none", "simple", "first", "average", "max")
"""How the tags of tokens become entities; see `TokenClassification`."""

_STRATEGY: Final = {
    "enum": list(STRATEGIES),
    "description": "Whole entities, rather than tokens: simple, or by words: first, average, max.",
}


@dataclass(frozen=True)
class TokenClassificationOutput(TaskOutput):
    """The tokens or entities of all texts, in the order of the input."""

    predictions: list[list[TokenClassificationResult]]

    def tensors(self) -> Mapping[str, Sequence[Any]]:
        """Each text's list as JSON."""
        return {"predictions": [json.dumps([asdict(one) for one in row]) for row in self.predictions]}


class TokenClassification(Task[Tagged, TokenClassificationOutput]):
    """The tags of a text's tokens, or its entities. Texts that are too long for one run are read in windows.

    Args:
        aggregation_strategy: "none" gives tokens; "simple" joins neighbouring tokens of a type to entities; "first",
            "average" and "max" join words, whose tag is that of their first token, of the mean of their tokens'
            probabilities, or of their surest token.
        ignore_labels: tags and types that are left out; by default "O".

    Raises:
        EngineError: an unknown strategy, or labels that are no list of texts.
    """

    name = "token_classification"
    aliases = ("ner",)
    noun = "tagger"
    token_level = True
    offsets = True
    windows = True
    request: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "required": ["inputs"],
        "additionalProperties": False,
        "properties": {
            "inputs": {
                "description": "A text or a list of texts; where they are split, the words of one or of several.",
                "anyOf": [
                    {"type": "string"},
                    {
                        "type": "array",
                        "items": {
                            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
                        },
                    },
                ],
            },
            "is_split_into_words": {
                "type": "boolean",
                "description": "Whether a list of texts is one of words.",
            },
            "aggregation_strategy": _STRATEGY,
        },
        "example": {"inputs": "Mary flies from Nairobi to New York."},
    }
    example: ClassVar[Mapping[str, Any]] = {"inputs": "What a day!"}

    def __init__(
        self,
        deployment: Deployment,
        *,
        aggregation_strategy: str = "none",
        ignore_labels: Sequence[str] | None = None,
    ) -> None:
        super().__init__(deployment)
        self.names = deployment.label_names()
        asked = str(aggregation_strategy).strip().lower()
        if asked not in STRATEGIES:
            raise EngineError(
                f"aggregation_strategy={aggregation_strategy!r}: there is none. {did_you_mean(asked, STRATEGIES)}"
            )
        ignored = [OUTSIDE] if ignore_labels is None else ignore_labels
        if isinstance(ignored, str) or not all(isinstance(label, str) for label in ignored):
            raise EngineError(f"ignore_labels={ignore_labels!r}: a list of labels is wanted.")
        self.aggregation_strategy, self.ignore_labels = asked, list(ignored)

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> list[Row]:
        if "inputs" not in fields:
            raise InputError('The field "inputs" is missing: a text, or a list of texts.')
        inputs, split = fields["inputs"], fields.get("is_split_into_words", False)
        if not isinstance(split, bool):
            raise InputError(f"is_split_into_words is {kind(split)}; wanted is true or false.")
        if not split:
            return cls.parse_rows(inputs)
        if hasattr(inputs, "tolist"):
            inputs = inputs.tolist()
        if not isinstance(inputs, list | tuple):
            raise InputError(f"inputs is {kind(inputs)}; of words, a list is wanted.")
        if all(isinstance(word, str) for word in inputs):
            return [cls._row(inputs, "inputs")]
        return [cls._row(words, f"inputs[{place}]") for place, words in enumerate(inputs)]

    @classmethod
    def parse_rows(cls, inputs: Any) -> list[Row]:
        if not isinstance(inputs, str) and hasattr(inputs, "tolist"):
            inputs = inputs.tolist()
        if isinstance(inputs, str):
            return [cls._row(inputs, "The text")]
        if not isinstance(inputs, list | tuple):
            raise InputError(f"inputs is {kind(inputs)}; wanted: a text, or a list of texts.")
        return [cls._row(text, f"inputs[{place}]") for place, text in enumerate(inputs)]

    @classmethod
    def parse_values(cls, values: Sequence[Any], where: str) -> Row:
        """The row of a file's value; a list that is written as text, as CSV holds one, is words as in training."""
        value = values[0]
        words = written_list(value) if isinstance(value, str) else None
        return cls._row(value if words is None else list(map(str, words)), where)

    @classmethod
    def _row(cls, value: Any, where: str) -> Row:
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            raise InputError(f"{where} is {kind(value)}; wanted: a text, or a list of words.")
        if not all(map(encodable, texts)):
            raise InputError(f"{where} is no Unicode text: it holds half of a surrogate pair.")
        if not any(map(has_text, texts)):
            raise InputError(f"{where} is empty: there is nothing to tag.")
        return value if isinstance(value, str) else tuple(value)

    @classmethod
    def options(cls, fields: Mapping[str, Any]) -> dict[str, Any]:
        strategy = fields.get("aggregation_strategy")
        if strategy is None:
            return {}
        if strategy not in STRATEGIES:
            raise InputError(f"aggregation_strategy is {strategy!r}; wanted: {', '.join(STRATEGIES)}.")
        return {"aggregation_strategy": strategy}

    @classmethod
    def usual_columns(cls, available: Sequence[str], path: Path) -> list[str]:
        found = by_name((*TEXTS, *WORDS), available)
        if found is None and len(available) == 1:
            found = available[0]
        if found is None:
            raise TableError(
                f"Which column of {path} holds the text? Choose with --input_column_names: {', '.join(available)}."
            )
        return [found]

    def fit(self, max_length: int, special: int) -> int:
        """A quarter of what a window holds is also in its neighbour, so that each token has some text on both sides."""
        if max_length <= special:
            raise EngineError(f"sequence_length={max_length} leaves no room for a text.")
        self.stride = max(0, max_length - special) // 4
        return self.stride

    def encode(self, tokenizer: Tokenizer, rows: Sequence[Row]) -> list[Encoding]:
        return tokenizer.encode([row if isinstance(row, str) else joined(row) for row in rows], offsets=True)

    def check(self, outputs: Outputs) -> None:
        logits = outputs.arrays["logits"][0]
        if logits.ndim != 2 or logits.shape[1] != len(self.names):
            raise ModelError(
                f"{self.deployment.config_file} names {len(self.names)} tags, but the model gives an array of shape "
                f"{logits.shape} a text. They are not of one model: export again, or mend id2label."
            )

    def decode(self, rows: Sequence[Row], outputs: Outputs, **options: Any) -> list[Tagged]:
        return [self._tagged(row, place, outputs) for place, row in enumerate(rows)]

    def _tagged(self, row: Row, place: int, outputs: Outputs) -> Tagged:
        """The tokens of a row's windows, each in the window where it is further from the end."""
        windows = outputs.sequences(place)
        pieces: list[str] = []
        spans: list[tuple[int, int]] = []
        owner: list[int | None] = []
        index: list[int] = []
        logits: list[Array] = []
        special = 0
        for window in windows:
            encoding, values = outputs.encodings[window], np.asarray(outputs.arrays["logits"][window])
            if values.ndim != 2 or not np.isfinite(values).all():
                raise ModelError(
                    f"The model gives no finite number for row {place}: its weights hold NaN, or overflow. Export it "
                    "again from a sound checkpoint."
                )
            inside = [token for token, flag in enumerate(encoding.special_tokens_mask) if not flag]
            special = inside[0] if inside and window == windows.start else special
            shared = min(self.stride, len(inside)) if window > windows.start else 0
            # Of the tokens that two windows share, the first half is the earlier one's.
            kept = shared // 2
            drop = shared - kept
            for held in (pieces, spans, owner, logits):
                del held[len(held) - drop :]
            for token in inside[kept:]:
                pieces.append(encoding.tokens[token])
                spans.append(encoding.offsets[token])
                owner.append(encoding.word_ids[token])
                logits.append(values[token])
        index = [special + position for position in range(len(pieces))]
        offsets = np.asarray(spans, np.int64).reshape(-1, 2)
        text = row if isinstance(row, str) else joined(row)
        scores = softmax(np.stack(logits).astype(np.float32)) if logits else np.empty((0, len(self.names)))
        if isinstance(row, str):
            words = _numbered(owner)
            return Tagged(text, pieces, index, offsets, scores, words, self.names)
        words = owners(offsets, places(row))
        inside_words = np.flatnonzero(words >= 0)
        return Tagged(
            text,
            [pieces[token] for token in inside_words],
            [index[token] for token in inside_words],
            offsets[inside_words],
            scores[inside_words],
            words[inside_words],
            self.names,
            len(row),
        )

    def output(
        self, predictions: Sequence[Tagged], aggregation_strategy: str | None = None, **options: Any
    ) -> TokenClassificationOutput:
        strategy = aggregation_strategy or self.aggregation_strategy
        return TokenClassificationOutput([one.results(strategy, self.ignore_labels) for one in predictions])

    def columns(self) -> list[str]:
        return ["predicted_entities"]

    def values(self, prediction: Tagged) -> list[Any]:
        """The entities as JSON; by words, where the pipeline gives tokens."""
        strategy = "first" if self.aggregation_strategy == "none" else self.aggregation_strategy
        found = prediction.results(strategy, self.ignore_labels)
        entities = [
            {
                "entity": one.entity,
                "score": round(one.score, 6),
                "word": one.word,
                "start": one.start,
                "end": one.end,
            }
            for one in found
        ]
        return [json.dumps(entities, ensure_ascii=False)]


def _numbered(owner: Sequence[int | None]) -> Array:
    """The words of tokens; each token that is of none is one of its own."""
    numbers, before, count = [], None, -1
    for word in owner:
        if word is None or word != before:
            count += 1
        before = word
        numbers.append(count)
    return np.asarray(numbers, np.int64)
