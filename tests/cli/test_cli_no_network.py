"""The whole chain with every socket refused but loopback: training, export, prediction, server. No telemetry."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from support import tiny
from support.serving import serving

OFFLINE = Path(__file__).parents[1] / "support" / "offline"

pytestmark = pytest.mark.slow


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where refused connections are recorded; Pythons that are started from now on are cut off."""
    monkeypatch.setenv("RESPARSE_NETWORK_LOG", str(tmp_path / "network"))
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(OFFLINE), *filter(None, [os.environ.get("PYTHONPATH")])])
    )
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    # What would keep libraries from the network is not set: they shall not want to.
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "network"


def run(*words: object, fails: bool = False) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout


def test_the_network_is_off(log: Path):
    for code in (
        "import socket; socket.create_connection(('192.0.2.1', 80), 1)",
        "import socket; socket.getaddrinfo('example.org', 80)",
        "import urllib.request; urllib.request.urlopen('http://example.org', timeout=1)",
        "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
    ):
        log.unlink(missing_ok=True)
        run("-c", code, fails=True)
        assert log.read_text()
    log.unlink()
    with socket.create_server(("127.0.0.1", 0)) as server:
        run("-c", f"import socket; socket.create_connection(('localhost', {server.getsockname()[1]}))")
    assert not log.exists()


def test_train_export_predict_and_serve(log: Path, pruned_model: Path, rows_folder: Path, tmp_path: Path):
    trained = tmp_path / "trained"
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(tiny.RECIPE)
    command = ["-m", "sparseml.transformers.text_classification", "--model_name_or_path", pruned_model]
    run(
        *[*command, "--train_file", rows_folder / "train.csv", "--do_train", "--do_eval", "--recipe", recipe],
        *["--validation_file", rows_folder / "validation.csv", "--output_dir", trained],
    )
    run("-m", "sparseml.transformers.export", "--model_path", trained, "--target_path", tmp_path)
    deployed = tmp_path / "deployment"
    out = tmp_path / "labelled.csv"
    predict = "import sys; from sparseml.cli import main; sys.exit(main(sys.argv[1:]))"
    run("-c", predict, "predict", deployed, "--input", rows_folder / "validation.csv", "--output", out)
    assert out.stat().st_size
    with serving("--task", "text_classification", "--model_path", deployed, log=tmp_path / "log") as server:
        (name,) = [model["name"] for model in json.loads(server.get("/v2")[1])["models"]]
        status, answer = server.post(f"/v2/models/{name}/infer", {"sequences": ["a fine day"]})
        assert status == 200 and len(answer["labels"]) == 1
        assert server.get("/")[0] == server.get("/docs")[0] == server.get("/metrics")[0] == 200
    assert not log.exists(), log.read_text()


def test_openvino_tells_nobody(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own package asks for the network at each import, from a home folder that can be written and outside of CI."""
    pytest.importorskip("openvino")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CI", "TF_BUILD", "JENKINS_URL"):
        monkeypatch.delenv(name, raising=False)
    run("-c", "import time; from deepsparse.backends import openvino; time.sleep(1)")
    assert not log.exists(), log.read_text()
