"""Question answering: a question and a passage in, the part of the passage that answers it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from deepsparse.deployment import Deployment
from deepsparse.errors import EngineError, InputError, ModelError
from deepsparse.rows import TableError
from deepsparse.tasks.base import Outputs, Task, TaskOutput, check_positive
from deepsparse.tasks.text_inputs import encodable, has_text, kind
from resparse.column_names import CONTEXTS, QUESTIONS, by_name
from resparse.spans import Decision, Reading, Window, decide, reading_of, room

if TYPE_CHECKING:
    from tokenizers import Encoding

    from deepsparse.tokenizer import Tokenizer

Question = tuple[str, str]
"""A question and its passage."""

# A longer n-best list of one request would be mere work.
_MOST_CANDIDATES = 100
_TEXTS: Mapping[str, Any] = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
}


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one question.

    Attributes:
        answer: its text; "" where the passage has none.
        score: the logit of its first token as a start, plus that of its last as an end.
        start, end: its characters in the passage; both 0 for no answer.
        decision: all candidates, with their probabilities.
        context: the passage.
    """

    answer: str
    score: float
    start: int
    end: int
    decision: Decision
    context: str

    def candidates(self, count: int) -> list[dict[str, Any]]:
        """The best `count` candidates; where a threshold decided for or against an answer, the first is another."""
        return [
            {
                "answer": self.context[one.start : one.end],
                "probability": one.probability,
                "score": one.score,
                "start": one.start,
                "end": one.end,
            }
            for one in self.decision.candidates[:count]
        ]


@dataclass(frozen=True)
class QuestionAnsweringOutput(TaskOutput):
    """The answer to a question; of several questions, lists of their order.

    Attributes:
        score, answer, start, end: see `Answer`.
    """

    score: float | list[float]
    answer: str | list[str]
    start: int | list[int]
    end: int | list[int]


@dataclass(frozen=True)
class QuestionAnsweringCandidates(QuestionAnsweringOutput):
    """An answer with the best candidates, where `top_k` asks for them.

    Attributes:
        candidates: of each question, best first: `answer`, `probability` among all candidates, `score`, `start`, `end`.
    """

    candidates: list[list[dict[str, Any]]]


class QuestionAnswering(Task[Answer, QuestionAnsweringOutput]):
    """The answer to a question about a passage.

    Of each setting, the default is what the deployment says; where it does not, DeepSparse's.

    Args:
        doc_stride: tokens that neighbouring windows of a long passage have in common.
        max_question_length: tokens that a question is cut to.
        max_answer_length: tokens of an answer at most.
        n_best_size: candidates that are kept.
        version_2_with_negative: whether a passage may have no answer.
        null_score_diff_threshold: by how much "no answer" must score above the best answer to be given.
        num_spans: windows that are read of a passage at most; None for all.
        pad_to_max_length: without effect: nothing is padded.

    Raises:
        EngineError: a setting that makes no sense.
        ModelError: the deployment has one.
    """

    name = "question_answering"
    aliases = ("qa",)
    noun = "model that answers questions"
    request: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "required": ["question", "context"],
        "additionalProperties": False,
        "properties": {
            "question": {"description": "A question, or a list of them.", **_TEXTS},
            "context": {
                "description": "The passage with the answer; or a list, one for each question.",
                **_TEXTS,
            },
            "top_k": {
                "type": "integer",
                "minimum": 1,
                "maximum": _MOST_CANDIDATES,
                "description": "Give so many candidates, too.",
            },
        },
    }
    example: ClassVar[Mapping[str, Any]] = {"question": "Where is it?", "context": "It is here."}
    output_names = ("start_logits", "end_logits")
    token_level = True
    rows_have = range(2, 3)
    made_of = "two columns, the question's and the context's"
    offsets = True
    truncation = "only_second"
    windows = True

    def __init__(
        self,
        deployment: Deployment,
        *,
        doc_stride: int | None = None,
        max_question_length: int | None = None,
        max_answer_length: int | None = None,
        n_best_size: int | None = None,
        version_2_with_negative: bool | None = None,
        null_score_diff_threshold: float | None = None,
        num_spans: int | None = None,
        pad_to_max_length: bool = True,
    ) -> None:
        super().__init__(deployment)
        check_positive("num_spans", num_spans)
        self.num_spans = num_spans
        try:
            own = reading_of(deployment.config)
        except ValueError as error:
            raise ModelError(f"{deployment.config_file}: {error}.") from error
        try:
            self.reading: Reading = own.changed(
                doc_stride=doc_stride,
                max_question_length=max_question_length,
                max_answer_length=max_answer_length,
                n_best_size=n_best_size,
                version_2_with_negative=version_2_with_negative,
                null_score_diff_threshold=null_score_diff_threshold,
            )
        except ValueError as error:
            raise EngineError(f"{error}.") from None
        self.usual_length = self.reading.max_seq_length
        self._question_length = self.reading.max_question_length

    def fit(self, max_length: int, special: int) -> int:
        """Share a window's tokens out between question and passage."""
        if max_length < special + 2:
            raise EngineError(f"sequence_length={max_length} leaves no room for a question and its passage.")
        self._question_length, self.stride = room(self.reading, max_length, special)
        return self.stride

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> list[Question]:
        for name in ("question", "context"):
            if name not in fields:
                raise InputError(f'The field "{name}" is missing: the {_WHAT[name]}.')
        questions, contexts = (_texts(fields[name], name) for name in ("question", "context"))
        if isinstance(fields["context"], str):
            contexts *= len(questions)
        elif isinstance(fields["question"], str):
            questions *= len(contexts)
        if len(questions) != len(contexts):
            raise InputError(
                f"{len(questions)} questions, but {len(contexts)} contexts: one for each is wanted."
            )
        pairs = zip(questions, contexts, strict=True)
        single = len(questions) == 1
        return [
            cls.parse_values(pair, "The question" if single else f"question[{number}]")
            for number, pair in enumerate(pairs)
        ]

    @classmethod
    def parse_rows(cls, inputs: Any) -> list[Question]:
        """The rows of an object with `question` and `context`, a pair of these, or a list of either."""
        if isinstance(inputs, Mapping):
            return cls.parse(inputs)
        if isinstance(inputs, str) or not isinstance(inputs, Sequence):
            raise InputError(
                f"{kind(inputs)} is no question with its context: give question=... and context=...."
            )
        if len(inputs) == 2 and all(isinstance(text, str) for text in inputs):
            return [cls.parse_values(inputs, "The question")]
        return [cls._row(item, f"inputs[{number}]") for number, item in enumerate(inputs)]

    @classmethod
    def _row(cls, item: Any, where: str) -> Question:
        if isinstance(item, Mapping):
            for name in ("question", "context"):
                if name not in item:
                    raise InputError(f'{where} has no "{name}": the {_WHAT[name]}.')
            item = (item["question"], item["context"])
        if isinstance(item, str) or not isinstance(item, Sequence) or len(item) != 2:
            raise InputError(f"{where} is {kind(item)}; wanted: a question and its context.")
        return cls.parse_values(item, where)

    @classmethod
    def parse_values(cls, values: Sequence[Any], where: str) -> Question:
        for value, what in zip(values, ("question", "context"), strict=True):
            if not isinstance(value, str):
                raise InputError(f"{where}: the {what} is {kind(value)}, and not a text.")
            if not encodable(value):
                raise InputError(
                    f"{where}: the {what} is no Unicode text: it holds half of a surrogate pair."
                )
            if not has_text(value):
                raise InputError(f"{where}: the {what} is empty.")
        return values[0], values[1]

    @classmethod
    def options(cls, fields: Mapping[str, Any]) -> dict[str, Any]:
        top_k = fields.get("top_k")
        if top_k is None:
            return {}
        if not isinstance(top_k, int) or isinstance(top_k, bool) or not 1 <= top_k <= _MOST_CANDIDATES:
            raise InputError(f"top_k is {top_k!r}; wanted: a whole number from 1 to {_MOST_CANDIDATES}.")
        return {"top_k": top_k}

    @classmethod
    def usual_columns(cls, available: Sequence[str], path: Path) -> list[str]:
        found = [by_name(usual, available) for usual in (QUESTIONS, CONTEXTS)]
        if None in found:
            raise TableError(
                f"Which columns of {path} hold the question and its context? Choose with --input_column_names: "
                f"{', '.join(available)}."
            )
        return [name for name in found if name is not None]

    def encode(self, tokenizer: Tokenizer, rows: Sequence[Question]) -> list[Encoding]:
        """The windows of each row, of which `num_spans` are kept."""
        encodings = tokenizer.encode(self._shortened(tokenizer, rows), offsets=True)
        if self.num_spans is not None:
            for encoding in encodings:
                # The tokenizers library offers no way to drop what overflows.
                if len(encoding.overflowing) >= self.num_spans:
                    return [_Kept(each, self.num_spans) for each in encodings]  # type: ignore[misc]
        return encodings

    def _shortened(self, tokenizer: Tokenizer, rows: Sequence[Question]) -> list[Question]:
        """The rows with questions of no more tokens than there is room for."""
        most = self._question_length
        stripped = [(question.lstrip(), context) for question, context in rows]
        # Each token of ASCII text has a character or more of its own.
        long = [
            place
            for place, (question, _) in enumerate(stripped)
            if len(question) > most or not question.isascii()
        ]
        if long:
            # As the second text, since that is the one that truncation may cut.
            encoded = tokenizer.encode([("", stripped[place][0]) for place in long], offsets=True)
            for place, encoding in zip(long, encoded, strict=True):
                _, offsets = _passage(encoding)
                if len(offsets) > most:
                    question, context = stripped[place]
                    stripped[place] = question[: int(offsets[most - 1, 1])], context
        return stripped

    def decode(self, rows: Sequence[Question], outputs: Outputs, **options: Any) -> list[Answer]:
        starts, ends = (outputs.arrays[name] for name in self.output_names)
        found = []
        for row, (_, context) in enumerate(rows):
            windows = []
            for sequence in outputs.sequences(row):
                start, end = (np.asarray(values[sequence], np.float32) for values in (starts, ends))
                if start.ndim != 1 or start.shape != end.shape:
                    raise ModelError(
                        f"The model gives outputs of the shapes {start.shape} and {end.shape} for a text; a "
                        f"{self.noun} gives a number for each token. Was it exported for another task?"
                    )
                if not (np.isfinite(start).all() and np.isfinite(end).all()):
                    raise ModelError(
                        f"The model gives no finite number for row {row}: its weights hold NaN, or overflow. Export "
                        "it again from a sound checkpoint."
                    )
                windows.append(Window(start, end, *_passage(outputs.encodings[sequence])))
            decision = decide(windows, self.reading)
            chosen = decision.chosen
            text = context[chosen.start : chosen.end]
            found.append(Answer(text, chosen.score, chosen.start, chosen.end, decision, context))
        return found

    def output(
        self, predictions: Sequence[Answer], top_k: int | None = None, **options: Any
    ) -> QuestionAnsweringOutput:
        """The answer's fields; lists of them where several questions were asked."""
        names = ("score", "answer", "start", "end")
        lists: dict[str, Any] = {name: [getattr(answer, name) for answer in predictions] for name in names}
        fields = {name: values[0] for name, values in lists.items()} if len(predictions) == 1 else lists
        if top_k is None:
            return QuestionAnsweringOutput(**fields)
        return QuestionAnsweringCandidates(
            **fields, candidates=[one.candidates(top_k) for one in predictions]
        )

    def columns(self) -> list[str]:
        return ["predicted_answer", "predicted_score", "predicted_start", "predicted_end"]

    def values(self, prediction: Answer) -> list[Any]:
        return [prediction.answer, round(prediction.score, 6), prediction.start, prediction.end]


_WHAT = {"question": "text to be answered", "context": "passage that has the answer"}


class _Kept:
    """An encoding with fewer of its further windows."""

    def __init__(self, encoding: Encoding, count: int) -> None:
        self._encoding = encoding
        self.overflowing = encoding.overflowing[: count - 1]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoding, name)

    def __len__(self) -> int:
        return len(self._encoding)


def _passage(encoding: Encoding) -> tuple[int, Any]:
    """The position of the first token of the second text, and its tokens' characters, [tokens, 2]."""
    inside = [position for position, owner in enumerate(encoding.sequence_ids) if owner == 1]
    first = inside[0] if inside else 0
    offsets = encoding.offsets[first : first + len(inside)]
    return first, np.asarray(offsets, np.int64).reshape(-1, 2)


def _texts(value: Any, name: str) -> list[Any]:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list | tuple):
        raise InputError(f"{name} is {kind(value)}; wanted: a text, or a list of texts.")
    return list(value)
