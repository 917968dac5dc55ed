"""PyTorch with its results rounded otherwise: what a model's answers owe to the last digit of its sums."""

from __future__ import annotations

from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_ULP: Final = 2.0**-23
_PRODUCTS: Final = frozenset({F.linear, torch.matmul, Tensor.matmul, F.scaled_dot_product_attention})
_ROUNDED: Final = frozenset(
    _PRODUCTS | {F.layer_norm, F.gelu, F.softmax, torch.softmax, Tensor.softmax, torch.tanh, Tensor.tanh}
)


class OtherRounding(TorchFunctionMode):
    """Context in which results are about a unit in the last place off, by normal deviates: those of matrix products,
    of normalization, and of functions that are approximated.

    Runtimes round them otherwise than PyTorch: they sum in another order; where they sum integers, which is exact in
    both, they multiply by the scales in another order; exponentials and error functions are polynomials of their own.
    The error of a sum is in proportion to its terms, and not to what is left of them: of products it is at least that
    of an eighth of their row's largest result. So mean and largest differences before the first value that is rounded
    to another step are ONNX Runtime's, measured on a classifier of sentence pairs.

    Args:
        seed: of the deviates. The same products get the same.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._chance = torch.Generator().manual_seed(seed)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Compute `func`; of those above, the result rounded otherwise."""
        result = func(*args, **(kwargs or {}))
        if func not in _ROUNDED:
            return result
        size = result.abs()
        if func in _PRODUCTS:
            size = torch.maximum(size, size.amax(dim=-1, keepdim=True) / 8)
        deviates = torch.randn(result.shape, generator=self._chance).to(result.dtype)
        return torch.addcmul(result, size, deviates, value=_ULP)
