"""Routes under which clients of other servers find a text classifier: vLLM's /classify, Text Embeddings Inference's
/predict."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from deepsparse.errors import InputError
from deepsparse.server.endpoints import Endpoint
from deepsparse.server.requests import parse_object
from deepsparse.tasks.base import Outputs
from resparse.arrays import Array

_TEXTS: Final = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
_NO_EFFECT: Final = frozenset(
    {"user", "truncate", "truncation_direction", "truncate_prompt_tokens", "priority"}
)

CLASSIFY: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["input"],
    "properties": {
        "model": {"type": "string", "description": "The name of an endpoint; by default the first."},
        "input": {**_TEXTS, "description": "A text, or a list of texts."},
    },
    "example": {"input": ["What a day!"]},
}
"""The body of a request to /classify."""

PREDICT: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "inputs": {
            "description": "A text; a pair of texts; or a list of lists of one or two texts.",
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2},
                {
                    "type": "array",
                    "minItems": 1,
                    "items": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2},
                },
            ],
        },
        "raw_scores": {"type": "boolean", "description": "Logits in the place of scores."},
    },
    "example": {"inputs": "What a day!"},
}
"""The body of a request to /predict."""


@dataclass(frozen=True)
class ClassifyRequest:
    """A request to /classify.

    Attributes:
        model: the name of an endpoint; None: the first.
        texts: to classify.
    """

    model: str | None
    texts: list[str]


@dataclass(frozen=True)
class PredictRequest:
    """A request to /predict.

    Attributes:
        rows: lists of one or two texts.
        is_batch: whether they came as a list of rows, so that the answer is one too.
        raw: whether logits are wanted.
    """

    rows: list[list[str]]
    is_batch: bool
    raw: bool


def parse_classify(content: bytes) -> ClassifyRequest:
    """Read a request to /classify.

    Raises:
        InputError: it is none; says what is wrong.
    """
    fields = _fields(content, CLASSIFY)
    model, texts = fields.get("model"), fields.get("input")
    if model is not None and not isinstance(model, str):
        raise InputError("model is no text: the name of an endpoint.")
    if isinstance(texts, str):
        texts = [texts]
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise InputError("input is wanted: a text, or a list of texts. (Token ids are not taken.)")
    return ClassifyRequest(model, texts)


def parse_predict(content: bytes) -> PredictRequest:
    """Read a request to /predict; raises as `parse_classify`."""
    fields = _fields(content, PREDICT)
    inputs, raw = fields.get("inputs"), fields.get("raw_scores", False)
    if not isinstance(raw, bool):
        raise InputError("raw_scores is true or false.")
    if isinstance(inputs, str):
        return PredictRequest([[inputs]], False, raw)
    if isinstance(inputs, list) and _is_row(inputs):
        return PredictRequest([inputs], False, raw)
    if isinstance(inputs, list) and inputs and all(map(_is_row, inputs)):
        return PredictRequest(inputs, True, raw)
    raise InputError("inputs is wanted: a text, a pair of texts, or a list of lists of one or two texts.")


async def classify(endpoint: Endpoint, asked: ClassifyRequest) -> dict[str, Any]:
    """vLLM's answer: of each text the best label, and the probabilities of all in the model's order."""
    outputs = await endpoint.outputs(endpoint.pipeline.handler.parse_rows(asked.texts))
    names, scores = _scores(endpoint, outputs)
    tokens = sum(len(encoding.ids) for encoding in outputs.encodings)
    return {
        "id": f"classify-{uuid.uuid4().hex}",
        "object": "list",
        "created": int(time.time()),
        "model": endpoint.name,
        "data": [
            {"index": index, "label": names[row.argmax()], "probs": row.tolist(), "num_classes": len(row)}
            for index, row in enumerate(scores)
        ],
        "usage": {
            "prompt_tokens": tokens,
            "total_tokens": tokens,
            "completion_tokens": 0,
            "prompt_tokens_details": None,
        },
    }


async def predict(endpoint: Endpoint, asked: PredictRequest) -> list[Any]:
    """The answer of Text Embeddings Inference: all labels with their scores, best first; a list for each row."""
    outputs = await endpoint.outputs(endpoint.pipeline.handler.parse_rows(asked.rows))
    names, values = _scores(endpoint, outputs, asked.raw)
    orders = np.argsort(-values, axis=1, kind="stable").tolist()
    found = [
        [{"label": names[index], "score": float(row[index])} for index in order]
        for order, row in zip(orders, values, strict=True)
    ]
    return found if asked.is_batch else found[0]


def _scores(endpoint: Endpoint, outputs: Outputs, raw: bool = False) -> tuple[tuple[str, ...], Array]:
    handler = endpoint.pipeline.handler
    labels = handler.label_set
    if labels is None:
        raise InputError(
            f"{endpoint.name} is a {handler.noun}; this route is for those that give labels to texts."
        )
    logits = outputs.arrays["logits"]
    return labels.names, logits if raw else labels.scores(logits)


def _fields(content: bytes, schema: Mapping[str, Any]) -> dict[str, Any]:
    fields = parse_object(content)
    known = schema["properties"]
    for name, value in fields.items():
        if name not in known and (name not in _NO_EFFECT or isinstance(value, dict | list)):
            raise InputError(
                f"There is no field {name[:60]!r}; there are {', '.join(known)}, as {json.dumps(schema['example'])}."
            )
    return fields


def _is_row(value: Any) -> bool:
    return isinstance(value, list) and 1 <= len(value) <= 2 and all(isinstance(text, str) for text in value)
