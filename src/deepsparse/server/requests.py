"""What may stand in the body of a request, and the one clear sentence for everything else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from deepsparse.errors import InputError
from deepsparse.inputs import Row, parse_rows
from resparse.errors import did_you_mean

INFER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["sequences"],
    "additionalProperties": False,
    "properties": {
        "sequences": {
            "description": "A text, a list of texts, or a list of [text, text] pairs.",
            "anyOf": [
                {"type": "string"},
                {
                    "type": "array",
                    "items": {
                        "anyOf": [
                            {"type": "string"},
                            {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2},
                        ]
                    },
                },
            ],
        },
        "top_k": {"type": "integer", "minimum": 1, "description": "Labels for each text, best first."},
    },
    "example": {"sequences": ["What a day!", "Not again."]},
}
_SECONDS = {"type": "number", "minimum": 0.1, "maximum": 10}
BENCHMARK_SCHEMA: dict[str, Any] = {
    **INFER_SCHEMA,
    "properties": {"sequences": INFER_SCHEMA["properties"]["sequences"], "seconds": _SECONDS},
    "example": {"sequences": ["What a day!"], "seconds": 1},
}


class NotJsonError(InputError):
    """A body that is no JSON."""


@dataclass(frozen=True)
class InferRequest:
    """Texts to classify; `top_k` is None where the endpoint's own is meant."""

    rows: list[Row]
    top_k: int | None


@dataclass(frozen=True)
class BenchmarkRequest:
    """Texts to classify again and again for some seconds."""

    rows: list[Row]
    seconds: float


def parse_infer(body: bytes) -> InferRequest:
    """Read the body of a request to classify.

    Raises:
        InputError: no JSON, unknown fields, no texts; says what and where.
    """
    content = _object(body, INFER_SCHEMA)
    top_k = content.get("top_k")
    if top_k is not None and (type(top_k) is not int or top_k < 1):
        raise InputError(f"top_k is {json.dumps(top_k)}; wanted is a whole number from 1 on.")
    return InferRequest(parse_rows(content["sequences"]), top_k)


def parse_benchmark(body: bytes) -> BenchmarkRequest:
    """Read the body of a request to measure.

    Raises:
        InputError: as `parse_infer`.
    """
    content = _object(body, BENCHMARK_SCHEMA)
    seconds = content.get("seconds", 1)
    if type(seconds) not in (int, float) or not _SECONDS["minimum"] <= seconds <= _SECONDS["maximum"]:
        raise InputError(f"seconds is {json.dumps(seconds)}; wanted is a number from 0.1 to 10.")
    rows = parse_rows(content["sequences"])
    if not rows:
        raise InputError("sequences is empty: there is nothing to measure.")
    return BenchmarkRequest(rows, float(seconds))


def parse_object(body: bytes) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        NotJsonError: it is none; with the place.
    """
    try:
        content = json.loads(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise NotJsonError("The body is no UTF-8 text.") from error
    except json.JSONDecodeError as error:
        hint = (
            " (within a string, control characters are written \\n, \\u0000, ...)"
            if "control" in error.msg
            else ""
        )
        raise NotJsonError(
            f"The body is no JSON: line {error.lineno}, column {error.colno}: {error.msg}{hint}."
        ) from error
    except RecursionError as error:
        raise NotJsonError("The body is nested too deeply.") from error
    if not isinstance(content, dict):
        raise InputError('The body has to be an object such as {"sequences": ["What a day!"]}.')
    return content


def _object(body: bytes, schema: dict[str, Any]) -> dict[str, Any]:
    content = parse_object(body)
    known = list(schema["properties"])
    for name in content:
        if name not in known:
            raise InputError(f"There is no field {name[:60]!r}. {did_you_mean(name[:60], known)}")
    if "sequences" not in content:
        raise InputError('The field "sequences" is missing: a text, or a list of texts.')
    return content
