"""From what the user names to the file that is analyzed."""

from __future__ import annotations

import json
from pathlib import Path

from sparsezoo import resolve
from sparsezoo.analysis.layers import Analysis
from sparsezoo.common import ZooError
from sparsezoo.stub import is_stub

_REPORT = "report.json"


def analyze(source: str | Path) -> Analysis:
    """See `sparsezoo.analyze`."""
    text = str(source)
    path = Path(text).expanduser()
    if is_stub(text) or not path.is_file():
        return _folder(text, resolve.local_path(source))
    if path.suffix == ".onnx":
        return _onnx(text, path)
    if path.suffix == ".safetensors":
        return _weights(text, [path], path.parent)
    raise ZooError(
        f"{text} is neither an .onnx nor a .safetensors file. Give one of these, a folder or a stub."
    )


def _folder(source: str, folder: Path) -> Analysis:
    """A folder: its graph where it is a deployment folder, else its weights, else the graph inside it."""
    graph = folder / resolve.ONNX_MODEL
    if graph.is_file():
        return _onnx(source, graph)
    # Besides the model's weights there may be others', such as modifiers.safetensors.
    weights = sorted(folder.glob("model*.safetensors")) or sorted(
        (folder / "training").glob("model*.safetensors")
    )
    if weights:
        return _weights(source, weights, weights[0].parent)
    inner = folder / "deployment" / resolve.ONNX_MODEL
    if inner.is_file():
        return _onnx(source, inner)
    raise ZooError(f"{source} holds neither {resolve.ONNX_MODEL} nor model.safetensors.")


def _onnx(source: str, path: Path) -> Analysis:
    from sparsezoo.analysis.onnx_graph import layers

    found, nodes = layers(path)
    return Analysis(source, str(path), tuple(found), nodes)


def _weights(source: str, paths: list[Path], folder: Path) -> Analysis:
    from sparsezoo.analysis.weights import layers

    bits = _trained_bits(folder)
    return Analysis(
        source, ", ".join(map(str, paths)), tuple(layer for path in paths for layer in layers(path, bits))
    )


def _trained_bits(folder: Path) -> dict[str, int]:
    """By layer, the bits that a training has quantized to: its weights are stored in float all the same."""
    try:
        report = json.loads((folder / _REPORT).read_text(encoding="utf-8"))
        return {str(layer["name"]): int(layer["weight_bits"]) for layer in report["layers"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
