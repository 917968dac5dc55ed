"""OpenVINO."""

from __future__ import annotations

import queue
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from deepsparse.backends.base import Resources, TensorSpec
from deepsparse.backends.quiet_openvino import openvino
from deepsparse.errors import InputError, ModelError
from resparse.arrays import Array


class OpenVinoBackend:
    """A model compiled by OpenVINO for the processor."""

    name = "openvino"
    version: str = openvino.__version__.partition("-")[0]
    length_step = 16
    pads = True

    def __init__(self, model: Path, resources: Resources) -> None:
        try:
            # OpenVINO's CPU plugin gives the thread that loads it a signal stack, and unmaps that stack in whichever
            # thread releases it last: if that is another one, the next signal crashes the process. A thread that has
            # ended gets no signals (https://github.com/openvinotoolkit/openvino/pull/11894).
            with ThreadPoolExecutor(1, "openvino") as loader:
                compiled = loader.submit(_compiled, model, resources).result()
        except RuntimeError as error:
            reason = str(error).strip().rsplit("\n", maxsplit=1)[-1]
            raise ModelError(
                f"OpenVINO {self.version} cannot load {model} ({model.stat().st_size:,} bytes): {reason}. If a "
                "copy or an export was cut short, do it again."
            ) from error
        self.inputs = _specs(compiled.inputs)
        self.outputs = _specs(compiled.outputs)
        # A request serves one thread at a time.
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(resources.streams):
            self._requests.put(compiled.create_infer_request())

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """Compute all outputs."""
        request = self._requests.get()
        try:
            results = request.infer(dict(feeds))
            return [np.array(results[index]) for index in range(len(self.outputs))]
        except RuntimeError as error:
            shapes = ", ".join(f"{name} {' × '.join(map(str, array.shape))}" for name, array in feeds.items())
            reason = str(error).strip().rsplit("\n", maxsplit=1)[-1]
            raise InputError(
                f"OpenVINO {self.version} cannot compute these inputs ({shapes}): {reason}"
            ) from error
        finally:
            self._requests.put(request)


def _compiled(model: Path, resources: Resources) -> Any:
    core = openvino.Core()
    return core.compile_model(
        core.read_model(str(model)),
        "CPU",
        {
            "INFERENCE_NUM_THREADS": resources.cores,
            "NUM_STREAMS": resources.streams,
            # Left alone it computes what is not int8 in bfloat16 where the processor can; float32 is no slower and a
            # little nearer to the other engines.
            "INFERENCE_PRECISION_HINT": "f32",
        },
    )


def _specs(ports: Iterable[Any]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            port.get_any_name(),
            np.dtype(port.get_element_type().to_dtype()),
            tuple(None if size.is_dynamic else size.get_length() for size in port.get_partial_shape()),
        )
        for port in ports
    )
