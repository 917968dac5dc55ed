"""PyTorch with its results rounded otherwise: what a model's answers owe to the last digit of its sums."""

from __future__ import annotations

from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_ULP: Final = 2.0**-23
_ROUNDED: Final = frozenset(
    {F.linear, torch.matmul, Tensor.matmul, F.scaled_dot_product_attention}
    | {F.layer_norm, F.gelu, F.softmax, torch.softmax, Tensor.softmax, torch.tanh, Tensor.tanh}
)


class OtherRounding(TorchFunctionMode):
    """Context in which results are a unit in the last place off, up or down by chance: those of matrix products, of
    normalization, and of functions that are approximated.

    Runtimes round them otherwise than PyTorch: they sum in another order; where they sum integers, which is exact in
    both, they multiply by the scales in another order; exponentials and error functions are polynomials of their own.

    Args:
        seed: of the choice between up and down. The same products get the same.
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
        up_or_down = torch.randint(0, 2, result.shape, generator=self._chance, dtype=torch.int8) * 2 - 1
        return torch.addcmul(result, result, up_or_down.to(result.dtype), value=_ULP)
