"""The columns whose texts a model was trained on, in its configuration: one text a row, or two, and under which names.

Kept so that a file that holds several texts is read as the training file was, and so that a model of pairs is not asked
about single texts, or the reverse, which it would answer without a word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

KEY: Final = "text_columns"
_MOST: Final = 2


def text_columns_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The names that a configuration holds, in the order in which the model reads them; () where it has none.

    Raises:
        ValueError: what it holds makes no sense.
    """
    stated = config.get(KEY)
    if stated is None:
        return ()
    is_list = isinstance(stated, list | tuple) and all(isinstance(name, str) for name in stated)
    if not is_list or not 1 <= len(stated) <= _MOST:
        raise ValueError(f"{KEY} is {stated!r:.80}; wanted are the names of one or two columns")
    return tuple(stated)


def trained_on(columns: Sequence[str]) -> str:
    """What a model that was trained on these columns reads, for messages."""
    names = " and ".join(map(repr, columns))
    return f"one text (of a column {names})" if len(columns) == 1 else f"pairs of texts (of columns {names})"
