"""ONNX Runtime as a reference for the native engine, exact on every processor."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from deepsparse import Engine
from sparseml.export.passes import make_unsigned
from sparseml.export.sessions import cuts_off


def reference_engine(path: Path) -> Engine:
    """ONNX Runtime on one core."""
    return Engine(exact_file(path), num_cores=1, engine_type="onnxruntime")


def exact_file(path: Path) -> Path:
    """The model; where ONNX Runtime's sums of uint8 by int8 are cut off, the same numbers in uint8 alone."""
    if not cuts_off():
        return path
    model = ir.load(path)
    make_unsigned(model)
    exact = path.with_name(f"unsigned-{path.name}")
    ir.save(model, exact)
    return exact
