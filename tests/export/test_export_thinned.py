"""Models with fewer heads and neurons as ONNX: the same answers as PyTorch, from every engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deepsparse import Engine
from deepsparse.native import library
from sparseml.export.formats import apply_format
from sparseml.export.trace import to_onnx
from sparseml.recipe import ModifierSpec, Plan
from sparseml.session.session import Session
from support import encoders

ir = pytest.importorskip("onnx_ir")


def thinned(kind: str, **more: Any) -> Any:
    """A quantized classifier whose heads or neurons went in one shot."""
    once = {"init_sparsity": 0.5, "final_sparsity": 0.5, "end_epoch": 0, "update_frequency": 1}
    model = encoders.dense("bert", hidden_size=32, num_attention_heads=4)
    with torch.no_grad():
        model.bert.encoder.layer[0].intermediate.dense.weight *= 2
    recipe = (
        ("StructuredPruningModifier", {**once, "mask_type": kind, **more}),
        ("LayerThinningModifier", {}),
        ("QuantizationModifier", {"quantize_linear_activations": False}),
    )
    session = Session(Plan("the test", tuple(ModifierSpec(*each, 1, {}) for each in recipe)), model)
    torch.manual_seed(1)
    some = [encoders.batch(8, 12) for _ in range(4)]
    session.run.batches = lambda: iter(some)
    session.apply_once()
    session.finish()
    return model.eval()


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("neuron", {}),
        # Layers of different sizes.
        ("neuron", {"global_sparsity": True}),
        ("head", {}),
        ("head", {"global_sparsity": True}),
    ],
)
def test_answers_are_those_of_pytorch(kind: str, more: dict[str, Any], tmp_path: Path) -> None:
    model, file = thinned(kind, **more), tmp_path / "model.onnx"
    graph = to_onnx(model, ["input_ids", "attention_mask"])
    apply_format(graph, "portable")
    ir.save(graph, file)
    inputs = encoders.batch(4, 9)
    with torch.no_grad():
        expected = model(**inputs).logits.numpy()
    arrays = [value.numpy() for value in inputs.values()]
    engines = ("onnxruntime", "native") if library.file() is not None else ("onnxruntime",)
    for engine_type in engines:
        engine = Engine(file, engine_type=engine_type)
        np.testing.assert_allclose(engine.run(arrays)[0], expected, atol=0.05)
