"""docs/deploying.md, block by block, on a tiny model; blocks of packages that are not installed are passed over."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

import pytest

from support.deployment import deployment
from support.pages import ROOT, Block, Reader, blocks

PAGE = ROOT / "docs" / "deploying.md"
SKIPPED = {
    "docker ": "needs Docker's service; tests/runtime/test_runtime_deploying.py reads the Dockerfile",
    "kubectl ": "needs a cluster; the manifests have tests there",
    "systemctl ": "needs systemd as the machine's first process; the unit has tests there",
}
_IMPORT = re.compile(r"^(?:import|from) (\w+)", re.MULTILINE)

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when it is imported


def is_here(block: Block) -> bool:
    names = _IMPORT.findall(block.text) if block.language == "python" else []
    return all(importlib.util.find_spec(name) is not None for name in names)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of MLflow
def test_the_page_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deployment(tmp_path / "deployment")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "runs").as_uri())
    with Reader(tmp_path, SKIPPED) as reader:
        for block in filter(is_here, blocks(PAGE)):
            reader.follow(block)
        assert reader.met == set(SKIPPED)


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE.read_text(encoding="utf-8")):
        assert "://" in target or (PAGE.parent / target).exists(), target
