"""What a run reads of texts that are longer than the model takes: settled before they are tokenized, then said."""

from __future__ import annotations

from typing import Any

from resparse.console import say
from resparse.long_texts import KEY, LongTexts, long_texts_of
from sparseml.data.encode import sequence_limit
from sparseml.data.long_texts import LONGER, UNREAD, asked_for, facts
from sparseml.options.table import ArgumentError


def settle(asked: Any, config: Any, tokenizer: Any, learns: bool) -> None:
    """Put what is read of long texts into the data arguments and the model's configuration, in place.

    Args:
        asked: the data arguments; those of a task without such a choice stay as they are.
        config: the model's; a model that is only evaluated is read as it was trained, but for what is asked.

    Raises:
        ArgumentError: the configuration's settings make no sense.
    """
    if not hasattr(asked, KEY):
        return
    try:
        kept = LongTexts() if learns else long_texts_of(config.to_dict())
    except ValueError as error:
        raise ArgumentError(f"The model's config.json: {error}.") from error
    if kept.length is not None and asked.max_seq_length == type(asked).max_seq_length:
        asked.max_seq_length = kept.length  # nobody asked for the default
    settings = asked_for(asked, kept)
    asked.long_texts, asked.window_stride = settings.read, settings.stride
    asked.window_pooling, asked.max_windows = settings.pooling, settings.most
    if settings.windows:
        asked.max_seq_length = sequence_limit(tokenizer, asked.max_seq_length)
        if asked.window_stride >= asked.max_seq_length:
            raise ArgumentError(
                f"--window_stride {asked.window_stride}: neighbouring windows share fewer tokens than the "
                f"{asked.max_seq_length} of one."
            )
        setattr(config, KEY, asked_for(asked).stated())
    elif learns and hasattr(config, KEY):
        delattr(config, KEY)  # the start's


def read(asked: Any, rows: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    """What was read of long texts, said and as a part of report.json; {} for a task without such a choice."""
    if not hasattr(asked, KEY):
        return {}
    found = facts(rows, sequence_limit(tokenizer, asked.max_seq_length), asked_for(asked))
    splits = {name: entry for name, entry in found.items() if isinstance(entry, dict) and entry[LONGER]}
    for name, entry in splits.items():
        _say(name.replace("_", " "), entry, found["tokens"], found["read"] == "windows")
    return {KEY: found} if found else {}


def _say(split: str, found: dict[str, int], tokens: int, windows: bool) -> None:
    many = f"{found[LONGER]:,} of {found['rows']:,} {split} texts are longer than {tokens} tokens"
    if not windows:
        say(f"{many}, and are cut there (--long_texts windows reads all of them)")
        return
    rest = f"; of {found[UNREAD]:,} a part is not read (--max_windows)" if found[UNREAD] else ""
    say(f"{many}, and are read in windows{rest}")
