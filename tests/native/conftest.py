"""Tiny exports, made once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from support import exports
from support.deployment import tokenizer


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


@pytest.fixture
def bert_deployment(exported: Callable[[str], Path], tmp_path: Path) -> Path:
    """A deployment folder of a BERT with three labels."""
    folder = tmp_path / "bert"
    folder.mkdir()
    (folder / "model.onnx").symlink_to(exported("bert"))
    tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"id2label": {"0": "a", "1": "b", "2": "c"}}))
    return folder
