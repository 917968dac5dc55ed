"""What may be loaded over HTTP: models below one folder, with settings that read and run nothing else."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from deepsparse import tasks
from deepsparse.backends import AUTOMATIC, NAMES
from deepsparse.deployment import REMOTE
from deepsparse.errors import DeepsparseError
from deepsparse.server.config import EndpointConfig, parse_config
from resparse.errors import did_you_mean

# The others decide over threads and memory, which are the server's to decide, or are other names of the model.
_SETTINGS: Final = frozenset({"batch_size", "sequence_length"})


class ForbiddenError(DeepsparseError):
    """Something that the server's configuration does not allow."""


def added_endpoint(content: dict[str, Any], folder: Path) -> EndpointConfig:
    """The configuration that a request to add an endpoint asks for, its model as an absolute path below `folder`.

    Raises:
        ConfigError: unknown or wrong fields.
        ForbiddenError: a model elsewhere, or a setting that is not for clients.
    """
    (config,) = parse_config({"endpoints": [content]}, "endpoint").endpoints
    _check_settings(config)
    return config.model_copy(update={"model": str(_below(folder, config.model))})


def _below(folder: Path, model: str) -> Path:
    """The path of a model below a folder, without symbolic links; relative ones begin there.

    Links are followed before anything is compared, those of the model's own files too, and what they lead to is what
    is loaded. Nothing is said of what lies outside, not even whether it exists.
    """
    root = folder.resolve()
    if not model.startswith(REMOTE) and "\0" not in model:
        try:
            path = (root / model).resolve(strict=True)
            if all(file.resolve().is_relative_to(root) for file in [path, *_read_with(path)]):
                return path
        except (OSError, RuntimeError):  # it is not there, or links lead in a circle
            pass
    raise ForbiddenError(
        f"There is no model {model[:100]!r} in this server's folder of models, and over HTTP it loads no other."
    )


def _read_with(model: Path) -> Iterator[Path]:
    """The files that may be read along with a model."""
    home = model if model.is_dir() else model.parent
    for folder in (home, home / "deployment"):
        if folder.is_dir():
            yield from folder.iterdir()


def _check_settings(config: EndpointConfig) -> None:
    task = tasks.find(config.task)
    own = inspect.signature(task).parameters.values()
    known = _SETTINGS | {parameter.name for parameter in own if parameter.kind is parameter.KEYWORD_ONLY}
    for name, value in config.kwargs.items():
        if name == "engine_type":
            # Other names would be those of code: path.py:Class.
            if value not in (AUTOMATIC, *NAMES):
                raise ForbiddenError(
                    f"engine_type is {value!r}; over HTTP: {', '.join((AUTOMATIC, *NAMES))}."
                )
        elif name not in known:
            hint = did_you_mean(name, [*known, "engine_type"])
            raise ForbiddenError(f"kwargs.{name[:60]} cannot be set over HTTP. {hint}")
