"""The command `deepsparse.server`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from deepsparse import tasks
from deepsparse.command_line import Parser, normal_options
from deepsparse.deployment import open_deployment
from deepsparse.server.api_key import VARIABLE, read_api_key
from deepsparse.server.config import ConfigError, EndpointConfig, ServerConfig, load_config
from resparse.console import run, say, warn

if TYPE_CHECKING:
    from deepsparse.server.tracing import Tracing

_EXAMPLE = """\
for example:
  deepsparse.server --task text_classification --model_path deployment/
  deepsparse.server --config_file config.yaml

a configuration file:
  endpoints:
    - task: text_classification
      model: deployment/
      route: /tweets"""

_LEVELS = ("critical", "error", "warning", "info", "debug")
# Accepted requests are answered, but a client that never ends its request cannot keep the server running.
_GRACE_S = 30
_EVERYWHERE = ("0.0.0.0", "::", "")
_LOCAL = ("127.0.0.1", "localhost", "::1")


def cli() -> int:
    """Run the command with the process's arguments."""
    return run(lambda: main(sys.argv[1:]))


def main(words: Sequence[str]) -> int:
    """Load the models, then serve until a signal."""
    arguments = _parser().parse_args(normal_options(words))
    api_key = read_api_key(arguments.api_key, arguments.api_key_file, os.environ)
    config = _config(arguments)
    # Imported late, so that mistakes above show at once; fastapi to find out whether it is installed (F401).
    try:
        import fastapi  # noqa: F401
        import uvicorn
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"The server needs {error.name}, which is not installed: pip install 'resparse[server]'."
        ) from error
    grpc_serving = _grpc_serving(arguments)
    from deepsparse.server.app import create_app
    from deepsparse.server.connections import ConnectionLimits, Connections, most_connections
    from deepsparse.server.endpoints import ConfigWatch, Endpoints
    from deepsparse.server.memory import keep_memory_together
    from deepsparse.server.service import Server

    tracing = _tracing(arguments)
    keep_memory_together()
    for field in config.without_effect():
        warn(f"{field} has no effect here; counts for Prometheus are at /metrics.")
    endpoints = Endpoints(config, tracing)
    watch = ConfigWatch(Path(arguments.config_file), config) if arguments.hot_reload_config else None
    server = Server(endpoints, config, watch, api_key, tracing)
    if grpc_serving is not None:
        server.beside = grpc_serving(server, arguments.host, arguments.grpc_port, _GRACE_S)
    app = create_app(server)
    limits = ConnectionLimits(most_connections(config.max_connections), config.request_timeout)
    for endpoint in endpoints:
        engine = endpoint.pipeline.engine
        say(
            f"{endpoint.name}: {endpoint.config.model} on {engine.engine_type}, {engine.num_cores} cores, at "
            f"/v2/models/{endpoint.name}/infer"
        )
    shown = "localhost" if arguments.host in _EVERYWHERE else arguments.host
    say(f"serving on http://{shown}:{arguments.port}/ (Ctrl-C ends it)")
    if grpc_serving is not None:
        say(f"serving gRPC on {shown}:{arguments.grpc_port}")
    if api_key is None and arguments.host not in _LOCAL:
        warn("Whoever reaches this address may use the models: --api-key-file, or a proxy, keeps others out.")
    uvicorn.run(
        app,
        host=arguments.host,
        port=arguments.port,
        log_level=arguments.log_level,
        access_log=arguments.log_level == "debug",
        timeout_graceful_shutdown=_GRACE_S,
        http=Connections(limits, endpoints.metrics).protocol,
        ws="none",
    )
    return 0


def _grpc_serving(arguments: argparse.Namespace) -> Callable[..., AbstractAsyncContextManager[int]] | None:
    """What serves over gRPC, where that is asked for; asked before models are loaded, which takes a while.

    Raises:
        ConfigError: grpcio is not installed, or the port is that of HTTP.
    """
    if arguments.grpc_port is None:
        return None
    try:
        from deepsparse.server.grpc_server import serving
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--grpc-port needs {error.name}, which is not installed: pip install 'resparse[grpc]'."
        ) from error
    if arguments.grpc_port == arguments.port:
        raise ConfigError(f"--port and --grpc-port are both {arguments.port}; give gRPC another one.")
    return serving


def _tracing(arguments: argparse.Namespace) -> Tracing | None:
    """What traces requests, where that is asked for; a ConfigError where OpenTelemetry is not installed."""
    url = arguments.otlp_traces_endpoint
    if url is None:
        return None
    if not url.startswith(("http://", "https://")):
        raise ConfigError(
            f"--otlp-traces-endpoint {url}: a URL is wanted, such as http://localhost:4318/v1/traces."
        )
    try:
        from deepsparse.server.tracing import exporting

        return exporting(url)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--otlp-traces-endpoint needs {error.name}, which is not installed: pip install 'resparse[otel]'."
        ) from error


def _config(arguments: argparse.Namespace) -> ServerConfig:
    models = [model for model in (*arguments.model, arguments.model_path) if model]
    file = arguments.config_file
    if file and (models or arguments.task or arguments.model_name):
        raise ConfigError("Give either --config_file, or a task and a model.")
    if arguments.hot_reload_config and not file:
        raise ConfigError("--hot-reload-config follows a file: give --config_file.")
    if file:
        config = load_config(file)
    elif len(models) == 1:
        found = (
            tasks.find(arguments.task) if arguments.task else tasks.of_deployment(open_deployment(models[0]))
        )
        task = found.name
        name = arguments.model_name or task
        endpoint = EndpointConfig(task=task, model=models[0], name=name, batch_size=arguments.batch_size)
        config = ServerConfig(endpoints=[endpoint])
    else:
        raise ConfigError(
            "Which model? Give one --model_path, or --config_file with several. `--help` shows examples."
        )
    given = {
        "num_cores": arguments.num_cores,
        "num_workers": arguments.num_workers,
        "integration": arguments.integration,
        "max_request_bytes": arguments.max_request_bytes,
        "max_queued_texts": arguments.max_queued_texts,
        "max_queued_seconds": arguments.max_queued_seconds,
    }
    return config.model_copy(update={name: value for name, value in given.items() if value is not None})


def _parser() -> Parser:
    parser = Parser("deepsparse.server", "Serve text classifiers over HTTP.", _EXAMPLE)
    add = parser.add_argument
    add("model", nargs="*", help="the same as --model_path")
    add("--task", help="text_classification, or one of its other names")
    add("--model-path", help="a deployment folder, an .onnx file, or a zoo: stub")
    add("--model-name", help="its name in the address /v2/models/NAME/infer [that of the task]")
    add("--config-file", help="a YAML file with one or more endpoints, instead of --task and --model_path")
    add(
        "--host",
        default="127.0.0.1",
        help="the address to listen at; 0.0.0.0: all of this machine [%(default)s]",
    )
    add("--port", type=parser.count, default=5543, help="[%(default)s]")
    add(
        "--grpc-port",
        type=parser.count,
        help="serve the Open Inference Protocol over gRPC, too, at this port",
    )
    add(
        "--api-key",
        help=f"ask for this key, but for health; better in a file or in {VARIABLE}, which others see not",
    )
    add("--api-key-file", help="a file that holds the key")
    add("--log-level", default="info", choices=_LEVELS, help="[%(default)s]")
    add("--hot-reload-config", action="store_true", help="follow changes of the configuration file")
    add("--otlp-traces-endpoint", metavar="URL", help="send OpenTelemetry traces there, by OTLP over HTTP")
    add("--batch-size", type=parser.count, help="texts computed at a time, at most")
    add("--num-cores", type=parser.count, help="threads that compute [all cores]")
    add("--num-workers", type=parser.count, help="batches computed side by side [one for each core]")
    add("--integration", choices=("local", "sagemaker"), help="add sagemaker's routes")
    add("--max-request-bytes", type=parser.count, help="answer 413 to larger requests [524,288]")
    add("--max-queued-texts", type=parser.count, help="answer 429 when more would wait [1,024]")
    add("--max-queued-seconds", type=parser.seconds, help="answer 429 where longer would be waited [1]")
    return parser


if __name__ == "__main__":
    raise SystemExit(cli())
