"""The values of a label column in one form, whatever the file format: "1" in a CSV file is 1 in JSON."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np

from sparseml.data.rows import DataError, RawSplit, is_missing

Family = Literal["list", "bool", "int", "float", "str", "none"]

_BOOLEANS = {"true": True, "false": False}
_FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE)


@dataclass(frozen=True)
class LabelValues:
    """A label column."""

    family: Family  # the type of all values; "none" when every one is missing
    values: list[Any]  # one a row; None where the label is missing
    named: bool = False  # whether the source declares class names, which the values then are

    @property
    def any_present(self) -> bool:
        """Whether any row has a label; datasets write -1 for none."""
        return any(value is not None and value != -1 for value in self.values)


def read_labels(split: RawSplit, column: str) -> LabelValues:
    """Read a label column: missing values (None, NaN, "") become None, and text that is a number becomes one."""
    values = split.columns[column]
    names = split.class_names.get(column)
    if names:
        return _by_name(split, column, names)
    present = [value for value in values if not is_missing(value)]
    types = set(map(type, present))
    if others := types - {str, int, float, bool, list, tuple, np.ndarray}:
        wrong = next(iter(others))
        where = [row for row, value in enumerate(values) if isinstance(value, wrong)]
        raise DataError(
            f"Column {column!r} holds {wrong.__name__} values ({split.places.describe(where)}): a label is "
            "a text, a number, true or false, or a list of texts or integers."
        )
    if types == {str}:
        present = _parsed_lists(present)
        types = set(map(type, present))
    if types & {list, tuple, np.ndarray}:
        if str in types or types & {int, float, bool}:
            where = [
                row for row, value in enumerate(values) if not isinstance(value, list | tuple | np.ndarray)
            ]
            raise DataError(
                f"Column {column!r} holds lists, but not at {split.places.describe(where)}: labels are "
                "either all lists (several classes a row) or none is."
            )
        return _lists(values, present)
    family, canonical = _scalars(present)
    return LabelValues(family, _restore(values, canonical))


def spelling(split: RawSplit, column: str) -> dict[bool, str]:
    """How a column of texts spells true and false, such as "True"; {} where it holds booleans, or spells them twice."""
    found = {
        value.strip() for value in split.columns[column] if isinstance(value, str) and not is_missing(value)
    }
    spelled = {_BOOLEANS[text.lower()]: text for text in found}
    return spelled if len(spelled) == len(found) else {}


def companion_names(splits: Sequence[RawSplit], column: str) -> tuple[str, dict[int, str]] | None:
    """A column such as `label_name` and its name for each integer label; None unless some column maps one to one."""
    for candidate in _companions(column):
        holders = [split for split in splits if candidate in split.columns and column in split.columns]
        if not holders:
            continue
        pairs = set(chain.from_iterable(_pairs(split, column, candidate) for split in holders))
        one_to_one = len(pairs) == len({number for number, _ in pairs}) == len({text for _, text in pairs})
        named = all(
            isinstance(number, int) and isinstance(text, str) and text.strip() for number, text in pairs
        )
        if pairs and one_to_one and named:
            return candidate, dict(pairs)
    return None


def companion_columns(column: str, names: Sequence[str]) -> list[str]:
    """Those of `names` that would name the classes of the label column, and so are no input texts."""
    return [name for name in _companions(column) if name in names]


def _companions(column: str) -> list[str]:
    stem = column[:-1] if column.endswith("s") else column
    return [f"{stem}_{suffix}" for suffix in ("name", "names", "text", "texts", "str", "string")]


def _pairs(split: RawSplit, column: str, companion: str) -> set[tuple[Any, Any]]:
    labels, names = read_labels(split, column), split.columns[companion]
    if labels.family == "list":
        texts = read_labels(split, companion).values
        if any(len(ids or ()) != len(named or ()) for ids, named in zip(labels.values, texts, strict=True)):
            return {(None, None)}
        rows = zip(labels.values, texts, strict=True)
        return {pair for ids, named in rows if ids for pair in zip(ids, named, strict=True)}
    return {
        (label, name)
        for label, name in zip(labels.values, names, strict=True)
        if label is not None and (label != -1 or name)
    }


def _restore(values: Sequence[Any], canonical: list[Any]) -> list[Any]:
    """Put None back where a value is missing; a value parsed as NaN is missing, too."""
    rest = iter(canonical)
    restored = [None if is_missing(value) else next(rest) for value in values]
    return [None if isinstance(value, float) and math.isnan(value) else value for value in restored]


def _by_name(split: RawSplit, column: str, names: tuple[str, ...]) -> LabelValues:
    table: dict[Any, str | None] = {None: None, -1: None, **dict(enumerate(names))}
    values = split.columns[column]
    try:
        if any(isinstance(value, list | tuple) for value in values):
            listed = [None if ids is None else [str(table[label]) for label in ids] for ids in values]
            return LabelValues("list", listed, named=True)
        return LabelValues("str", [table[label] for label in values], named=True)
    except KeyError as error:
        wrong = error.args[0]
        where = [row for row, value in enumerate(values) if value == wrong]
        raise DataError(
            f"Column {column!r} holds {wrong!r} ({split.places.describe(where)}), but declares "
            f"{len(names)} classes: 0 ({names[0]}) to {len(names) - 1} ({names[-1]})."
        ) from error


def _parsed_lists(present: list[Any]) -> list[Any]:
    """Lists that a CSV file can only hold as text, such as "[1, 2]" or "['joy']"; anything else unchanged."""
    if not all(value.strip().startswith("[") and value.strip().endswith("]") for value in present):
        return present
    try:
        parsed = [ast.literal_eval(value.strip()) for value in present]
    except (ValueError, SyntaxError):
        return present
    return parsed if all(isinstance(value, list) for value in parsed) else present


def _lists(values: Sequence[Any], present: list[Any]) -> LabelValues:
    lists = [list(value) for value in present]
    if _are_multi_hot(lists):
        lists = [[index for index, flag in enumerate(row) if flag] for row in lists]
    flat = [item.item() if isinstance(item, np.generic) else item for row in lists for item in row]
    if not set(map(type, flat)) <= {str, int, float, bool}:
        raise DataError("The label lists hold something other than texts and numbers.")
    _, canonical = _scalars(flat)
    items = iter(canonical)
    return LabelValues("list", _restore(values, [[next(items) for _ in row] for row in lists]))


def _are_multi_hot(lists: list[list[Any]]) -> bool:
    """Whether the lists are multi-hot rows: of one length, and with repetitions or floats, unlike lists of ids."""
    lengths = set(map(len, lists))
    if len(lengths) != 1 or lengths <= {0, 1} or not set(chain.from_iterable(lists)) <= {0, 1}:
        return False
    return any(len(set(row)) < len(row) for row in lists) or any(isinstance(item, float) for item in lists[0])


def _scalars(present: list[Any]) -> tuple[Family, list[Any]]:
    """The family of the values, and the values converted to it."""
    if not present:
        return "none", []
    types = set(map(type, present))
    if types == {bool}:
        return "bool", present
    distinct = set(present)
    as_int = {value: _integer(value) for value in distinct}
    if bool not in types and None not in as_int.values():
        return "int", [as_int[value] for value in present]
    as_float = {value: as_number(value) for value in distinct}
    if bool not in types and None not in as_float.values():
        return "float", [as_float[value] for value in present]
    texts = {value: str(value).strip() for value in distinct}
    if {text.lower() for text in texts.values()} <= _BOOLEANS.keys():
        return "bool", [_BOOLEANS[texts[value].lower()] for value in present]
    return "str", [texts[value] for value in present]


def _integer(value: Any) -> int | None:
    if isinstance(value, str):
        text = value.strip()
        # "007" is a code, not the number 7.
        return int(text) if re.fullmatch(r"-?(0|[1-9]\d{0,17})", text) else None
    return None if isinstance(value, float) else int(value)


def as_number(value: Any) -> float | None:
    """A number, or text that is one (but no code such as "007"), as float; None for anything else."""
    if isinstance(value, str):
        text = value.strip()
        leading_zero = re.match(r"[+-]?0\d", text)
        return float(text) if _FLOAT.fullmatch(text) and not leading_zero else None
    return float(value)


def class_name(value: Any) -> str:
    """The name of a class that is only known by its value."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
