"""The table of what the native engine runs, in docs/serving.md, is what it does run."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx_ir")

from support import encoders, native_table

# Every architecture, quantized and not, and one whose layers share their weights in all forms. BERT's forms are run by
# test_native_forms.py.
CELLS = [(name, form) for name in encoders.ARCHITECTURES for form in ("int8", "float32")]
CELLS += [("albert", form) for form in native_table.FORMS if ("albert", form) not in CELLS]


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "form"), CELLS)
def test_the_page_says_what_is_run(architecture: str, form: str):
    stated = native_table.stated(native_table.PAGE.read_text(encoding="utf-8"))
    found = native_table.refusal(architecture, native_table.FORMS[form])
    assert found == stated[architecture, form], "python tests/support/native_table.py writes the table anew"


def test_the_page_has_all_cells():
    stated = native_table.stated(native_table.PAGE.read_text(encoding="utf-8"))
    assert list(stated) == [(name, form) for name in encoders.ARCHITECTURES for form in native_table.FORMS]
