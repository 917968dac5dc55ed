"""Tiny exports, made once, and what the tests of the compiled library need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deepsparse.native import library
from support import exports

SETTINGS = {
    "bert": {},
    "roberta": {"pad_token_id": 1, "type_vocab_size": 1},
    "distilbert": {},
    "electra": {},
}
"""The architectures of the native engine, and what is unusual about these models."""

POSITIONS = 520

needs_library = pytest.mark.skipif(library.file() is None, reason="the native engine is not built here")


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function from an architecture to its exported model, whose biases and norms are random; not to be changed."""
    folder = tmp_path_factory.mktemp("exports")

    def export(architecture: str) -> Path:
        pytest.importorskip("onnx_ir")
        path = folder / architecture / "model.onnx"
        if not path.exists():
            path.parent.mkdir()
            exports.portable(
                architecture, path, spread=True, max_position_embeddings=POSITIONS, **SETTINGS[architecture]
            )
        return path

    return export
