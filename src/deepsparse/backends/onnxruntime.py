"""ONNX Runtime."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort

from deepsparse.backends.base import Resources, TensorSpec
from deepsparse.errors import EngineError, InputError, ModelError
from resparse.arrays import Array
from resparse.console import say_once
from resparse.exact_products import EXACT_PRODUCTS

_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}
_ERRORS_ONLY = 3
PRODUCTS_VARIABLE: Final = "DEEPSPARSE_ONNXRUNTIME"
"""The variable that asks for "fast" products of integers in place of "exact" ones; see `resparse.exact_products`."""
_OUT_OF_RANGE = re.compile(r"idx=(-?\d+) must be within the inclusive range \[-?\d+,(\d+)\]")


class OnnxRuntimeBackend:
    """A session of ONNX Runtime on the processor."""

    name = "onnxruntime"
    version: str = ort.__version__
    length_step = 1
    pads = True

    def __init__(self, model: Path, resources: Resources) -> None:
        exact = _are_exact()
        try:
            self._session = _session(model, resources, exact)
        except Exception as error:  # its exceptions have no common base but this
            raise ModelError(_explain(model, error)) from error
        self.inputs = _specs(self._session.get_inputs())
        self.outputs = _specs(self._session.get_outputs())

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """Compute all outputs.

        Raises:
            InputError: the model cannot compute these arrays.
        """
        try:
            results: list[Array] = self._session.run(None, dict(feeds))
        except Exception as error:  # its exceptions have no common base but this
            raise InputError(_unanswered(feeds, str(error))) from error
        return results


def _session(model: Path, resources: Resources, exact: bool) -> ort.InferenceSession:
    def load(*entries: tuple[str, str]) -> ort.InferenceSession:
        options = _options(resources)
        for entry in entries:
            options.add_session_config_entry(*entry)
        return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])

    if not exact:
        return load()
    try:
        return load(EXACT_PRODUCTS)
    except Exception:  # where weights share a zero point, as in many exports of others
        found = load()
    say_once(
        f"{model}: ONNX Runtime does not load it with exact products of integers. On this processor its sums may be "
        "cut off, and scores differ a little."
    )
    return found


def _are_exact() -> bool:
    asked = os.environ.get(PRODUCTS_VARIABLE, "").strip().lower()
    if asked not in ("", "exact", "fast"):
        raise EngineError(f"{PRODUCTS_VARIABLE}={asked}: exact or fast is wanted.")
    return asked != "fast"


def _options(resources: Resources) -> ort.SessionOptions:
    options = ort.SessionOptions()
    # Runs side by side share one pool, and help each other out: a lone run has all cores.
    options.intra_op_num_threads = resources.cores
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Memory patterns are planned for one shape; here nearly every batch has another.
    options.enable_mem_pattern = False
    options.log_severity_level = _ERRORS_ONLY
    # Waiting threads sleep. Spinning takes the cores from the other runs, from the tokenizer and from
    # neighbours: on two busy cores it halved the throughput.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Small pieces of work, handed out as threads get free: a busy neighbour holds up one piece only.
    options.add_session_config_entry("session.dynamic_block_base", "4")
    return options


def _specs(nodes: Iterable[Any]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            node.name,
            np.dtype(_TYPES.get(node.type, np.float32)),
            tuple(size if isinstance(size, int) and size > 0 else None for size in node.shape or ()),
        )
        for node in nodes
    )


def _unanswered(feeds: Mapping[str, Array], reason: str) -> str:
    shapes = ", ".join(f"{name} {' × '.join(map(str, array.shape))}" for name, array in feeds.items())
    found = _OUT_OF_RANGE.search(reason)
    if found is not None:
        number, last = found.groups()
        return f"The model has no {number}: ids and positions end at {last} there. The inputs: {shapes}."
    return f"ONNX Runtime {ort.__version__} cannot compute these inputs ({shapes}): {reason.strip().splitlines()[-1]}"


def _explain(model: Path, error: Exception) -> str:
    reason = str(error).strip().split("\n", maxsplit=1)[0]
    if "protobuf" in f"{type(error).__name__} {reason}".lower() or "ModelProto" in reason:
        return (
            f"{model} is not a whole ONNX model ({model.stat().st_size:,} bytes). Was a copy or an export cut "
            "short? Copy it again, or export again."
        )
    return f"ONNX Runtime {ort.__version__} cannot load {model}: {reason}"
