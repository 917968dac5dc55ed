"""The embeddings in a graph: tables whose rows are added up, and how positions are counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from deepsparse.errors import UnsupportedError
from deepsparse.native import settings
from deepsparse.native.encoder import AddedLast, Grid, Positions, Table
from deepsparse.native.matching import Matcher
from deepsparse.native.quantized import rounded
from resparse.arrays import Array

WORDS: Final = "input_ids"
TYPES: Final = "token_type_ids"

_LAST: Final = {
    "words": AddedLast.WORDS,
    "positions": AddedLast.POSITIONS,
    "token types": AddedLast.TYPES,
}


@dataclass
class Embeddings:
    """As in `Encoder`."""

    words: Table
    positions: Table | None
    types: Table | None
    numbering: Positions
    takes_types: bool
    sums: tuple[Grid | None, Grid | None]
    added_last: AddedLast


def embeddings(matcher: Matcher, value: str) -> Embeddings:
    """The embedding tables whose rows are added up to a value.

    Raises:
        UnsupportedError: something else is added, or a table is missing.
    """
    tables: dict[str, Table] = {}
    numbering = Positions()
    takes_types = False
    order, sums = _sum(matcher, value)
    for term in order:
        table, index = _lookup(matcher, term)
        index_name = matcher.through(index)
        if index_name == WORDS:
            kind = "words"
        elif index_name == TYPES or _always_zero(matcher, index_name):
            kind = "token types"
            takes_types = index_name == TYPES
        else:
            kind = "positions"
            numbering = _numbering(matcher, index_name)
        if kind in tables:
            raise UnsupportedError(f"it adds two tables of {kind}")
        tables[kind] = table
    if "words" not in tables:
        raise UnsupportedError("its embeddings have no table of words")
    if len({table.rows.shape[1] for table in tables.values()}) > 1:
        raise UnsupportedError("its tables of embeddings differ in width")
    last = _LAST[next(reversed(tables))] if len(tables) > 2 else AddedLast.POSITIONS
    return Embeddings(
        tables["words"],
        tables.get("positions"),
        tables.get("token types"),
        numbering,
        takes_types,
        sums,
        last,
    )


def _sum(matcher: Matcher, value: str) -> tuple[list[str], tuple[Grid | None, Grid | None]]:
    """The terms of a sum in the order in which they are added, and as `Embeddings.sums`."""
    of_all, inner = rounded(matcher, value)
    terms = matcher.terms(inner)
    for term in terms:
        grid, before = rounded(matcher, term)
        parts = matcher.terms(before) if grid is not None else []
        if len(parts) > 1:
            if len(terms) != 2 or len(parts) != 2:
                matcher.refuse(
                    value, "a sum of three tables that is rounded after each addition", settings.EMBEDDINGS
                )
            return [*parts, *(one for one in terms if one != term)], (grid, of_all)
    return terms, (None, of_all)


def _lookup(matcher: Matcher, term: str) -> tuple[Table, str]:
    """An embedding table, and the value that indexes it."""
    grid, term = rounded(matcher, term)
    table, index = _table_of(matcher, term)
    return (_rounded(table, grid) if grid is not None else table), index


def _rounded(table: Table, grid: Grid) -> Table:
    rows = table.rows if table.scale == 0 else table.rows * np.float32(table.scale)
    scale = np.float32(grid.scale)
    least, most = grid.least - grid.zero_point, grid.most - grid.zero_point
    return Table(np.clip(np.rint(rows / scale), least, most).astype(np.float32) * scale, 0.0)


def _table_of(matcher: Matcher, term: str) -> tuple[Table, str]:
    read = matcher.producer(term, "DequantizeLinear")
    gather = matcher.needed(read.inputs[0] if read is not None else term, "Gather")
    stored = matcher.producer(gather.inputs[0], "DequantizeLinear")
    if read is None and stored is not None and matcher.scalar(stored.inputs[1]) is not None:
        # Dequantized before it is read, which is the same.
        read, name = stored, stored.inputs[0]
    else:
        name = gather.inputs[0]
    rows = matcher.constant(name)
    if rows is None or rows.ndim != 2 or gather.attributes.get("axis", 0) != 0:
        raise UnsupportedError(f"{gather.inputs[0]!r} is no constant table")
    if read is None:
        if rows.dtype != np.float32:
            raise UnsupportedError(f"the table {gather.inputs[0]!r} holds {rows.dtype}", settings.PRECISION)
        return Table(rows, 0.0), gather.inputs[1]
    scale = matcher.scalar(read.inputs[1])
    zero_point = matcher.scalar(read.inputs[2]) if len(read.inputs) > 2 else 0.0
    if scale is None or zero_point is None or not (np.isfinite(scale) and scale > 0):
        raise UnsupportedError(f"the table {gather.inputs[0]!r} has no single scale", settings.EMBEDDINGS)
    return _table(rows, scale, zero_point), gather.inputs[1]


def _table(rows: Array, scale: float, zero_point: float) -> Table:
    """As int8 with zero point 0 where that can say it, else as float32."""
    if rows.dtype == np.int8 and zero_point == 0:
        return Table(rows, scale)
    if rows.dtype not in (np.int8, np.uint8):
        raise UnsupportedError(f"a table holds {rows.dtype}", settings.EMBEDDINGS)
    centred = rows.astype(np.int16) - np.int16(zero_point)
    if centred.min(initial=0) >= -128 and centred.max(initial=0) <= 127:
        return Table(centred.astype(np.int8), scale)
    return Table(centred.astype(np.float32) * np.float32(scale), 0.0)


def _always_zero(matcher: Matcher, index_name: str) -> bool:
    """Whether an index is always 0, as for token types that are no input."""
    for _ in range(2):
        node = matcher.producer(index_name, "GatherElements")
        index_name = matcher.through(node.inputs[0]) if node is not None else index_name
    found = matcher.constant(index_name)
    return found is not None and not found.any()


def _numbering(matcher: Matcher, index_name: str) -> Positions:
    """How positions are computed.

    Raises:
        UnsupportedError: in an unknown way.
    """
    sliced = matcher.producer(index_name, "Slice")
    if sliced is not None:
        numbers, start = matcher.constant(sliced.inputs[0]), matcher.scalar(sliced.inputs[1])
        is_range = numbers is not None and np.array_equal(numbers.reshape(-1), np.arange(numbers.size))
        if is_range and start == 0 and matcher.constant(sliced.inputs[2]) is None:
            return Positions()
    shifted = matcher.producer(index_name, "Add")
    offset = 0.0
    if shifted is not None:
        numbers_of = [matcher.scalar(name) for name in shifted.inputs]
        offset = next((number for number in numbers_of if number is not None), 0.0)
        index_name = next(
            (matcher.through(name) for name in shifted.inputs if matcher.constant(name) is None), index_name
        )
    padding = _counted(matcher, index_name)
    if padding is None:
        raise UnsupportedError(f"the positions {index_name!r} are counted in a way of their own")
    return Positions(padding, int(offset))


def _counted(matcher: Matcher, index_name: str) -> int | None:
    """The padding id of `CumSum(ids != padding) * (ids != padding)`; None where a value is computed otherwise."""
    product = matcher.producer(index_name, "Mul")
    if product is None:
        return None
    factors = [matcher.through(name) for name in product.inputs]
    sums = [node for node in (matcher.producer(factor, "CumSum") for factor in factors) if node is not None]
    if len(sums) != 1 or matcher.scalar(sums[0].inputs[1]) != 1:
        return None
    if sums[0].attributes.get("exclusive") or sums[0].attributes.get("reverse"):
        return None
    counted = matcher.through(sums[0].inputs[0])
    differs = matcher.producer(counted, "Not")
    equal = matcher.producer(differs.inputs[0], "Equal") if differs is not None else None
    if counted not in factors or equal is None or WORDS not in equal.inputs:
        return None
    padding = next((matcher.scalar(name) for name in equal.inputs if name != WORDS), None)
    return None if padding is None else int(padding)
