"""Configurations from elsewhere that promise more than there is: refused before memory is asked for."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest
from transformers import AlbertConfig, AutoModel, BertConfig, DistilBertConfig, ElectraConfig, RobertaConfig

from sparseml.session.models import Source, load_config, load_model
from sparseml.session.promised import parameters
from sparseml.session.sources import ModelError
from support import tiny


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.bert(tmp_path_factory.mktemp("start"), names=["bad", "good"])


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize(
    "sizes",
    [
        {"hidden_size": 1_000_000, "intermediate_size": 4_000_000},
        {"intermediate_size": 10**9},
        {"vocab_size": 10**10},
        {"max_position_embeddings": 10**10},
        {"num_hidden_layers": 90_000},
        {"hidden_size": 10**400},
    ],
    ids=lambda sizes: next(iter(sizes)),
)
def test_a_model_that_is_not_there_is_refused(start: Path, tmp_path: Path, sizes: dict[str, int]):
    from transformers import AutoModelForSequenceClassification

    for path in start.iterdir():
        (tmp_path / path.name).symlink_to(path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text()) | sizes
    file.unlink()
    file.write_text(json.dumps(config))
    before = peak()
    with pytest.raises(ModelError, match=r"promises a model of .* parameters") as caught:
        load_model(Source("fuzzed", tmp_path), AutoModelForSequenceClassification)
    assert next(iter(sizes)) in str(caught.value) and len(str(caught.value)) < 500
    assert peak() < 1.2 * before


@pytest.mark.parametrize("name", ["num_labels", "num_hidden_layers"])
def test_a_configuration_that_would_make_a_list_without_end(start: Path, tmp_path: Path, name: str):
    config = json.loads((start / "config.json").read_text()) | {name: 10**12}
    config.pop("id2label", None)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=f"{name}: 1,000,000,000,000"):
        load_config(Source("fuzzed", tmp_path))


@pytest.mark.parametrize(
    "config",
    [
        BertConfig(),
        RobertaConfig(vocab_size=50_265),
        DistilBertConfig(),
        AlbertConfig(hidden_size=4096, intermediate_size=16_384, num_attention_heads=64),  # xxlarge
        ElectraConfig(embedding_size=128, hidden_size=256, intermediate_size=1024),
    ],
    ids=lambda config: config.model_type,
)
def test_sizes_of_real_models(config: BertConfig):
    import torch

    with torch.device("meta"):
        real = sum(one.numel() for one in AutoModel.from_config(config).parameters())
    assert 0.9 * real < parameters(config.to_dict()) < 1.2 * real
