"""The loopback hub itself: the real clients are content with it."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from support.hub import LoopbackHub

CODE = """
from datasets import load_dataset
from huggingface_hub import HfApi, snapshot_download
from transformers import AutoConfig

assert load_dataset("owner/csv")["train"][0] == {"text": "hi", "label": 1}
assert load_dataset("old/csv")["test"].num_rows == 1
converted = load_dataset("owner/script", revision="refs/convert/parquet", split="train")
assert converted["label"] == [0, 1]
assert HfApi().list_repo_refs("owner/script", repo_type="dataset").converts[0].name == "parquet"
info = HfApi().get_paths_info("owner/model", ["config.json", "x"])
assert [entry.path for entry in info] == ["config.json"]
assert sorted(entry.path for entry in HfApi().list_repo_tree("owner/model")) == ["config.json", "sub"]
assert AutoConfig.from_pretrained("owner/model").hidden_size == 8
snapshot_download("owner/model")
print("content")
"""


@pytest.mark.slow
def test_the_real_clients_are_content(hub: LoopbackHub, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pytest.importorskip("pyarrow").table({"text": ["a", "b"], "label": [0, 1]})
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    csv = b"text,label\nhi,1\n"
    hub.add("owner/csv", {"train.csv": csv + b"ho,0\n", "test.csv": csv}, "datasets")
    hub.add("old/csv", {}, "datasets", renamed_to="owner/csv")
    hub.add("owner/script", {"script.py": b"raise SystemExit"}, "datasets")
    converted = {"default/train/0000.parquet": buffer.getvalue()}
    hub.add("owner/script", converted, "datasets", "refs/convert/parquet")
    hub.add("owner/model", {"config.json": b'{"model_type": "bert", "hidden_size": 8}', "sub/x.txt": b"x"})
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env=hub.environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout.strip() == "content", done.stderr
