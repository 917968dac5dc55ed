"""Real datasets, where they are at hand: RESPARSE_DATA, by default ../shared/data beside the checkout."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sparseml.data import DataOptions, TextData, load_text_data
from sparseml.data.label_encoding import MULTI, REGRESSION, SINGLE

DATA = Path(os.environ.get("RESPARSE_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="no folder with real data")

EMOTIONS = ("anger", "joy", "optimism", "sadness")


def load(name: str, *splits: str, **options: Any) -> TextData:
    files = {f"{split}_file": str(DATA / name / f"{split}.jsonl") for split in splits}
    return load_text_data(DataOptions(**files, **options))


@pytest.mark.parametrize(
    ("name", "kind", "rows", "texts", "names"),
    [
        ("tweeteval_emotion", SINGLE, (3257, 374), ("text",), EMOTIONS),
        (
            "sick",
            SINGLE,
            (4439, 495),
            ("sentence_A", "sentence_B"),
            ("entailment", "neutral", "contradiction"),
        ),
        ("glue_stsb", REGRESSION, (5749, 1500), ("sentence1", "sentence2"), ("label",)),
        ("glue_rte", SINGLE, (2490, 277), ("sentence1", "sentence2"), ("entailment", "not_entailment")),
    ],
)
def test_datasets(
    name: str, kind: str, rows: tuple[int, int], texts: tuple[str, ...], names: tuple[str, ...]
):
    data = load(name, "train", "validation")
    assert data.labels is not None and data.train is not None and data.validation is not None
    assert (data.labels.kind, data.labels.names) == (kind, names)
    assert data.columns.texts == texts
    assert (len(data.train), len(data.validation)) == rows


def test_multi_label():
    data = load("go_emotions", "validation", "test", eval_on_test=True, needs_train=False)
    assert data.labels is not None and data.validation is not None
    assert (data.labels.kind, data.labels.num_labels, data.labels.names[-1]) == (MULTI, 28, "neutral")
    assert len(data.validation) == 5427


def test_hold_out_from_a_file_ordered_by_class():
    data = load("trec", "train", validation_ratio=0.1, max_eval_samples=100)
    assert data.train is not None and data.validation is not None
    shares = [
        {label: count / len(part) for label, count in Counter(part["labels"][:]).items()}
        for part in (data.train, data.validation)
    ]
    assert shares[0] == pytest.approx(shares[1], abs=0.01)


def test_csv_gives_what_json_lines_give(tmp_path: Path):
    from datasets import Dataset

    path = DATA / "tweeteval_emotion" / "validation.jsonl"
    Dataset.from_json(str(path), cache_dir=str(tmp_path)).to_csv(tmp_path / "dev.csv", index=False)
    first = load_text_data(DataOptions(train_file=str(path), needs_eval=False))
    second = load_text_data(DataOptions(train_file=str(tmp_path / "dev.csv"), needs_eval=False))
    assert first.labels == second.labels
    assert first.train is not None and second.train is not None
    assert first.train[:] == second.train[:]
