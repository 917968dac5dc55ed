"""Text classification: the initial bias of a new classifier."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sparseml.data.label_encoding import MULTI, REGRESSION, SINGLE, Kind
from sparseml.decisions import probabilities
from sparseml.tasks.initial_bias import prior_logits, set_bias
from support.encoders import ARCHITECTURES, classifier


@pytest.mark.parametrize("kind", [SINGLE, MULTI])
def test_prior_logits_is_the_share_of_each_label(kind: Kind) -> None:
    source = np.random.default_rng(0)
    if kind == SINGLE:
        truth = source.choice(4, 1000, p=[0.7, 0.2, 0.05, 0.05])
        shares = np.bincount(truth) / 1000
    else:
        truth = (source.random((1000, 4)) < [0.5, 0.1, 0.02, 0.3]).astype(np.float32)
        shares = truth.mean(axis=0)
    assert probabilities(prior_logits(truth, kind, 4)[None], kind)[0] == pytest.approx(shares, rel=1e-5)


def test_scores_set_bias_their_mean_and_labels_that_never_occur_at_almost_nothing() -> None:
    assert prior_logits(np.asarray([1.0, 2.0, 6.0]), REGRESSION, 1) == [3.0]
    rare = prior_logits(np.asarray([[1.0, 0.0], [1.0, 0.0]]), MULTI, 2)
    assert np.isfinite(rare).all() and rare[0] > 9 > -9 > rare[1]
    assert np.isfinite(prior_logits(np.asarray([0, 0, 2]), SINGLE, 3)).all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_only_a_new_last_layer_begins_there(architecture: str) -> None:
    model = classifier(architecture, quantized=False)
    wanted = np.asarray([1.0, -2.0, 0.5])
    assert not set_bias(model, [], wanted)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    (last,) = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == 3
    ]
    assert set_bias(model, {f"{last}.bias", f"{last}.weight"}, wanted)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"{last}.bias"}
    assert model.get_parameter(f"{last}.bias").tolist() == pytest.approx(wanted.tolist())
