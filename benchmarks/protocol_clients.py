"""The Open Inference Protocol with the clients that others wrote: of Triton and of KServe, over HTTP and gRPC.

They are installed in an environment of their own, whose Python is named; the labels must be the pipeline's. The server
needs grpcio (`pip install "resparse[grpc]"`).

    python benchmarks/protocol_clients.py deployment/ --python CLIENTS/bin/python
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from data import DATASETS
from deepsparse import Pipeline
from http_clients import free_port, serving
from record import keep, table
from resparse.console import run, say
from resparse.errors import UserError

_WORKER = Path(__file__).parent / "opponents" / "protocol_worker.py"
_MODEL = "text_classification"


class ClientError(UserError):
    """The clients could not be run, or got other answers."""


def main() -> int:
    """Serve, ask, compare, and keep the table."""
    arguments = _parser().parse_args()
    dataset = DATASETS[arguments.dataset]
    texts = [row[dataset.columns[0]] for row in dataset.rows("test")][: arguments.count]
    expected = Pipeline.create(model_path=arguments.deployment)(texts)
    config = {"endpoints": [{"task": _MODEL, "model": arguments.deployment, "name": _MODEL}]}
    port = free_port()
    words = ("--grpc-port", str(port))
    with tempfile.TemporaryDirectory() as folder, serving(config, Path(folder), *words) as served:
        found = {
            client: _asked(arguments.python, client, served.port, port, texts)
            for client in ("tritonclient", "kserve")
        }
    answers = {way: answer for each in found.values() for way, answer in each["answers"].items()}
    rows = [_row(way, answer, expected) for way, answer in answers.items()]
    text = table(["client", "texts", "labels as the pipeline's", "greatest difference of scores"], rows)
    say(text)
    versions = ", ".join(f"{client} {each['version']}" for client, each in found.items())
    said = f"What `tritonclient` raises for a tensor of numbers: “{found['tritonclient']['error']}”"
    keep("protocol_clients", "The Open Inference Protocol, by others' clients", [text, versions, said], found)
    return 0


def _asked(python: str, client: str, http: int, grpc: int, texts: list[str]) -> dict[str, Any]:
    """What a client got. Each has a process of its own: both register the same messages."""
    done = subprocess.run(
        [python, str(_WORKER), client, f"127.0.0.1:{http}", f"127.0.0.1:{grpc}", _MODEL],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ClientError(f"{client} failed: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _row(way: str, answer: dict[str, Any], expected: Any) -> list[str]:
    same = sum(label == wanted for label, wanted in zip(answer["labels"], expected.labels, strict=True))
    apart = np.abs(np.subtract(answer["scores"], expected.scores)).max()
    if same != len(expected.labels):
        raise ClientError(f"{way}: {len(expected.labels) - same} labels differ from the pipeline's.")
    return [way, str(len(expected.labels)), str(same), f"{apart:.1e}"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("deployment")
    parser.add_argument("--python", required=True, help="that of the environment with the clients")
    parser.add_argument("--dataset", choices=DATASETS, default="tweeteval_emotion")
    parser.add_argument("--count", type=int, default=200)
    return parser


if __name__ == "__main__":
    sys.exit(run(main))
