"""The result of an analysis: layers, and their sums."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from math import prod
from typing import Any

# Operators whose weights are matrices to multiply by; others (embeddings, norms, biases) only look up or add.
MATRICES = frozenset({"Linear", "MatMul", "Gemm", "MatMulInteger", "QLinearMatMul", "QGemm"})


@dataclass(frozen=True)
class Layer:
    """A layer's weights.

    Attributes:
        name: of the weights.
        op: operator of the graph, or kind of layer.
        shape: as stored.
        zeros: weights that are exactly zero; of integers, those at their zero point.
        bits: of each weight.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    zeros: int
    bits: int

    @property
    def parameters(self) -> int:
        return prod(self.shape)

    @property
    def sparsity(self) -> float:
        return self.zeros / max(self.parameters, 1)

    @property
    def operations(self) -> int:
        """Multiplications and additions for one token: two for a weight of a matrix; 0 elsewhere."""
        return 2 * self.parameters if self.op in MATRICES else 0

    @property
    def sparse_operations(self) -> int:
        """Those that are left where zeros are skipped."""
        return 2 * (self.parameters - self.zeros) if self.op in MATRICES else 0

    def as_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "shape": list(self.shape),
            "parameters": self.parameters,
            "sparsity": round(self.sparsity, 6),
            "operations": self.operations,
            "sparse_operations": self.sparse_operations,
        }


@dataclass(frozen=True)
class Totals:
    """Sums over layers; `prunable` are the matrices. `bytes` without zeros left out, `dense_bytes` in float32."""

    layers: int
    parameters: int
    zeros: int
    prunable_parameters: int
    prunable_zeros: int
    quantized_parameters: int
    operations: int
    sparse_operations: int
    bytes: int
    dense_bytes: int

    @property
    def sparsity(self) -> float:
        """Of the matrices."""
        return self.prunable_zeros / max(self.prunable_parameters, 1)

    @property
    def quantized(self) -> float:
        """Share of all parameters in 8 bits or fewer."""
        return self.quantized_parameters / max(self.parameters, 1)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "sparsity": round(self.sparsity, 6), "quantized": round(self.quantized, 6)}


def total(layers: Iterable[Layer]) -> Totals:
    """The sums over some layers."""
    found = list(layers)
    matrices = [layer for layer in found if layer.op in MATRICES]
    parameters = sum(layer.parameters for layer in found)
    return Totals(
        layers=len(found),
        parameters=parameters,
        zeros=sum(layer.zeros for layer in found),
        prunable_parameters=sum(layer.parameters for layer in matrices),
        prunable_zeros=sum(layer.zeros for layer in matrices),
        quantized_parameters=sum(layer.parameters for layer in found if layer.bits <= 8),
        operations=sum(layer.operations for layer in found),
        sparse_operations=sum(layer.sparse_operations for layer in found),
        bytes=sum(layer.parameters * layer.bits // 8 for layer in found),
        dense_bytes=4 * parameters,
    )


@dataclass(frozen=True)
class Analysis:
    """What a model is made of.

    Attributes:
        source: as the user named it.
        file: what was read.
        layers: in the order of the file.
        nodes: of a graph, the number of nodes of each operator.
    """

    source: str
    file: str
    layers: tuple[Layer, ...]
    nodes: dict[str, int] = field(default_factory=dict)

    @property
    def totals(self) -> Totals:
        return total(self.layers)

    def by_op(self) -> dict[str, Totals]:
        """The sums of each operator."""
        ops = dict.fromkeys(layer.op for layer in self.layers)
        return {op: total(layer for layer in self.layers if layer.op == op) for op in ops}

    def as_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "file": self.file,
            "totals": self.totals.as_json(),
            "nodes": self.nodes,
            "layers": [layer.as_json() for layer in self.layers],
        }
