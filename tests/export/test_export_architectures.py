"""Every architecture that training supports, in both forms: the same answers as PyTorch, whatever the shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support import encoders

torch = pytest.importorskip("torch")
ir = pytest.importorskip("onnx_ir")

SHAPES = ((1, 1), (4, 16), (3, 40))
ON_THE_INTERFACE = ("bert", "roberta", "xlm-roberta", "distilbert", "electra", "albert")
"""Architectures whose attention products are quantized and whose every product is of quantized tensors."""

TOLERANCE = 0.02
"""One step of an 8-bit grid, which another order of additions may tip, moves these logits by less."""


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((name, quantized), id=f"{name}-{'int8' if quantized else 'float'}", marks=marks)
        for name in encoders.ARCHITECTURES
        for quantized in (True, False)
        for marks in [() if (name, quantized) == ("bert", True) else pytest.mark.slow]
    ],
)
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, bool, Path]:
    """A classifier, whether it is quantized, and its graph as the exporter wrote it."""
    from sparseml.export.trace import input_names, to_onnx

    name, quantized = request.param
    model = encoders.classifier(name, quantized=quantized)
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    ir.save(to_onnx(model, input_names(model, ["input_ids", "attention_mask"])), path)
    return model, quantized, path


@pytest.mark.parametrize("form", ["portable", "deepsparse"])
def test_answers_are_those_of_pytorch(exported: tuple[Any, bool, Path], form: str, tmp_path: Path) -> None:
    from sparseml.export.formats import apply_format
    from sparseml.export.stored import check_weights
    from sparseml.export.verify import open_session

    model, quantized, path = exported
    graph = ir.load(path)
    apply_format(graph, form)
    file = tmp_path / "model.onnx"
    ir.save(graph, file)
    session = open_session(file)
    for rows, tokens in SHAPES:
        batch = encoders.batch(rows, tokens)
        with torch.no_grad():
            expected = model(**batch).logits.numpy()
        (answers,) = session.run(None, {name: tensor.numpy() for name, tensor in batch.items()})
        assert abs(answers - expected).max() < (TOLERANCE if quantized else 1e-4)
    kinds = [node.op_type for node in graph.graph]
    if form == "deepsparse" and quantized and model.config.model_type in ON_THE_INTERFACE:
        assert "MatMul" not in kinds and "Gemm" not in kinds, "all products are of integers, attention's too"
        assert kinds.count("MatMulInteger") > 2 * model.config.num_hidden_layers
    counts = check_weights(model, file)
    assert counts["int8_linears" if quantized else "float_linears"] > 0
    assert counts["float_linears" if quantized else "int8_linears"] == 0
