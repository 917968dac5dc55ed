"""Every architecture that training supports, in both forms: the same answers as PyTorch, whatever the shape."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

import pytest

from support import encoders, exports

torch = pytest.importorskip("torch")
ir = pytest.importorskip("onnx_ir")

SHAPES = ((1, 1), (4, 16), (3, 40))
ON_THE_INTERFACE = ("bert", "roberta", "xlm-roberta", "distilbert", "electra", "albert")
"""Architectures whose attention products are quantized and whose every product is of quantized tensors."""

CLOSE, STEP = 1e-4, 0.03
"""What sums of float32 in another order come to, and what one step of an 8-bit grid, which they may tip, may."""


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((name, quantized), id=f"{name}-{'int8' if quantized else 'float'}", marks=marks)
        for name in encoders.ARCHITECTURES
        for quantized in (True, False)
        for marks in [() if (name, quantized) == ("bert", True) else pytest.mark.slow]
    ],
)
def exported(request: pytest.FixtureRequest) -> tuple[Any, bool, Path]:
    """A classifier, whether it is quantized, and its graph as the exporter wrote it."""
    name, quantized = request.param
    settings = exports.usual(name, quantized)
    return encoders.classifier(name, **settings), quantized, exports.traced(name, **settings)


@pytest.mark.parametrize("form", ["portable", "deepsparse"])
def test_answers_are_those_of_pytorch(exported: tuple[Any, bool, Path], form: str, tmp_path: Path) -> None:
    from sparseml.export.formats import apply_format
    from sparseml.export.sessions import open_session
    from sparseml.export.stored import check_weights

    model, quantized, path = exported
    graph = ir.load(path)
    apply_format(graph, form)
    file = tmp_path / "model.onnx"
    ir.save(graph, file)
    session = open_session(file)
    apart: list[float] = []
    source = torch.Generator().manual_seed(0)
    for rows, tokens in SHAPES:
        batch = encoders.batch(rows, tokens, source=source)
        if any(given.name == "token_type_ids" for given in session.get_inputs()):
            batch["token_type_ids"] = batch["input_ids"] % model.config.type_vocab_size
        with torch.no_grad():
            expected = model(**batch).logits.numpy()
        (answers,) = session.run(None, {name: tensor.numpy() for name, tensor in batch.items()})
        apart += abs(answers - expected).max(axis=1).tolist()
    assert max(apart) < (STEP if quantized else CLOSE)
    assert median(apart) < CLOSE, apart
    kinds = [node.op_type for node in graph.graph]
    if form == "deepsparse" and quantized and model.config.model_type in ON_THE_INTERFACE:
        assert "MatMul" not in kinds and "Gemm" not in kinds, "all products are of integers, attention's too"
        assert kinds.count("MatMulInteger") > 2 * model.config.num_hidden_layers
    counts = check_weights(model, file)
    assert counts["int8_linears" if quantized else "float_linears"] > 0
    assert counts["float_linears" if quantized else "int8_linears"] == 0
