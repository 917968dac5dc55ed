"""What a model is made of: layers, parameters, zeros, bits and operations, of a folder, a file or a stub.

analysis = sparsezoo.analyze("my-classifier")
analysis.totals.sparsity, analysis.layers[0].bits
"""

from __future__ import annotations

from pathlib import Path

from sparsezoo.analysis.layers import Analysis, Layer, Totals

__all__ = ["Analysis", "Layer", "Totals", "analyze"]


def analyze(source: str | Path) -> Analysis:
    """Analyze a model: an ONNX file, weights in a .safetensors file, a folder with either, a stub or a Hub id.

    Raises:
        ZooError: it is none of these, cannot be read, or an ONNX file is given and `onnx` is not installed.
    """
    from sparsezoo.analysis import files

    return files.analyze(source)
