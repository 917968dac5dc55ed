"""How fast runtimes are on our exports, beside what else they can be given, and how small the files are.

The same weights, five files: float32, ONNX Runtime's own `quantize_dynamic` of it, our portable int8 form, our form for
DeepSparse, and SparseML's own export. Every pair of engine and file is a process of its own, which runs when it is told
to; see interleaved.py.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interleaved import OPPONENTS, Contestant, add_python, engine_contestant, measure, ratio
from process import SPARSE_MODEL
from record import keep, table
from resparse.console import run, say

SPARSITY = 0.9

MODELS = ("minilm", "bert-base", "distilbert-base", "roberta-base")
_ARCHITECTURES = {"bert-base": "bert", "distilbert-base": "distilbert", "roberta-base": "roberta"}


@dataclass(frozen=True)
class Bar:
    """A ratio of two contestants that is to be reached: median time of `ours` over that of `theirs`."""

    ours: str
    theirs: str
    most: float


BARS = (
    Bar("onnxruntime int8", "onnxruntime float32", 0.6),
    Bar("onnxruntime int8", "onnxruntime quantize_dynamic", 1.0),
    Bar("openvino int8", "openvino bf16", 1.0),
    Bar("deepsparse int8", "deepsparse SparseML's export", 1.1),
)
SIZE_BAR = 0.12


# --- the files ---


def make_model(name: str, folder: Path, sparsity: float = SPARSITY) -> Any:
    """The pruned model in float32, saved in `folder`; real weights for MiniLM, random ones for the others.

    Args:
        sparsity: of random weights.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, logging

    from sparsezoo import Model

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.manual_seed(0)
    if name == "minilm":
        source = str(Model(SPARSE_MODEL).training.path)
        model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=4)
    else:
        config = AutoConfig.for_model(_ARCHITECTURES[name], num_labels=4)
        model = AutoModelForSequenceClassification.from_config(config)
        for path, module in model.named_modules():
            if sparsity and isinstance(module, torch.nn.Linear) and "layer" in path:
                magnitude = module.weight.data.abs()
                module.weight.data[
                    magnitude < magnitude.flatten().kthvalue(int(sparsity * magnitude.numel()))[0]
                ] = 0
    # Random heads answer one label to everything; larger weights let the engines disagree if they can.
    for parameter in model.classifier.parameters() if hasattr(model, "classifier") else ():
        parameter.data.mul_(20)
    model.eval().save_pretrained(folder)
    return model


def write_files(model: Any, folder: Path, length: int) -> dict[str, Any]:
    """Write fp32, dynamic, int8 and deepsparse .onnx; returns facts about sizes and layers."""
    import onnx_ir as ir
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from sparseml.export import stored
    from sparseml.export.formats import DEEPSPARSE, PORTABLE, apply_format
    from sparseml.export.trace import input_names, to_onnx
    from sparseml.quantization.scheme import ModelScheme
    from sparseml.quantization.structure import calibrating, enable, quantize_structure

    offered = [
        "input_ids",
        "attention_mask",
        *(["token_type_ids"] if model.config.model_type == "bert" else []),
    ]
    inputs = input_names(model, offered)
    graph = to_onnx(model, inputs)
    apply_format(graph, PORTABLE)
    ir.save(graph, folder / "float32.onnx")
    logging.disable(logging.WARNING)
    quantize_dynamic(folder / "float32.onnx", folder / "dynamic.onnx", weight_type=QuantType.QInt8)
    logging.disable(logging.NOTSET)
    quantize_structure(model, {"": model}, ModelScheme())
    enable(model)
    with calibrating(model), torch.no_grad():
        for _ in range(4):
            model(input_ids=torch.randint(1000, 2000, (4, length)))
    graph = to_onnx(model, inputs)
    ir.save(graph, folder / "traced.onnx")
    for form in (PORTABLE, DEEPSPARSE):
        graph = ir.load(folder / "traced.onnx")
        apply_format(graph, form)
        ir.save(graph, folder / f"{form}.onnx")
        stored.check_weights(model, folder / f"{form}.onnx")
    (folder / "traced.onnx").unlink()
    return {
        "size": stored.sizes(model, [folder / "portable.onnx"]),
        "layers": stored.check_weights(model, folder / "portable.onnx"),
    }


def write_sparseml_export(python: Path, folder: Path, length: int) -> Path:
    """SparseML's own export of the same float32 weights."""
    out = folder / "sparseml.onnx"
    with (folder / "sparseml.log").open("wb") as log:
        subprocess.run(
            [python, OPPONENTS / "sparseml_export.py", folder, out, "--length", str(length)],
            stdout=log,
            stderr=log,
            check=True,
        )
    return out


# --- the contestants ---


def contestants_of(arguments: argparse.Namespace, folder: Path) -> list[Contestant]:
    """All pairs of engine and file whose engine is here."""
    wanted = [
        ("onnxruntime float32", "onnxruntime", "float32.onnx", "", sys.executable),
        ("onnxruntime quantize_dynamic", "onnxruntime", "dynamic.onnx", "", sys.executable),
        ("onnxruntime int8", "onnxruntime", "portable.onnx", "", sys.executable),
        ("openvino float32", "openvino", "float32.onnx", "f32", arguments.openvino_python),
        ("openvino bf16", "openvino", "float32.onnx", "bf16", arguments.openvino_python),
        ("openvino int8", "openvino", "portable.onnx", "", arguments.openvino_python),
        ("deepsparse int8", "deepsparse", "deepsparse.onnx", "", arguments.deepsparse_python),
        ("deepsparse SparseML's export", "deepsparse", "sparseml.onnx", "", arguments.deepsparse_python),
    ]
    return [
        engine_contestant(
            name,
            engine,
            folder / file,
            threads=arguments.threads,
            batch=arguments.batch,
            length=arguments.length,
            more=("--precision", precision, "--clock", arguments.clock),
            python=python,
        )
        for name, engine, file, precision, python in wanted
        if python is not None and (folder / file).exists()
    ]


def ratio_of(contestants: dict[str, Contestant], bar: Bar) -> float | None:
    """Median over the rounds of ours by theirs, or None where one of them is not here."""
    return (
        ratio(contestants[bar.ours], contestants[bar.theirs])
        if {bar.ours, bar.theirs} <= contestants.keys()
        else None
    )


def one_model(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Write, run and compare everything for one model."""
    folder = arguments.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    say(f"{name}: writing")
    facts = write_files(make_model(name, folder), folder, arguments.length)
    if arguments.sparseml_python is not None:
        write_sparseml_export(arguments.sparseml_python, folder, arguments.length)
    say(f"{name}: measuring")
    contestants = {contestant.name: contestant for contestant in contestants_of(arguments, folder)}
    measure(list(contestants.values()), arguments.rounds)
    ours = contestants["onnxruntime int8"].facts["labels"]
    return {
        "model": name,
        **facts,
        "lanes": {
            contestant.name: {
                **{key: value for key, value in contestant.facts.items() if key != "labels"},
                "same_labels_as_ours": sum(map(int.__eq__, contestant.facts["labels"], ours)) / len(ours),
                "median_ms": 1e3 * statistics.median(contestant.seconds),
                "least_ms": 1e3 * min(contestant.seconds),
            }
            for contestant in contestants.values()
        },
        "ratios": {f"{bar.ours} / {bar.theirs}": ratio_of(contestants, bar) for bar in BARS},
    }


def bars_table(results: list[dict[str, Any]]) -> str:
    """Every bar by model."""
    rows = []
    for bar in BARS:
        found = [result["ratios"][f"{bar.ours} / {bar.theirs}"] for result in results]
        rows.append(
            [
                f"{bar.ours} / {bar.theirs}",
                f"≤ {bar.most}",
                *("–" if v is None else f"{v:.2f}" for v in found),
            ]
        )
    shares = [result["size"]["compressed_share"] for result in results]
    rows.append(["compressed file / dense float32", f"≤ {SIZE_BAR}", *(f"{share:.3f}" for share in shares)])
    return table(["ratio", "wanted", *(result["model"] for result in results)], rows)


def lanes_table(results: list[dict[str, Any]]) -> str:
    """Milliseconds, labels and supported operators of every contestant."""
    rows = []
    for result in results:
        for name, contestant in result["lanes"].items():
            fraction = contestant.get("fraction_of_supported_ops")
            rows.append(
                [
                    f"{result['model']}: {name}",
                    f"{contestant['median_ms']:.2f}",
                    f"{contestant['least_ms']:.2f}",
                    f"{contestant['same_labels_as_ours']:.0%}",
                    "" if fraction is None else f"{fraction:.2f}",
                ]
            )
    return table(["engine and file", "median ms", "least ms", "same labels", "supported"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument(
        "--rounds", type=int, default=15, help="counted bursts of five runs each (default 15)"
    )
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall", help="cpu: on a machine that others use too"
    )
    add_python(parser, "--openvino-python", "openvino")
    add_python(parser, "--deepsparse-python", "deepsparse 1.8.0")
    add_python(parser, "--sparseml-python", "sparseml 1.8.0")
    parser.add_argument("--folder", type=Path, default=Path("runs/export_forms"), help="for models and logs")
    parser.add_argument("--name", default="export_forms", help="of the results")
    arguments = parser.parse_args()
    results = [one_model(name, arguments) for name in arguments.models]
    clock = "processor time" if arguments.clock == "cpu" else "wall time"
    keep(
        arguments.name,
        f"Exports by form: batch {arguments.batch}, {arguments.length} tokens, {arguments.threads} threads, {clock}",
        [bars_table(results), lanes_table(results)],
        {"results": results},
    )


if __name__ == "__main__":
    raise SystemExit(run(main))
