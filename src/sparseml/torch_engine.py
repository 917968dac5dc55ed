"""PyTorch as an engine of the runtime: the checkpoint itself, so that its export can be measured against it.

The package deepsparse finds it by the entry point "pytorch" and imports it only when it is asked for.
"""

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
from sparseml.session.models import load_trained

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_WEIGHTS = "model.safetensors"


class TorchEngine:
    """A checkpoint, run by PyTorch.

    Args:
        model: the exported model. The checkpoint is the folder that RESPARSE_CHECKPOINT names, else the one in
            which the deployment folder lies.
        resources: how many threads.

    Raises:
        EngineError: there is no checkpoint.
    """

    name = "pytorch"
    version = torch.__version__
    length_step = 1
    pads = True

    def __init__(self, model: Path, resources: Resources) -> None:
        torch.set_num_threads(resources.cores)
        self._model = load_trained(_checkpoint(model))
        taken = inspect.signature(self._model.forward).parameters
        anything = np.dtype(np.int64)
        self.inputs = tuple(TensorSpec(name, anything, (None, None)) for name in _INPUTS if name in taken)
        self.outputs = (TensorSpec("logits", np.dtype(np.float32), (None, None)),)

    def run(self, feeds: Mapping[str, Any]) -> list[Any]:
        """Compute the logits."""
        with torch.inference_mode():
            tensors = {name: torch.from_numpy(array) for name, array in feeds.items()}
            return [self._model(**tensors).logits.numpy()]


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
