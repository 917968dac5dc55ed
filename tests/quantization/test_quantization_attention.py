"""Quantized attention against PyTorch's own, on operands that make its softmax sharp."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparseml.quantization.modules import ATTRIBUTE, AttentionQuantizers, quantized_attention
from sparseml.quantization.scheme import INT8_ACTIVATIONS, UINT8_ACTIVATIONS

BATCH, HEADS, TOKENS, SIZE = 2, 3, 6, 8


def operands(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (
        torch.randn(BATCH, HEADS, TOKENS, SIZE, generator=generator) * 2 + 0.3 for _ in range(3)
    )
    return query, key, value


def module(enabled: bool = True) -> nn.Module:
    """An attention module in training mode, whose ranges follow what it is given."""
    result = nn.Module()
    quantizers = AttentionQuantizers(UINT8_ACTIVATIONS, INT8_ACTIVATIONS)
    for quantizer in quantizers.children():
        quantizer.enabled = enabled
    setattr(result, ATTRIBUTE, quantizers)
    result.is_causal = False
    return result


def boolean_mask() -> Tensor:
    mask = torch.ones(BATCH, 1, TOKENS, TOKENS, dtype=torch.bool)
    mask[0, :, :, 3:] = False
    mask[1, :, :2, 5] = False
    return mask


MASKS = {
    "none": None,
    "boolean": boolean_mask(),
    "additive": torch.zeros(BATCH, 1, TOKENS, TOKENS).masked_fill(~boolean_mask(), float("-inf")),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("scaling", [None, 0.2, 1.0])
def test_it_is_pytorchs_attention_within_eight_bits(mask: Tensor | None, scaling: float | None) -> None:
    query, key, value = operands()
    got, probabilities = quantized_attention(module(), query, key, value, mask, scaling=scaling)
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
    assert got.shape == (BATCH, TOKENS, HEADS, SIZE)
    error = (got.transpose(1, 2) - expected).norm() / expected.norm()
    assert 1e-4 < error < 0.03
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(BATCH, HEADS, TOKENS), rtol=0, atol=0.03)
    if mask is not None:
        shut = ~boolean_mask().expand(BATCH, HEADS, TOKENS, TOKENS)
        assert (probabilities[shut] == 0).all()


@pytest.mark.parametrize("name", ["boolean", "additive"])
def test_what_is_masked_has_no_say(name: str) -> None:
    query, key, value = operands()
    quantizing = module()
    quantized_attention(quantizing, query, key, value, MASKS[name])
    quantizing.eval()
    first, _ = quantized_attention(quantizing, query, key, value, MASKS[name])
    key[0, :, 3:], value[0, :, 3:] = 5.0, -7.0
    second, _ = quantized_attention(quantizing, query, key, value, MASKS[name])
    assert torch.equal(first[0], second[0])


def test_gradients_are_near_those_of_pytorchs_attention() -> None:
    gradients = []
    for quantizing in (True, False):
        query, key, value = (each.requires_grad_() for each in operands())
        if quantizing:
            out = quantized_attention(module(), query, key, value, MASKS["boolean"])[0].transpose(1, 2)
        else:
            out = F.scaled_dot_product_attention(query, key, value, attn_mask=MASKS["boolean"])
        (out * torch.linspace(-1, 1, SIZE)).sum().backward()
        gradients.append([each.grad for each in (query, key, value)])
    for mine, exact in zip(*gradients, strict=True):
        assert (mine - exact).norm() / exact.norm() < 0.05


@pytest.mark.parametrize("bare", [True, False], ids=["no quantizers", "not enabled"])
def test_without_quantizers_at_work_it_is_exact(bare: bool) -> None:
    query, key, value = operands()
    plain = nn.Module() if bare else module(enabled=False)
    plain.is_causal = False
    got, _ = quantized_attention(plain, query, key, value, MASKS["boolean"])
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=MASKS["boolean"])
    torch.testing.assert_close(got.transpose(1, 2), expected)


def test_dropout_is_for_training_and_falls_on_the_quantized_grid() -> None:
    query, key, _ = operands()
    value = torch.eye(TOKENS, SIZE).expand(BATCH, HEADS, TOKENS, SIZE)  # so that the probabilities come out
    quantizing = module()
    torch.manual_seed(0)
    dropped, _ = quantized_attention(quantizing, query, key, value, None, dropout=0.5)
    quantizing.eval()
    kept, _ = quantized_attention(quantizing, query, key, value, None, dropout=0.5)
    gone = dropped == 0
    assert 0.3 < (gone & (kept != 0)).sum() / (kept != 0).sum() < 0.7
    torch.testing.assert_close(dropped[~gone], kept[~gone] * 2)
