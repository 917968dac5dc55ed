"""The files of deploy/: their commands are the server's, their probes its routes, their times longer than its own."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("fastapi")

from deepsparse.command_line import normal_options
from deepsparse.server import endpoints
from deepsparse.server.api_key import OPEN
from deepsparse.server.cli import _GRACE_S, _parser
from support.serving import serving

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
UNIT = DEPLOY / "systemd" / "deepsparse.service"
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def instruction(name: str) -> list[str]:
    """The last instruction of a name in the Dockerfile that is written as a list."""
    return list(json.loads(re.findall(rf"^{name} (\[.*\])$", DOCKERFILE, re.MULTILINE)[-1]))


def manifests() -> list[tuple[Path, dict[str, Any]]]:
    found = []
    for path in sorted(DEPLOY.rglob("*.yaml")):
        found += [(path, document) for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))]
    return found


def containers() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, manifest in manifests():
        spec = manifest.get("spec", {})
        pod = spec.get("template", {}).get("spec", {}) if manifest["kind"] == "Deployment" else spec
        for container in pod.get("containers", ()):
            yield path.name, container


def parsed(words: list[str]) -> Any:
    """What the server understands of a command, without its program."""
    return _parser().parse_args(normal_options(words))


def server_arguments(container: dict[str, Any]) -> Any:
    program, *entry = instruction("ENTRYPOINT")
    assert program == "deepsparse.server" and "command" not in container
    return parsed([*entry, *container["args"]])


CONTAINERS = list(containers())
BY_FILE = pytest.mark.parametrize(
    "container", [each for _, each in CONTAINERS], ids=[name for name, _ in CONTAINERS]
)


def named(kind: str) -> dict[str, Any]:
    return next(manifest for _, manifest in manifests() if manifest["kind"] == kind)


def test_all_kinds_are_there() -> None:
    kinds = sorted(manifest["kind"] for _, manifest in manifests())
    kserve = ["InferenceService", "ServingRuntime", "ServingRuntime"]
    assert kinds == sorted([*kserve, "Secret", "Deployment", "Service", "PodDisruptionBudget"])
    assert len(CONTAINERS) == 3


@BY_FILE
def test_a_containers_command_listens_where_its_probes_ask(container: dict[str, Any]) -> None:
    arguments = server_arguments(container)
    assert arguments.host == "0.0.0.0" and arguments.model_name and arguments.model_path
    ports = {port.get("name"): port["containerPort"] for port in container["ports"]}
    assert set(ports.values()) <= {arguments.port, arguments.grpc_port}
    for probe in PROBES:
        asked = container[probe]["httpGet"]
        assert asked["path"] in OPEN, "a probe has no key"
        assert ports.get(asked["port"], asked["port"]) == arguments.port
    # A probe must not give up before the server does: it answers 503 after these seconds.
    assert container["readinessProbe"]["timeoutSeconds"] > endpoints._PATIENCE_S


def test_the_deployment_fits_itself() -> None:
    deployment, service = named("Deployment")["spec"], named("Service")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    for selector in (
        deployment["selector"]["matchLabels"],
        service["selector"],
        named("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    ):
        assert selector == labels
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    arguments = server_arguments(container)
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
    assert mounts["model"]["mountPath"] == arguments.model_path
    # All that is written lies in a volume, since the root is not written to.
    assert container["securityContext"]["readOnlyRootFilesystem"] and not mounts["scratch"].get("readOnly")
    cache = re.search(r"DEEPSPARSE_CACHE=(\S+)", DOCKERFILE)
    assert cache and Path(cache.group(1)).is_relative_to(mounts["scratch"]["mountPath"])
    assert f"\nUSER {pod['securityContext']['runAsUser']}\n" in DOCKERFILE
    (secret,) = container["env"]
    reference = secret["valueFrom"]["secretKeyRef"]
    assert secret["name"] == "DEEPSPARSE_API_KEY" and reference["name"] == named("Secret")["metadata"]["name"]
    assert reference["key"] in named("Secret")["stringData"]
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > _GRACE_S + pause
    annotations = deployment["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(arguments.port)


def test_kserves_runtime_takes_the_service() -> None:
    model = named("InferenceService")["spec"]["predictor"]["model"]
    runtimes = {
        each["metadata"]["name"]: each["spec"] for _, each in manifests() if each["kind"] == "ServingRuntime"
    }
    runtime = runtimes[model["runtime"]]
    assert model["modelFormat"]["name"] in [each["name"] for each in runtime["supportedModelFormats"]]
    assert model["protocolVersion"] in runtime["protocolVersions"]
    for spec in runtimes.values():
        (container,) = spec["containers"]
        arguments = server_arguments(container)
        assert container["name"] == "kserve-container"
        assert (arguments.model_path, arguments.model_name) == ("/mnt/models", "{{.Name}}")
        (port,) = container["ports"]
        is_grpc = spec["protocolVersions"] == ["grpc-v2"]
        assert port["containerPort"] == (arguments.grpc_port if is_grpc else arguments.port)
        assert (port.get("name") == "h2c") == is_grpc


def test_the_image_is_built_of_what_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    (extra,) = re.findall(r"^ARG EXTRAS=(\w+)$", DOCKERFILE, re.MULTILINE)
    named_extras = re.findall(r"EXTRAS=([\w,]+)", DOCKERFILE)
    assert extra == "runtime" and all(set(each.split(",")) <= set(extras) for each in named_extras)
    assert "deepsparse.server" in project["scripts"]
    _, *entry = instruction("ENTRYPOINT")
    arguments = parsed([*entry, *instruction("CMD")])
    assert f"\nEXPOSE {arguments.port}\n" in DOCKERFILE
    kept = [
        line[1:]
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    ]
    assert all((ROOT / name).exists() for name in kept)
    needed = {"src", "setup.py", "pyproject.toml", "MANIFEST.in", project["readme"]}
    assert needed <= set(kept)


def unit() -> dict[str, str]:
    lines = UNIT.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def test_the_units_command_and_times() -> None:
    fields = unit()
    program, *words = shlex.split(fields["ExecStart"])
    arguments = parsed(words)
    assert Path(program).name == "deepsparse.server"
    credential, _, source = fields["LoadCredential"].partition(":")
    assert arguments.api_key_file == f"${{CREDENTIALS_DIRECTORY}}/{credential}" and source.startswith("/etc/")
    assert int(fields["TimeoutStopSec"]) > _GRACE_S
    environment = dict(pair.split("=") for pair in fields["Environment"].split())
    assert environment["DEEPSPARSE_CACHE"] == f"/var/cache/{fields['CacheDirectory']}"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    """It wants a program that exists."""
    copy = tmp_path / UNIT.name
    text = UNIT.read_text(encoding="utf-8")
    copy.write_text(text.replace("/opt/resparse/bin/deepsparse.server", sys.executable), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False
    )
    assert UNIT.name not in done.stderr and done.returncode == 0, done.stderr


def test_kubernetes_command_runs_and_its_probes_are_answered(
    deployed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (container,) = named("Deployment")["spec"]["template"]["spec"]["containers"]
    (key,) = named("Secret")["stringData"].values()
    monkeypatch.setenv("DEEPSPARSE_API_KEY", key)
    words = [str(deployed) if word == "/model" else word for word in container["args"]]
    with serving(*words, log=tmp_path / "log") as server:
        for probe in PROBES:
            assert server.get(container[probe]["httpGet"]["path"])[0] == 200
        assert server.get("/v2/models/classifier/ready")[0] == 401
        headers = {"Authorization": f"Bearer {key}"}
        request = urllib.request.Request(f"{server.url}/v2/models/classifier/ready", headers=headers)
        assert server.ask(request)[0] == 200
        (command,) = re.findall(r"HEALTHCHECK [^[]*(\[.*\])$", DOCKERFILE, re.MULTILINE)
        _, *check = json.loads(command)
        check = [word.replace("http://127.0.0.1:5543", server.url) for word in check]
        subprocess.run([sys.executable, *check], check=True)
    assert subprocess.run([sys.executable, *check], capture_output=True, check=False).returncode != 0
