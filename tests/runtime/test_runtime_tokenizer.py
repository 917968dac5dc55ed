"""Token ids against Transformers, from the same files, on text as people write it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepsparse.deployment import Deployment
from deepsparse.tokenizer import Tokenizer, load_tokenizer
from support.deployment import MAX_LENGTH, WORDS, deployment

TEXTS = st.one_of(st.text(), st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join))
NAMES = ("input_ids", "attention_mask", "token_type_ids")


def loaded(folder: Path, length: int | None = None) -> Tokenizer:
    config = json.loads((folder / "config.json").read_text())
    return load_tokenizer(Deployment(folder / "model.onnx", config), length)


@given(
    st.lists(st.one_of(TEXTS, st.tuples(TEXTS, TEXTS)), min_size=1, max_size=4), st.integers(4, MAX_LENGTH)
)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_same_ids_as_transformers(deployed: Path, rows: list[str | tuple[str, str]], length: int):
    transformers = pytest.importorskip("transformers")
    ours = loaded(deployed, length)
    reference = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(deployed / "tokenizer.json"), pad_token="[PAD]", model_input_names=list(NAMES)
    )
    for row, encoding in zip(rows, ours.encode(rows), strict=True):
        # Lists, since an empty second text on its own would count as none.
        texts = [[row]] if isinstance(row, str) else [[text] for text in row]
        wanted = reference(*texts, truncation="longest_first", max_length=min(length, MAX_LENGTH))
        made = ours.arrays([encoding], len(encoding), NAMES)
        assert made["input_ids"].tolist() == wanted["input_ids"]
        assert made["token_type_ids"].tolist() == wanted["token_type_ids"]
        assert made["attention_mask"].all()


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_goes_to_its_side(tmp_path: Path, side: str):
    folder = deployment(tmp_path / "deployment")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "padding_side": side, "pad_token": "[MASK]"}))
    tokenizer = loaded(folder)
    made = tokenizer.arrays(tokenizer.encode(["sad", "a sad film"]), 6, NAMES)
    expected = [0, 0, 0, 1, 1, 1] if side == "left" else [1, 1, 1, 0, 0, 0]
    assert made["attention_mask"][0].tolist() == expected
    assert (made["input_ids"][0] == 4).tolist() == [not kept for kept in expected]


@pytest.mark.parametrize(
    ("settings", "config", "expected"),
    [
        ({"model_max_length": 40}, {}, 40),
        ({"model_max_length": 1e30}, {}, MAX_LENGTH),
        ({}, {"model_type": "roberta", "max_position_embeddings": 42, "pad_token_id": 1}, 40),
        ({}, {"max_position_embeddings": None}, 512),
    ],
)
def test_the_length_that_the_model_takes(tmp_path: Path, settings: dict, config: dict, expected: int):
    folder = deployment(tmp_path / "deployment", **config)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert loaded(folder).max_length == expected


def test_settings_may_be_missing(tmp_path: Path):
    folder = deployment(tmp_path / "deployment", pad_token_id=2)
    (folder / "tokenizer_config.json").unlink()
    tokenizer = loaded(folder)
    assert np.count_nonzero(tokenizer.arrays(tokenizer.encode(["sad"]), 5, NAMES)["input_ids"][0] == 2) == 3
