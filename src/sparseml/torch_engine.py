"""PyTorch as an engine of the runtime (the entry point "pytorch"): the checkpoint, to compare its export with."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepsparse.backends import CHECKPOINT, Resources, TensorSpec
from deepsparse.errors import EngineError
from sparseml.session.models import load_config, load_trained, resolve
from sparseml.tasks import task_of

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_WEIGHTS = "model.safetensors"


class TorchEngine:
    """The checkpoint of RESPARSE_CHECKPOINT, else of the folder around the deployment folder, run by PyTorch."""

    name = "pytorch"
    version = torch.__version__
    length_step = 1
    pads = True

    def __init__(self, model: Path, resources: Resources) -> None:
        torch.set_num_threads(resources.cores)
        folder = _checkpoint(model)
        task = task_of(load_config(resolve(str(folder))))
        self._model = load_trained(folder, task.model_class)
        self._outputs = task.output_names
        parameters = inspect.signature(self._model.forward).parameters
        names = [name for name in _INPUTS if name in parameters]
        self.inputs = tuple(TensorSpec(name, np.dtype(np.int64), (None, None)) for name in names)
        shape = (None, None) if task.one_output_a_row else (None, None, None)
        self.outputs = tuple(TensorSpec(name, np.dtype(np.float32), shape) for name in self._outputs)

    def run(self, feeds: Mapping[str, Any]) -> list[Any]:
        """Compute the outputs."""
        with torch.inference_mode():
            tensors = {name: torch.from_numpy(array) for name, array in feeds.items()}
            outputs = self._model(**tensors)
            return [outputs[name].numpy() for name in self._outputs]


def _checkpoint(model: Path) -> Path:
    named = os.environ.get(CHECKPOINT)
    if named:
        return Path(named)
    for folder in (model.parent, model.parent.parent):
        if (folder / _WEIGHTS).is_file():
            return folder
    raise EngineError(
        f"PyTorch needs the checkpoint that {model} was exported from: name it (--pytorch DIR)."
    )
