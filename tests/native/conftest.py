"""Tiny exports, made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support import exports


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function from an architecture to its exported model, whose biases and norms are random; not to be changed.

    What follows the architecture is what a recipe's `submodules` quantize, in place of all.
    """
    folder = tmp_path_factory.mktemp("exports")

    def export(architecture: str, *submodules: str) -> Path:
        pytest.importorskip("onnx_ir")
        path = folder / "-".join((architecture, *submodules)) / "model.onnx"
        if not path.exists():
            path.parent.mkdir()
            exports.portable(architecture, path, submodules=submodules, **exports.usual(architecture))
        return path

    return export
