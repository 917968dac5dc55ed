"""Sessions of ONNX Runtime that compute what a file says, whatever the processor: exports are compared with those."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from resparse.exact_products import EXACT_PRODUCTS
from sparseml.export.trace import ExportError


def open_session(file: Path) -> Any:
    """A session on the CPU; raises ExportError where ONNX Runtime does not load the file."""
    import onnxruntime

    options = _quiet()
    if cuts_off():
        # Exact products are of stored weights alone; those of attention would still be cut off. Without the fusions,
        # products are of the dequantized values: as exact, and slower.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.add_session_config_entry(*EXACT_PRODUCTS)
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common base of their own
        reason = str(error).splitlines()[0]
        raise ExportError(f"ONNX Runtime does not load the exported model: {reason}") from error


@cache
def cuts_off() -> bool:
    """Whether ONNX Runtime's sums of 8-bit products saturate on this processor; see `resparse.exact_products`.

    Found out by the largest product of an uint8 row and an int8 column.
    """
    import onnxruntime
    from onnx import TensorProto, helper

    row, column = np.full((1, 4), 255, np.uint8), np.full((4, 1), 127, np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["row", "column"], ["sum"])],
        "products",
        [
            helper.make_tensor_value_info("row", TensorProto.UINT8, row.shape),
            helper.make_tensor_value_info("column", TensorProto.INT8, column.shape),
        ],
        [helper.make_tensor_value_info("sum", TensorProto.INT32, (1, 1))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), _quiet(), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {"row": row, "column": column})
    return bool(found[0, 0] != row[0].astype(int) @ column[:, 0].astype(int))


def _quiet() -> Any:
    """Options of a session that logs nothing but what ends it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return options
