"""The table of what the native engine runs, in docs/serving.md, is what it does run."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx_ir")

from support import native_table


@pytest.mark.slow
def test_the_page_says_what_is_run():
    page = native_table.PAGE.read_text(encoding="utf-8")
    assert native_table.rendered(page) == page, "python tests/support/native_table.py writes it anew"
