"""How much faster a model is when heads, feed-forward neurons or layers are removed: MiniLM in ONNX Runtime.

Each variant is MiniLM with a new head, made smaller in one shot by the recipe's modifiers and exported in float32; a
smaller model is one with fewer zeros to multiply by, so no texts are needed. The last column says how far the exported
model's logits are from those of PyTorch's model with the same units zeroed, in shares of the largest logit.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from interleaved import Contestant, engine_contestant, measure, ratio
from process import DENSE_MODEL
from record import keep, table
from resparse.console import run

ONCE = {"init_sparsity": 0.5, "final_sparsity": 0.5, "end_epoch": 0, "update_frequency": 1}
NEURONS = ("StructuredPruningModifier", {**ONCE, "mask_type": "neuron"})
HEADS = ("StructuredPruningModifier", {**ONCE, "mask_type": "head"})
LAYERS = ("LayerPruningModifier", {"num_layers": 3})
VARIANTS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "dense": [],
    "half the neurons": [NEURONS],
    "half the heads": [HEADS],
    "half of both": [NEURONS, HEADS],
    "half of the layers": [LAYERS],
    "half of all three": [LAYERS, NEURONS, HEADS],
}


def apply(model: Any, modifiers: list[tuple[str, dict[str, Any]]]) -> None:
    """Apply modifiers in one shot."""
    from sparseml.recipe import ModifierSpec, Plan
    from sparseml.session.session import Session

    session = Session(Plan("benchmark", tuple(ModifierSpec(*each, 1, {}) for each in modifiers)), model)
    session.apply_once()
    session.finish()


def make(name: str, file: Path) -> dict[str, Any]:
    """Write a variant's ONNX file; returns its number of parameters, and its distance from the zeroed model."""
    import numpy as np
    import onnx_ir
    import onnxruntime
    import torch
    from transformers import AutoModelForSequenceClassification

    from sparseml.export.formats import apply_format
    from sparseml.export.trace import to_onnx
    from sparseml.session.models import load_config, load_model, resolve

    torch.manual_seed(0)
    source = resolve(DENSE_MODEL)
    config = load_config(source, num_labels=4)
    model = load_model(source, AutoModelForSequenceClassification, config).model.eval()
    apply(model, VARIANTS[name])
    ids = torch.randint(1000, 2000, (8, 128))
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": torch.zeros_like(ids),
    }
    with torch.no_grad():
        zeroed = model(**inputs).logits.numpy()
    apply(model, [("LayerThinningModifier", {"strict": False})])
    parameters = sum(
        parameter.numel() for path, parameter in model.named_parameters() if "embeddings" not in path
    )
    graph = to_onnx(model, list(inputs))
    apply_format(graph, "portable")
    onnx_ir.save(graph, file)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {key: value.numpy() for key, value in inputs.items()})
    return {
        "parameters": parameters,
        "distance": float(np.abs(logits - zeroed).max() / np.abs(zeroed).max()),
        "bytes": file.stat().st_size,
    }


def main() -> None:
    """Measure, and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="counted bursts of five runs each")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall", help="cpu: on a machine that others use too"
    )
    parser.add_argument("--folder", type=Path, default=Path("runs/thinned"), help="for models and logs")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    facts: dict[str, dict[str, Any]] = {}
    contestants: dict[str, Contestant] = {}
    for name in VARIANTS:
        file = options.folder / f"{name.replace(' ', '-')}.onnx"
        facts[name] = make(name, file)
        contestants[name] = engine_contestant(
            name,
            "onnxruntime",
            file,
            threads=options.threads,
            batch=options.batch,
            length=options.length,
            more=["--clock", options.clock],
        )
    measure(list(contestants.values()), options.rounds)
    for name, contestant in contestants.items():
        facts[name] |= {
            "milliseconds": 1e3 * statistics.median(contestant.seconds),
            "speedup": ratio(contestants["dense"], contestant),
        }
    rows = [
        [
            name,
            f"{each['parameters'] / 1e6:.1f} M",
            f"{each['milliseconds']:.1f}",
            f"{each['speedup']:.2f}",
            f"{each['distance']:.0e}",
        ]
        for name, each in facts.items()
    ]
    clock = "processor time" if options.clock == "cpu" else "wall time"
    title = (
        f"Smaller MiniLMs in ONNX Runtime, float32: batch {options.batch}, {options.length} tokens, "
        f"{options.threads} threads, {clock}"
    )
    header = [
        "removed",
        "parameters without embeddings",
        "ms",
        "times faster",
        "distance from the zeroed model",
    ]
    keep("thinned", title, [table(header, rows)], {"results": facts})


if __name__ == "__main__":
    raise SystemExit(run(main))
