"""Text files: UTF-8, or an error that names the byte."""

from __future__ import annotations

from pathlib import Path

from sparseml.data.errors import DataError


def decode(path: Path) -> str:
    """The text of a UTF-8 file, without a byte-order mark.

    Raises:
        DataError: the file is empty, or a byte is not UTF-8: with its line and column.
    """
    data = path.read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: the file is UTF-16, not UTF-8. {_conversion(path, 'UTF-16')}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # After a byte-order mark the codec counts from behind it.
        position = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
        line = data.count(b"\n", 0, position) + 1
        byte = position - data.rfind(b"\n", 0, position)
        raise DataError(
            f"{path}, line {line}, byte {byte} of the line: 0x{data[position]:02x} is not UTF-8. "
            f"{_conversion(path, 'WINDOWS-1252')}"
        ) from error
    if not text.strip():
        raise DataError(f"{path}: the file is empty.")
    return text


def _conversion(path: Path, encoding: str) -> str:
    target = path.with_name(f"{path.stem}-utf8{path.suffix}")
    return f"Convert it, for instance: iconv -f {encoding} -t UTF-8 '{path}' > '{target}'"
