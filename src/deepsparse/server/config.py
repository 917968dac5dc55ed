"""The server's configuration: its fields, read from YAML and checked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deepsparse.deployment import MODEL, REMOTE
from deepsparse.errors import DeepsparseError
from resparse.errors import did_you_mean

# Parts of a model's path that tell it from no other.
_SAYS_NOTHING = (MODEL, "deployment", "..", "~")


class ConfigError(DeepsparseError):
    """A configuration that cannot be read or followed."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Bucketing(_Strict):
    """Lengths that DeepSparse would compile for; here the greatest cuts texts, and nothing is padded to it."""

    sequence_lengths: list[int] | None = None
    image_sizes: list[Any] | None = None


class EndpointConfig(_Strict):
    """One model, and where it is served.

    Attributes:
        task: "text_classification", or another of its names.
        model: a deployment folder, an ONNX file, or a `zoo:` stub.
        name: in the address /v2/models/NAME/infer; by default the task and a number.
        route: the same, as a path: "/tweets" is served at /v2/models/tweets/infer.
        batch_size: texts computed at a time, at most; None lets the number of tokens decide.
        kwargs: further arguments of `Pipeline.create`.
    """

    task: str
    model: str
    name: str | None = None
    route: str | None = None
    batch_size: int | None = Field(default=None, ge=1)
    bucketing: Bucketing | None = None
    kwargs: dict[str, Any] = Field(default_factory=dict)
    logging_config: Any = None
    data_logging: Any = None
    middlewares: Any = None

    @property
    def model_name(self) -> str:
        """What clients are told of the model: its folder's name, since its path is nobody's business."""
        if self.model.startswith(REMOTE):
            return self.model
        path = Path(self.model)
        named = [part for part in path.parts if part not in _SAYS_NOTHING and part != path.anchor]
        if named:
            return named[-1]
        folder = path.absolute().parent if path.name == MODEL else path.absolute()
        return folder.name

    @property
    def served_as(self) -> str:
        """The NAME in its address."""
        return (self.route or self.name or self.task).strip("/")

    def settings(self) -> dict[str, Any]:
        """The arguments of `Pipeline.create`, without the model."""
        settings = dict(self.kwargs)
        if self.batch_size is not None:
            settings.setdefault("batch_size", self.batch_size)
        if self.bucketing and self.bucketing.sequence_lengths:
            settings.setdefault("sequence_length", self.bucketing.sequence_lengths)
        return settings


class ServerConfig(_Strict):
    """A server.

    Attributes:
        endpoints: what it serves.
        num_cores: threads that compute, for each endpoint; by default all.
        num_workers: batches computed side by side, for each endpoint; by default as many as cores.
        integration: "local", or "sagemaker" for its routes /ping and /invocations too.
        max_request_bytes: of one request's body; more is answered with 413.
        max_queued_texts: that wait, for each endpoint; a request that finds no room is answered with 429, one
            that never would with 413.
        max_queued_seconds: that a request waits for its turn, as far as can be foreseen; one that would wait
            longer is answered with 429.
        max_connections: open at a time; one more ends the one that has been idle for the longest time. Fewer where
            the system allows fewer open files.
        request_timeout: seconds in which a request has to arrive whole; later, it is answered with 408.
        allow_endpoint_changes: whether POST and DELETE /endpoints work, for models in `models_folder`.
        models_folder: where the models must lie that are added over HTTP.
    """

    endpoints: list[EndpointConfig] = Field(min_length=1)
    num_cores: int | None = Field(default=None, ge=1)
    num_workers: int | None = Field(default=None, ge=1)
    integration: Literal["local", "sagemaker"] = "local"
    max_request_bytes: int = Field(default=512 * 1024, ge=64)
    max_queued_texts: int = Field(default=1024, ge=1)
    max_queued_seconds: float = Field(default=1.0, gt=0)
    max_connections: int = Field(default=16_384, ge=1)
    request_timeout: float = Field(default=30.0, gt=0)
    allow_endpoint_changes: bool = False
    models_folder: str | None = None
    engine_thread_pinning: Literal["core", "numa", "none"] = "none"
    pytorch_num_threads: int | None = None
    loggers: Any = None
    system_logging: Any = None

    def checked(self) -> ServerConfig:
        """The same, with a name for each endpoint that has neither name nor route.

        Raises:
            ConfigError: two endpoints of one name, or changes over HTTP without an existing folder for them.
        """
        if self.allow_endpoint_changes and self.models_folder is None:
            raise ConfigError(
                "allow_endpoint_changes needs models_folder: the folder that holds the models which clients may add."
            )
        if self.models_folder is not None and not Path(self.models_folder).expanduser().is_dir():
            raise ConfigError(f"models_folder: there is no folder {self.models_folder}.")
        endpoints = [
            endpoint
            if endpoint.name or endpoint.route
            else endpoint.model_copy(update={"name": f"{endpoint.task}-{index}"})
            for index, endpoint in enumerate(self.endpoints)
        ]
        names = [endpoint.served_as for endpoint in endpoints]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(
                f"More than one endpoint is called {', '.join(map(repr, twice))}: give each a name of its own."
            )
        return self.model_copy(update={"endpoints": endpoints})

    def shown(self) -> dict[str, Any]:
        """The configuration as clients may see it: names in the place of paths."""
        shown = self.model_dump(mode="json")
        for endpoint, entry in zip(shown["endpoints"], self.endpoints, strict=True):
            endpoint["model"] = entry.model_name
        if self.models_folder is not None:
            shown["models_folder"] = Path(self.models_folder).name
        return shown

    def without_effect(self) -> list[str]:
        """Fields of DeepSparse that are set and have no effect here."""
        fields = ("engine_thread_pinning", "pytorch_num_threads", "loggers", "system_logging")
        found = [name for name in fields if name in self.model_fields_set and getattr(self, name)]
        for endpoint in self.endpoints:
            unused = ("logging_config", "data_logging", "middlewares")
            found += [f"endpoints.{name}" for name in unused if getattr(endpoint, name)]
        return sorted(set(found))


def load_config(path: str | Path) -> ServerConfig:
    """Read a YAML file; a ConfigError names each field that is unknown or wrong."""
    file = Path(path).expanduser()
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"There is no configuration file {path}.") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as YAML: {error}") from error
    return parse_config(content, str(path))


def parse_config(content: Any, where: str) -> ServerConfig:
    """Check what a configuration holds; a ConfigError names each wrong field, with `where`."""
    if not isinstance(content, dict):
        raise ConfigError(f"{where} has to hold `endpoints:`, a list of task and model.")
    try:
        return ServerConfig.model_validate(content).checked()
    except ValidationError as error:
        raise ConfigError("\n".join(describe(error, where))) from error


def describe(error: ValidationError, where: str) -> Iterable[str]:
    """A line for each thing that is wrong."""
    for problem in error.errors(include_url=False, include_context=False):
        path = problem["loc"]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
        if problem["type"] == "extra_forbidden":
            yield f"{where}: there is no field {place!r}. {did_you_mean(str(path[-1]), _fields(path))}"
        elif problem["type"] == "missing":
            yield f"{where}: {place!r} is missing."
        else:
            shown = repr(problem["input"])[:60]
            yield f"{where}: {place} is {shown}: {problem['msg'][:1].lower()}{problem['msg'][1:]}."


def _fields(path: tuple[int | str, ...]) -> list[str]:
    """The fields that may stand where the last part of `path` stands."""
    if "bucketing" in path[:-1]:
        return list(Bucketing.model_fields)
    inside = len(path) > 1 and path[0] == "endpoints"
    return list((EndpointConfig if inside else ServerConfig).model_fields)
