"""What shapes of masks are worth to the native engine, at equal sparsity: time beside unstructured masks, and bytes.

MiniLM's own weights, the smallest units of its encoder set to zero, in int8; nothing is trained, so this says nothing
of accuracy. Time is the processor's: contestants take turns on a machine that others may use.

    python benchmarks/mask_shapes.py
"""

from __future__ import annotations

import argparse
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from export_forms import write_files
from interleaved import Contestant, engine_contestant, measure, ratio
from process import DENSE_MODEL
from record import keep, table
from resparse.console import run, say

UNSTRUCTURED = "unstructured"
SHAPES: tuple[str | Sequence[int], ...] = (UNSTRUCTURED, "block4", [4, 1], [16, 1], "1:4")
"""As `mask_type` of a recipe has them; N:M at its own sparsity."""


def pruned_model(folder: Path, mask_type: str | Sequence[int], sparsity: float) -> Any:
    """The dense MiniLM with a classifier, the smallest units of all its encoder's matrices pruned by one threshold."""
    import torch
    from transformers import AutoModelForSequenceClassification, logging

    from sparseml.modifiers.mask_shapes import Group, choose_masks, parse_mask_type
    from sparsezoo import Model

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.manual_seed(0)
    source = str(Model(DENSE_MODEL).training.path)
    model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=4)
    shape = parse_mask_type(mask_type)
    matrices = {
        name: parameter.data
        for name, parameter in model.named_parameters()
        if ".encoder." in name and parameter.dim() == 2
    }
    share = shape.most if shape.of else sparsity
    masks = choose_masks(
        {name: matrix.abs() for name, matrix in matrices.items()}, [Group(tuple(matrices), share)], shape
    )
    for name, mask in masks.items():
        matrices[name].masked_fill_(mask, 0)
    model.eval().save_pretrained(folder)
    return model


def packed_bytes(file: Path) -> dict[str, Any]:
    """Bytes of all packed linear layers of an export, and how many of them are in which format."""
    import numpy as np

    from deepsparse.native import library, packing
    from deepsparse.native.encoder import Linear, linears
    from deepsparse.native.onnx_graph import read
    from deepsparse.native.recognition import recognize

    isa = library.chosen_isa()
    matrices = [
        np.ascontiguousarray(one.weights) for one in linears(recognize(read(file))) if isinstance(one, Linear)
    ]
    formats = [packing.fastest(isa, weights) for weights in matrices]
    total = sum(map(library.packed_size, formats, matrices))
    return {"bytes": total, "formats": dict(Counter(one.name.lower() for one in formats))}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sparsity", type=float, default=0.8)
    parser.add_argument("--lengths", type=int, nargs="+", default=[16, 128])
    parser.add_argument("--rounds", type=int, default=30, help="counted bursts of five runs each")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("runs/mask_shapes"), help="for models and logs")
    arguments = parser.parse_args()
    files: dict[str, Path] = {}
    for mask_type in SHAPES:
        name = mask_type if isinstance(mask_type, str) else "x".join(map(str, mask_type))
        folder = arguments.folder / name.replace(":", "of")
        files[name] = folder / "portable.onnx"
        if not files[name].is_file():
            say(f"writing {name}")
            folder.mkdir(parents=True, exist_ok=True)
            write_files(pruned_model(folder, mask_type, arguments.sparsity), folder, 128)
    found: dict[str, dict[str, Any]] = {name: {"milliseconds": {}, "ratio": {}} for name in files}
    for length in arguments.lengths:
        say(f"{length} tokens")
        contestants: dict[str, Contestant] = {
            name: engine_contestant(
                "native",
                "native",
                file,
                threads=arguments.threads,
                batch=1,
                length=length,
                more=["--clock", "cpu"],
                environment={"DEEPSPARSE_CACHE": ""},
            )
            for name, file in files.items()
        }
        measure(list(contestants.values()), arguments.rounds)
        for name, contestant in contestants.items():
            found[name]["milliseconds"][length] = 1e3 * statistics.median(contestant.seconds)
            found[name]["ratio"][length] = ratio(contestant, contestants[UNSTRUCTURED])
    for name, file in files.items():
        found[name] |= packed_bytes(file)
    header = ["mask_type"]
    for length in arguments.lengths:
        header += [f"{length} tokens, ms", "of unstructured"]
    rows = []
    for name, facts in found.items():
        cells = [name]
        for length in arguments.lengths:
            cells += [f"{facts['milliseconds'][length]:.2f}", f"{facts['ratio'][length]:.2f}"]
        formats = ", ".join(f"{count} {each}" for each, count in facts["formats"].items())
        rows.append([*cells, f"{facts['bytes'] / 1e6:.2f} MB", formats])
    keep(
        "mask_shapes",
        f"Shapes of masks in the native engine: MiniLM, {arguments.sparsity:.0%} zeros (1:4: 75%), int8, one text, "
        f"{arguments.threads} thread, processor time",
        [table([*header, "packed", "formats"], rows)],
        {"shapes": found},
    )


if __name__ == "__main__":
    raise SystemExit(run(main))
