"""Pruning of GPT's Conv1D, whose weight is [inputs, outputs]: as of a Linear layer with the transposed weight."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.pytorch_utils import Conv1D

from sparseml.modifiers import MODIFIERS, Clock, ModifierError
from sparseml.modifiers.pruning import GradualPruningModifier, PruningModifier
from sparseml.modifiers.structured_pruning import StructuredPruningModifier
from sparseml.recipe import ModifierSpec, Plan
from sparseml.session.session import Session

CLOCK = Clock(steps_per_epoch=2, total_steps=4)
TAGS = [
    tag
    for tag, kind in MODIFIERS.items()
    if issubclass(kind, PruningModifier) and not issubclass(kind, StructuredPruningModifier)
]


class Classifier(nn.Module):
    """Two layers, Linear or Conv1D, of the same weights."""

    def __init__(self, transposed: bool) -> None:
        super().__init__()
        source = torch.Generator().manual_seed(0)
        self.first, self.second = (self._layer(sides, transposed, source) for sides in ((16, 8), (4, 16)))

    def _layer(self, sides: tuple[int, int], transposed: bool, source: torch.Generator) -> nn.Module:
        weight, bias = torch.randn(sides, generator=source), torch.randn(sides[0], generator=source)
        layer = Conv1D(*sides) if transposed else nn.Linear(sides[1], sides[0])
        layer.weight = nn.Parameter(weight.T.contiguous() if transposed else weight)
        layer.bias = nn.Parameter(bias)
        return layer

    def forward(self, inputs: Tensor, labels: Tensor) -> SequenceClassifierOutput:
        logits = self.second(torch.tanh(self.first(inputs)))
        return SequenceClassifierOutput(loss=nn.functional.cross_entropy(logits, labels), logits=logits)


def batches() -> Iterator[dict[str, Tensor]]:
    for seed in range(4):
        source = torch.Generator().manual_seed(seed)
        yield {
            "inputs": torch.randn(16, 8, generator=source),
            "labels": torch.randint(0, 4, (16,), generator=source),
        }


def trained(transposed: bool, tag: str, mask_type: Any, sparsity: float) -> dict[str, Tensor]:
    """Weights and masks after a short training, as of Linear layers."""
    fields: dict[str, Any] = {
        "params": "__ALL_PRUNABLE__",
        "final_sparsity": sparsity,
        "mask_type": mask_type,
    }
    if issubclass(MODIFIERS[tag], GradualPruningModifier):
        fields |= {"init_sparsity": 0.2, "start_epoch": 0, "end_epoch": 1.5, "update_frequency": 0.5}
    if tag == "OBSPruningModifier":
        # Few gradients and little damping would magnify how the sums of both kinds are rounded.
        fields |= {"damp": 0.01, "grad_sampler_kwargs": {"batch_size": 1}}
    model = Classifier(transposed)
    session = Session(Plan("it", (ModifierSpec(tag, fields, 1),)), model)
    session.run.batches = batches
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    session.begin(CLOCK, 0, optimizer)
    for step, batch in enumerate(batches()):
        session.before_step(step)
        optimizer.zero_grad()
        model(**batch).loss.backward()
        session.after_backward()
        session.before_optimizer_step()
        optimizer.step()
        session.after_step()
    weights = {
        name: parameter.detach() for name, parameter in model.named_parameters() if parameter.ndim == 2
    }
    return {name: weight.T if transposed else weight for name, weight in weights.items()}


@pytest.mark.parametrize("mask_type", ["unstructured", "block4", [2, 4], [1, -1], "2:4"], ids=str)
@pytest.mark.parametrize("tag", TAGS)
def test_a_transposed_weight_is_pruned_as_a_linear_layers(tag: str, mask_type: Any) -> None:
    sparsity = 0.5 if mask_type == "2:4" else 0.6
    linear, conv1d = (trained(kind, tag, mask_type, sparsity) for kind in (False, True))
    for name, weight in linear.items():
        assert (weight == 0).any()
        assert torch.equal(conv1d[name] == 0, weight == 0)
        torch.testing.assert_close(conv1d[name], weight, rtol=1e-4, atol=1e-5)
        if mask_type == "2:4":
            assert ((conv1d[name] == 0).reshape(-1, 4).sum(1) == 2).all()


def test_a_shape_must_divide_the_inputs_of_a_transposed_weight() -> None:
    fields = {"params": ["second.weight"], "final_sparsity": 0.5, "mask_type": [1, 8]}
    Session(Plan("it", (ModifierSpec("LayerwisePruningModifier", fields, 1),)), Classifier(True))
    fields["mask_type"] = [8, 1]
    with pytest.raises(ModifierError, match=r"second.weight has shape \[4, 16\]"):
        Session(Plan("it", (ModifierSpec("LayerwisePruningModifier", fields, 1),)), Classifier(True))


def test_gpts_layers_have_two_zeros_in_four_inputs() -> None:
    from transformers import GPT2Config, GPT2Model

    torch.manual_seed(0)
    model = GPT2Model(GPT2Config(vocab_size=40, n_positions=16, n_embd=8, n_layer=1, n_head=2))
    fields = {"params": "__ALL_PRUNABLE__", "final_sparsity": 0.5, "mask_type": "2:4", "init_sparsity": 0.0}
    fields |= {"start_epoch": 0, "end_epoch": 1, "update_frequency": 1}
    Session(Plan("it", (ModifierSpec("MagnitudePruningModifier", fields, 1),)), model).apply_once()
    layers = [module for module in model.modules() if isinstance(module, Conv1D)]
    assert len(layers) == 4
    for layer in layers:
        assert ((layer.weight.T == 0).reshape(-1, 4).sum(1) == 2).all()
