"""Contrastive steps: the loss against its definition, what they change, and what they must leave as it is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from sparseml.session.contrast import batches, can_contrast, contrast, contrastive_loss
from sparseml.session.head_start import features
from sparseml.tasks.text_classification import LabelCollate
from support import encoders, tiny


def test_the_loss_is_its_definition() -> None:
    """Equation 2 of arXiv:2004.11362, written with loops."""
    generator = torch.Generator().manual_seed(0)
    found, truth = torch.randn(7, 5, generator=generator), torch.tensor([0, 0, 1, 1, 1, 2, 0])
    unit = (found / found.norm(dim=1, keepdim=True)).tolist()
    of_rows = []
    for row, label in enumerate(truth.tolist()):
        like = [math.exp(sum(a * b for a, b in zip(unit[row], other, strict=True)) / 0.2) for other in unit]
        alike = [other for other in range(7) if other != row and truth[other] == label]
        total = sum(like) - like[row]
        if alike:
            of_rows.append(-sum(math.log(like[other] / total) for other in alike) / len(alike))
    torch.testing.assert_close(
        contrastive_loss(found, truth, 0.2), torch.tensor(sum(of_rows) / len(of_rows)), rtol=1e-5, atol=1e-6
    )
    assert contrastive_loss(found, torch.arange(7)).item() == 0


def test_batches_hold_several_rows_of_each_class() -> None:
    truth = np.array([0] * 40 + [1] * 3 + [2])
    for batch in batches(truth, 5, 0):
        assert set(truth[batch]) == {0, 1}, "a class of one row has no pair"
        assert len(set(batch.tolist())) == len(batch) <= 32


@pytest.mark.usefixtures("one_thread")
def test_it_parts_the_classes_and_keeps_zeros_head_and_embeddings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparseml.session.contrast._RATE", 3e-3)
    model = encoders.dense("bert", num_labels=2)
    tiny.prune(model, 0.8)
    source = np.random.default_rng(0)
    truth = np.arange(24) % 2
    # Five tokens of either half of the vocabulary, and as many of both.
    tokens = [
        [*(5 + 17 * label + source.integers(0, 17, 5)), *source.integers(5, 39, 5)]
        for label in truth.tolist()
    ]
    rows = Dataset.from_dict(
        {"input_ids": tokens, "attention_mask": [[1] * 10] * 24, "labels": truth.tolist()}
    )
    collate: Any = LabelCollate(tiny.tokenizer())
    before = {name: value.clone() for name, value in model.named_parameters()}

    def loss() -> float:
        found, labels = features(model, model.classifier, rows, collate)
        return contrastive_loss(torch.from_numpy(found), torch.from_numpy(labels)).item()

    first = loss()
    contrast(model, model.classifier, rows, collate, 12, 0)
    assert loss() < 0.9 * first
    for name, value in model.named_parameters():
        assert value.grad is None or not value.grad.any()
        if "embeddings.word" in name or name.startswith("classifier"):
            assert torch.equal(value, before[name])
        elif "encoder" in name and value.ndim == 2:
            assert torch.equal(value == 0, before[name] == 0) and not torch.equal(value, before[name])


@pytest.mark.parametrize(
    ("truth", "can"),
    [([0, 0, 1, 1], True), ([0, 0, 0, 1], False), ([0, 1, 2, 3], False), ([0, 0], False), ([], False)],
)
def test_two_classes_with_two_rows_are_wanted(truth: list[int], can: bool) -> None:
    assert can_contrast(np.array(truth)) == can
