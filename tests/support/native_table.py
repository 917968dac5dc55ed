"""The table of docs/serving.md: which architecture the native engine runs in which form.

`python tests/support/native_table.py` writes it, which takes minutes; a test compares a part of it. Every cell is an
export that the engine recognizes, or does not.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from deepsparse.errors import UnsupportedError
from deepsparse.native.onnx_graph import read
from deepsparse.native.recognition import recognize
from support import encoders, exports

PAGE: Final = Path(__file__).parents[2] / "docs" / "serving.md"
_PART: Final = re.compile(r"(<!-- tested: native forms -->\n).*?(<!-- end of native forms -->)", re.DOTALL)

FORMS: Final[dict[str, Mapping[str, Any] | None]] = {
    "int8": {"quantize_linear_activations": False},
    "int8, outputs too": {},
    "fewer bits": {"weight_bits": 4, "reduce_range": True},
    "attention in float": {"exclude_module_types": ["QATMatMul"]},
    "only encoder quantized": {"submodules": ["bert.encoder"]},
    "weights only": {"scheme": {"input_activations": None}},
    "float32": None,
}
"""Columns: the fields of a QuantizationModifier; None: without one."""


def table() -> str:
    """The table as Markdown, and below it why some models are not run."""
    reasons: list[str] = []
    lines = [f"| | {' | '.join(FORMS)} |", f"|---|{'---|' * len(FORMS)}"]
    for architecture in encoders.ARCHITECTURES:
        # What is not run in float is not run quantized.
        in_float = refusal(architecture, None)
        cells = []
        for fields in FORMS.values():
            reason = in_float if in_float or fields is None else refusal(architecture, fields)
            if reason and reason not in reasons:
                reasons.append(reason)
            cells.append(f"no ({reasons.index(reason) + 1})" if reason else "yes")
        lines.append(f"| {architecture} | {' | '.join(cells)} |")
    notes = [f"{number}. {reason}" for number, reason in enumerate(reasons, 1)]
    return "\n".join([*lines, "", *notes])


def refusal(architecture: str, fields: Mapping[str, Any] | None) -> str:
    """Why the engine does not run this form; without the names of values, which exporters make up. Empty: it does."""
    settings = exports.usual(architecture, quantized=fields is not None)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        if fields is None:
            exports.portable(architecture, path, **settings)
        else:
            exports.of_recipe(architecture, path, fields, **settings)
        try:
            recognize(read(path))
        except UnsupportedError as error:
            return re.sub(r"(?<= )'[^']*'", "...", error.reason)
    return ""


def stated(page: str) -> dict[tuple[str, str], str]:
    """What the page says of each architecture and form, as `refusal` does."""
    part = _PART.search(page)
    assert part is not None, f"{PAGE} has lost its table"
    lines = part[0].splitlines()
    notes = dict(re.findall(r"^(\d+)\. (.*)$", part[0], re.MULTILINE))
    found = {}
    for line in lines:
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        if name in encoders.ARCHITECTURES:
            for form, cell in zip(FORMS, cells, strict=True):
                found[name, form] = (
                    "" if cell == "yes" else notes[cell.removeprefix("no (").removesuffix(")")]
                )
    return found


def rendered(page: str) -> str:
    """The page with the table as it should be."""
    return _PART.sub(lambda part: f"{part[1]}\n{table()}\n\n{part[2]}", page)


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
