"""Corpora from the Hub, through the real clients against a Hub on loopback: mapped, streamed, and there offline."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from support import corpora, tiny
from support.child import run_json
from support.hub import LoopbackHub
from support.hub_data import CONVERTED

SOURCE = str(Path(__file__).resolve().parents[2] / "src")
ROWS = 40_000

CHILD = """
import json, sys, tracemalloc
import datasets, pyarrow
from sparseml.data import DataOptions
from sparseml.data.text_sources import find_texts

found = {}

def held():
    return pyarrow.total_allocated_bytes() + tracemalloc.get_traced_memory()[0]

tracemalloc.start()
for name in json.load(sys.stdin):
    before = held()
    corpus, splits, notes = find_texts(DataOptions(dataset_name=name))
    (source,) = splits["train"]
    count = size = 0
    for text, _ in source.pieces():
        first = text if not count else first
        count += 1
        size += len(text)
    found[name] = {
        "first": first,
        "last": text,
        "count": count,
        "validation": sum(len(list(source.pieces())) for source in splits.get("validation", [])),
        "bytes": size,
        "held": held() - before,
        "numbered": getattr(source.split.places.number, "nbytes", 0),
        "key": source.key(),
    }
print(json.dumps(found))
"""


def texts(first: int, count: int) -> list[str]:
    return [f"{number} " + "a film of the day " * 20 for number in range(first, first + count)]


def table(rows: Sequence[str]) -> bytes:
    """A Parquet file in row groups of 1,000, as large ones have many."""
    import pyarrow
    import pyarrow.parquet

    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": list(rows)}), buffer, row_group_size=1000)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A Hub with the same corpus as files and as a conversion, each in two parts; and a small one."""
    first, second, held = table(texts(0, ROWS // 2)), table(texts(ROWS // 2, ROWS // 2)), table(texts(9, 9))
    with LoopbackHub() as hub:
        parts = {f"data/train-0000{part}-of-00002.parquet": rows for part, rows in enumerate((first, second))}
        hub.add("owner/files", {**parts, "data/validation-00000-of-00001.parquet": held}, "datasets")
        hub.add("owner/script", {"script.py": b"raise SystemExit('never run')"}, "datasets")
        converted = {"train/0000": first, "train/0001": second, "validation/0000": held}
        files = {f"default/{path}.parquet": rows for path, rows in converted.items()}
        hub.add("owner/script", files, "datasets", CONVERTED)
        small = {"data/train-00000-of-00001.parquet": table(corpora.documents(300))}
        hub.add("owner/small", small, "datasets")
        yield hub.environment(tmp_path_factory.mktemp("hub")) | {"PYTHONPATH": SOURCE}


@pytest.fixture(scope="module")
def found(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    names = ["owner/small", "owner/files", "owner/script"]  # with the first one, modules are imported
    return run_json(CHILD, names, environment, tmp_path_factory.mktemp("work"))


@pytest.mark.parametrize("name", ["owner/files", "owner/script"])
def test_a_corpus_of_the_hub_is_mapped_and_read_as_a_stream(found: dict[str, Any], name: str) -> None:
    corpus = found[name]
    assert (corpus["count"], corpus["validation"]) == (ROWS, 9)
    assert (corpus["first"], corpus["last"]) == (texts(0, 1)[0], texts(ROWS - 1, 1)[0])
    assert corpus["key"] == found["owner/files"]["key"]
    assert corpus["bytes"] > 10e6
    assert corpus["held"] < 0.2 * corpus["bytes"] and not corpus["numbered"]


@pytest.mark.slow
def test_a_model_is_trained_on_a_corpus_of_the_hub_and_again_offline(
    environment: dict[str, str], tmp_path: Path
) -> None:
    from transformers import BertConfig, BertForMaskedLM

    model = tiny.bert(tmp_path / "model", sparsity=0.0)
    BertForMaskedLM(BertConfig.from_pretrained(model)).save_pretrained(model)
    weights = []
    for name, more in (("online", {}), ("offline", {"HF_HUB_OFFLINE": "1"})):
        output = tmp_path / name
        options = {
            "model_name_or_path": model,
            "dataset_name": "owner/small",
            "output_dir": output,
            "max_seq_length": 32,
            "num_train_epochs": 1,
        }
        words = [f"--{option}={value}" for option, value in options.items()]
        child = subprocess.run(
            [
                *(sys.executable, "-m", "sparseml.transformers.masked_language_modeling"),
                *words,
                *("--do_train", "--do_eval"),
            ],
            env={**environment, **more, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert child.returncode == 0, child.stderr
        assert json.loads((output / "report.json").read_text())["data"]["rows"]["train"] == 300
        weights.append((output / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
