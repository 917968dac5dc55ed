"""From the names that the old tools had (`former.yaml`) to what became of each, looked up in the code."""

from __future__ import annotations

import importlib
import inspect
import tomllib
from argparse import SUPPRESS, ArgumentParser
from collections.abc import Callable, Container, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml

import deepsparse.benchmark
import deepsparse.pipeline
import deepsparse.server.cli
import sparseml.transformers.eval_downstream
import sparsezoo.cli
from deepsparse import Engine
from deepsparse.server.app import create_app
from deepsparse.server.config import EndpointConfig, ServerConfig
from deepsparse.server.service import Server
from deepsparse.tasks.text_classification import TextClassification
from sparseml.modifiers import MODIFIERS
from sparseml.options import renamed
from sparseml.options.table import BARE
from sparseml.tasks import load_task
from sparseml.training import arguments
from sparseml.transformers import export
from sparsezoo import Model

SAME, WITHOUT_EFFECT, GONE = "same", "taken, without effect", "gone"
_ROOT = Path(__file__).parents[1]
# A value with which an old argument shows what became of it.
_SAMPLE = {bool: BARE, int: "1", float: "0.5", str: "x"}

Row = tuple[str, str, str]


class MissingAdviceError(Exception):
    """Something is gone, and former.yaml does not say what to do instead."""


@cache
def facts() -> dict[str, dict[str, str | None]]:
    """The old names, by kind."""
    known: dict[str, dict[str, str | None]] = yaml.safe_load(
        (Path(__file__).with_name("former.yaml")).read_text(encoding="utf-8")
    )
    return known


def rows(kind: str, look_up: Callable[[str], tuple[str, str]], shown: str = "`{}`") -> list[Row]:
    """A row for each old name: what it is here, and what is to be said about it.

    Raises:
        MissingAdviceError: a name is gone, and nothing says what to do.
    """
    made = []
    for name, said in facts()[kind].items():
        here, why = look_up(name)
        if here == GONE and not (said or why):
            raise MissingAdviceError(f"{kind}: {name} is gone; former.yaml has to say what to do instead")
        made.append((shown.format(name), here, said or why))
    return made


def training(name: str) -> tuple[str, str]:
    """An argument of the training command."""
    if name in arguments.all_options(load_task()):
        return SAME, ""
    return of_transformers(name)


def of_transformers(name: str) -> tuple[str, str]:
    """An argument that Transformers has renamed or dropped."""
    if new := renamed.RENAMED.get(name):
        return f"`--{new}`", "the old name is understood"
    if why := renamed.GONE.get(name):
        return WITHOUT_EFFECT, why
    kind, convert = renamed.CONVERTED[name]
    sample = _SAMPLE[kind]
    made = convert(True if sample is BARE else kind(sample), {})
    if not made:
        return WITHOUT_EFFECT, "models are always saved as safetensors"
    return ", ".join(f"`--{new}`" for new in made), "the old name is understood"


def transformers_rows() -> list[Row]:
    """All that `renamed` knows besides SparseML's own arguments."""
    names = sorted({*renamed.RENAMED, *renamed.CONVERTED, *renamed.GONE} - {"task", "use_auth_token"})
    options = arguments.all_options(load_task())
    return [(f"`--{name}`", *of_transformers(name)) for name in names if name not in options]


def exporting(name: str) -> tuple[str, str]:
    """An argument of the export."""
    if new := export._ALIASES.get(name):
        return f"`--{new}`", "the old name is understood"
    if why := export._WITHOUT_EFFECT.get(name):
        return WITHOUT_EFFECT, why
    return (SAME if name in export.ExportArguments.__dataclass_fields__ else GONE), ""


def script(name: str) -> tuple[str, str]:
    """A command."""
    known = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    return (SAME if name in known else GONE), ""


def python(name: str) -> tuple[str, str]:
    """Something to import: a module's attribute."""
    module, _, attribute = name.rpartition(".")
    try:
        return (SAME if hasattr(importlib.import_module(module), attribute) else GONE), ""
    except ModuleNotFoundError:
        return GONE, ""


def pipeline(name: str) -> tuple[str, str]:
    """A keyword of `Pipeline.create`."""
    if name in deepsparse.pipeline._WITHOUT_EFFECT:
        return WITHOUT_EFFECT, ""
    taken = {
        *inspect.signature(deepsparse.pipeline.Pipeline.create).parameters,
        *deepsparse.pipeline.settings_of(TextClassification),
    }
    return (SAME if name in taken else GONE), ""


def option(parser: ArgumentParser, name: str) -> tuple[str, str]:
    """An option of a command that is read with argparse."""
    action = parser._option_string_actions.get(name.replace("_", "-"))
    if action is None:
        return GONE, ""
    said = action.help or SUPPRESS
    if "not for" in said:
        return GONE, ""
    return (WITHOUT_EFFECT if said == SUPPRESS or "accepted" in said else SAME), ""


def configured(name: str) -> tuple[str, str]:
    """A field of the server's configuration."""
    model: Any = EndpointConfig if "." in name else ServerConfig
    field = name.rpartition(".")[2]
    if field not in model.model_fields:
        return GONE, ""
    endpoint: dict[str, Any] = {"task": "glue", "model": "m"}
    tried: dict[str, Any] = {"endpoints": [endpoint]}
    (endpoint if "." in name else tried).setdefault(field, _TRIED.get(field, {"some": "value"}))
    try:
        without = ServerConfig.model_validate(tried).without_effect()
    except ValueError:
        without = []
    return (WITHOUT_EFFECT if name in without else SAME), ""


# Set on each engine, not on its class.
_ENGINE_ATTRIBUTES = ("model_path", "input_names", "output_names")
_TRIED: dict[str, Any] = {"engine_thread_pinning": "core", "pytorch_num_threads": 2}


def routes() -> set[str]:
    """The paths that a server answers at; no model is loaded for that."""
    asked: Any = None
    settings = ServerConfig(
        endpoints=[EndpointConfig(task="text_classification", model="model")], integration="sagemaker"
    )
    found = {getattr(route, "path", "") for route in create_app(Server(asked, settings)).routes}
    return {path.replace(":path}", "}") for path in found}


def zoo(verb: str, name: str) -> tuple[str, str]:
    """An option of one of sparsezoo's verbs."""
    verbs = next(action.choices for action in sparsezoo.cli._parser()._actions if action.choices)
    parser: ArgumentParser = dict(verbs)[verb]
    found = parser._option_string_actions.get(name.replace("_", "-"))
    # An option without help is as plain as its name; only what is hidden does nothing.
    return (GONE if found is None or found.help == SUPPRESS else SAME), ""


def variable(name: str) -> tuple[str, str]:
    """A variable of the environment: ours to read, or nobody's."""
    sources = (_ROOT / "src").rglob("*.py")
    return (SAME if any(name in path.read_text(encoding="utf-8") for path in sources) else GONE), ""


def _known(names: Container[str], name: str) -> tuple[str, str]:
    return (SAME if name in names else GONE), ""


TABLES: Mapping[str, Callable[[], list[Row]]] = {
    "training": partial(rows, "training", training, "`--{}`"),
    "transformers": transformers_rows,
    "commands": partial(rows, "commands", script),
    "export": partial(rows, "export", exporting, "`--{}`"),
    "recipe-modifiers": partial(rows, "modifiers", partial(_known, MODIFIERS), "`!{}`"),
    "python": partial(rows, "python", python),
    "zoo-model": partial(rows, "zoo_model", partial(_known, {*dir(Model), "source"}), "`Model(...).{}`"),
    "zoo-search": partial(rows, "zoo_search", partial(zoo, "search")),
    "zoo-download": partial(rows, "zoo_download", partial(zoo, "download")),
    "engine": partial(
        rows,
        "engine",
        partial(_known, {*inspect.signature(Engine).parameters, *dir(Engine), *_ENGINE_ATTRIBUTES}),
    ),
    "routes": lambda: rows("routes", partial(_known, routes())),
    "pipeline": partial(rows, "pipeline", pipeline),
    "server": lambda: rows("server", partial(option, deepsparse.server.cli._parser())),
    "server-fields": partial(rows, "server_config", configured),
    "benchmark": lambda: rows("benchmark", partial(option, deepsparse.benchmark._parser())),
    "eval-downstream": lambda: rows(
        "eval_downstream", partial(option, sparseml.transformers.eval_downstream._parser())
    ),
    "environment": partial(rows, "environment", variable),
}
