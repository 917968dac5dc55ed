"""The engines that can run a model: a class each, found by name."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

from deepsparse.backends.base import Backend, Resources, TensorSpec
from deepsparse.errors import EngineError, UnsupportedError
from deepsparse.native import library
from resparse.console import say_once
from resparse.errors import did_you_mean

AUTOMATIC = "deepsparse"
"""The name under which the best engine that can run the model here is chosen."""

NATIVE = "native"
NAMES = (NATIVE, "onnxruntime", "openvino")
_MODULES = {"onnxruntime": "onnxruntime", "openvino": "openvino"}
_EXTRAS = {"onnxruntime": "runtime", "openvino": "openvino"}
_PLUGINS = "deepsparse.engines"

CHECKPOINT = "RESPARSE_CHECKPOINT"
"""The variable that names the checkpoint of an exported model, for engines that run that instead."""


def is_installed(name: str) -> bool:
    """Whether the engine can be used here."""
    if name == NATIVE:
        return library.file() is not None
    return name in _MODULES and find_spec(_MODULES[name]) is not None


def installed() -> list[str]:
    """The engines that can be used here, those of other packages last."""
    return [*filter(is_installed, NAMES), *(plugin.name for plugin in _plugins())]


def load(name: str, model: Path, resources: Resources) -> Backend:
    """Make a model ready to run.

    Args:
        name: "deepsparse" (the native engine, or the best that is installed), one of `NAMES`, or the name of an
            engine that another package provides under the entry point group "deepsparse.engines".
        model: the ONNX file; it is only read.
        resources: threads and streams.

    Raises:
        EngineError: there is no such engine, or it is not installed.
        ModelError: the engine cannot read the model.
    """
    if name == AUTOMATIC:
        return _best(model, resources)
    return _named(name, model, resources)


def _best(model: Path, resources: Resources) -> Backend:
    """The native engine where it can run the model; else the best that is installed, and a line that says why."""
    other = next((name for name in ("onnxruntime", "openvino") if is_installed(name)), "onnxruntime")
    try:
        library.load()
    except EngineError as error:
        say_once(f"{error} Until then {other} runs the models.")
        return _named(other, model, resources)
    if library.chosen_isa().name == library.PORTABLE and not library.is_forced():
        say_once(
            f"The native engine has no kernels for this processor (AVX2, or 64-bit ARM): {other} runs the models."
        )
        return _named(other, model, resources)
    try:
        return _named(NATIVE, model, resources)
    except UnsupportedError as error:
        say_once(f"{model}: the native engine cannot run it, since {error.reason}; {other} does.")
        return _named(other, model, resources)


def _named(chosen: str, model: Path, resources: Resources) -> Backend:
    if chosen == NATIVE:
        from deepsparse.backends.native import NativeBackend

        return NativeBackend(model, resources)
    if chosen == "onnxruntime" and is_installed(chosen):
        from deepsparse.backends.onnxruntime import OnnxRuntimeBackend

        return OnnxRuntimeBackend(model, resources)
    if chosen == "openvino" and is_installed(chosen):
        from deepsparse.backends.openvino import OpenVinoBackend

        return OpenVinoBackend(model, resources)
    if chosen in _MODULES:
        raise EngineError(
            f"The engine {chosen!r} is not installed: pip install 'resparse[{_EXTRAS[chosen]}]'."
        )
    found: Backend = _plugin(chosen)(model, resources)
    return found


def _plugin(name: str) -> Callable[[Path, Resources], Backend]:
    """An engine of another package: by the name under which it is registered, or as path.py:Class."""
    file, colon, attribute = name.rpartition(":")
    if colon and file.endswith(".py"):
        return _from_file(Path(file), attribute)
    for plugin in _plugins():
        if plugin.name == name:
            try:
                provided: Callable[[Path, Resources], Backend] = plugin.load()
            except ModuleNotFoundError as error:
                raise EngineError(
                    f"The engine {name!r} needs {error.name}, which is not installed."
                ) from error
            return provided
    known = [AUTOMATIC, *NAMES, *(plugin.name for plugin in _plugins())]
    raise EngineError(f"There is no engine {name!r}. {did_you_mean(name, known)}")


def _from_file(path: Path, attribute: str) -> Callable[[Path, Resources], Backend]:
    if not path.is_file():
        raise EngineError(f"There is no file {path}.")
    namespace = runpy.run_path(str(path))
    if attribute not in namespace:
        raise EngineError(f"{path} has no class {attribute!r}. {did_you_mean(attribute, namespace)}")
    provided: Callable[[Path, Resources], Backend] = namespace[attribute]
    return provided


def _plugins() -> list[EntryPoint]:
    return sorted(entry_points(group=_PLUGINS), key=lambda plugin: plugin.name)


__all__ = [
    "AUTOMATIC",
    "CHECKPOINT",
    "NAMES",
    "Backend",
    "Resources",
    "TensorSpec",
    "installed",
    "is_installed",
    "load",
]
