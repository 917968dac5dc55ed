"""PyTorch with its products rounded otherwise: what a model's answers owe to the last digit of its sums."""

from __future__ import annotations

from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_ULP: Final = 2.0**-23
_PRODUCTS: Final = frozenset({F.linear, torch.matmul, Tensor.matmul, F.scaled_dot_product_attention})


class OtherRounding(TorchFunctionMode):
    """Context in which every result of a matrix product is a unit in the last place off, up or down by chance.

    Runtimes round products otherwise than PyTorch: they sum in another order, and where they sum integers, which is
    exact in both, they multiply by the scales in another order.

    Args:
        seed: of the choice between up and down. The same products get the same.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._chance = torch.Generator().manual_seed(seed)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Compute `func`; of a matrix product, the result rounded otherwise."""
        result = func(*args, **(kwargs or {}))
        if func not in _PRODUCTS:
            return result
        up_or_down = torch.randint(0, 2, result.shape, generator=self._chance, dtype=torch.int8) * 2 - 1
        return torch.addcmul(result, result, up_or_down.to(result.dtype), value=_ULP)
