"""The engines that can run a model: a class each, found by name."""

from __future__ import annotations

from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from deepsparse.backends.base import Backend, Resources, TensorSpec
from deepsparse.errors import EngineError
from resparse.errors import did_you_mean

AUTOMATIC = "deepsparse"
"""The name under which the best engine that is installed is chosen."""

NAMES = ("native", "onnxruntime", "openvino")
_MODULES = {"onnxruntime": "onnxruntime", "openvino": "openvino"}
_EXTRAS = {"onnxruntime": "runtime", "openvino": "openvino"}
_PLUGINS = "deepsparse.engines"


def is_installed(name: str) -> bool:
    """Whether the engine can be used here."""
    return name in _MODULES and find_spec(_MODULES[name]) is not None


def load(name: str, model: Path, resources: Resources) -> Backend:
    """Make a model ready to run.

    Args:
        name: "deepsparse" (the best that is installed), one of `NAMES`, or the name of an engine that
            another package provides under the entry point group "deepsparse.engines".
        model: the ONNX file; it is only read.
        resources: threads and streams.

    Raises:
        EngineError: there is no such engine, or it is not installed.
        ModelError: the engine cannot read the model.
    """
    chosen = _automatic() if name == AUTOMATIC else name
    if chosen == "onnxruntime" and is_installed(chosen):
        from deepsparse.backends.onnxruntime import OnnxRuntimeBackend

        return OnnxRuntimeBackend(model, resources)
    if chosen == "openvino" and is_installed(chosen):
        from deepsparse.backends.openvino import OpenVinoBackend

        return OpenVinoBackend(model, resources)
    if chosen == "native":
        raise EngineError("This version has no native engine yet: take engine_type='onnxruntime'.")
    if chosen in _MODULES:
        raise EngineError(
            f"The engine {chosen!r} is not installed: pip install 'resparse[{_EXTRAS[chosen]}]'."
        )
    for plugin in entry_points(group=_PLUGINS, name=chosen):
        provided: Backend = plugin.load()(model, resources)
        return provided
    others = [plugin.name for plugin in entry_points(group=_PLUGINS)]
    raise EngineError(f"There is no engine {chosen!r}. {did_you_mean(chosen, [AUTOMATIC, *NAMES, *others])}")


def _automatic() -> str:
    """The best engine that is installed: the portable file runs well on each, so speed decides."""
    return next((name for name in ("onnxruntime", "openvino") if is_installed(name)), "onnxruntime")


__all__ = ["AUTOMATIC", "NAMES", "Backend", "Resources", "TensorSpec", "is_installed", "load"]
