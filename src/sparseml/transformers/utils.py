"""Where SparseML's users of 1.5 and before import `SparseAutoModel` from."""

from __future__ import annotations

from sparseml.transformers.sparse_auto import SparseAutoModel

__all__ = ["SparseAutoModel"]
