"""What CSV and TSV files leave open: their delimiter, and quotes that are part of a text. One rule for all readers."""

from __future__ import annotations

from collections.abc import Sequence


def delimiter_of(ending: str, header: str) -> str:
    """The delimiter of a file: the tab where its name ends in .tsv; else, by its first line, the comma, and where there
    is none, `;`, tab or `|`.
    """
    if ending.lower() == ".tsv":
        return "\t"
    if "," in header:
        return ","
    return max(";\t|", key=header.count) if any(mark in header for mark in ";\t|") else ","


def are_rows_of_tabs(lines: Sequence[str], columns: int) -> bool:
    """Whether the lines of one quoted record of a TSV file are rows themselves, whose quotes are characters of a text.

    Many TSV files (GLUE's own) quote nothing. There a text that begins with a quote would take all rows up to the next
    quote at the end of a line into one. A quoted text with line breaks has a line without the other columns.

    Args:
        lines: of the record, as they stand in the file.
        columns: of the header.
    """
    return len(lines) > 1 < columns and all(line.count("\t") == columns - 1 for line in lines)
