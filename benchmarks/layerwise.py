"""Layer-wise pruning against magnitude pruning on real weights and texts: errors of the layers' outputs, and the time.

MiniLM's encoder layers are pruned in one shot to the same sparsity each, from training texts; errors are taken on
other texts: ‖ΔW X‖² / ‖W X‖² with the inputs X of the dense model, and the distance of the whole model's outputs.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterator
from typing import Any

from data import DATASETS
from record import keep, table
from resparse.console import run

MODEL = "zoo:nlp/sentence_embedding/minilm-l6/pytorch/huggingface/sentence_transformers/base-none"
PARAMS = ["re:encoder.layer.*(query|key|value|dense).weight"]
ROWS, LENGTH = 16, 128
# The variants of the modifier, by their names in the table.
FIELDS: dict[str, dict[str, Any]] = {
    "solver": {"sequential": False},
    "sequential": {},
    "without exact costs": {"sequential": False, "num_recomputations": 0},
}


def texts(dataset: str, split: str, count: int) -> list[str]:
    """The first texts of a data set's split."""
    import json

    found = DATASETS[dataset]
    lines = found.file(split).read_text(encoding="utf-8").splitlines()[:count]
    return [str(json.loads(line)[found.columns[0]]) for line in lines]


def batches_of(folder: str, lines: list[str]) -> list[dict[str, Any]]:
    """Tokenized, padded batches."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    return [
        dict(
            tokenizer(
                lines[begin : begin + ROWS],
                padding=True,
                truncation=True,
                max_length=LENGTH,
                return_tensors="pt",
            )
        )
        for begin in range(0, len(lines), ROWS)
    ]


def pruned(
    model: Any, batches: list[dict[str, Any]], tag: str, fields: dict[str, Any]
) -> tuple[Any, float, float]:
    """A copy of the model pruned in one shot by a modifier, with the seconds of wall clock and processor it took."""
    from sparseml.recipe import ModifierSpec, Plan
    from sparseml.session.session import Session

    model = copy.deepcopy(model)
    session = Session(Plan("benchmark", (ModifierSpec(tag, {"params": PARAMS, **fields}, 1, {}),)), model)

    def calibration() -> Iterator[dict[str, Any]]:
        return iter(batches)

    session.run.batches = calibration
    wall, processor = time.perf_counter(), time.process_time()
    session.apply_once()
    return model, time.perf_counter() - wall, time.process_time() - processor


def distance(model: Any, dense: Any, batches: list[dict[str, Any]]) -> float:
    """Squared distance of the last hidden states, over tokens, in shares of the dense model's variance."""
    import torch

    ours, theirs = [], []
    with torch.no_grad():
        for batch in batches:
            mask = batch["attention_mask"].bool()
            ours.append(model(**batch).last_hidden_state[mask])
            theirs.append(dense(**batch).last_hidden_state[mask])
    expected = torch.cat(theirs)
    return float((torch.cat(ours) - expected).square().mean() / (expected - expected.mean(0)).square().mean())


def measure(sparsity: float, dataset: str, count: int) -> dict[str, Any]:
    """Errors by layer and of the model, and times, for magnitude pruning and each variant."""
    from transformers import AutoModel

    from sparseml.modifiers.second_order import output_error
    from sparseml.modifiers.select import select_parameters
    from sparseml.modifiers.statistics import input_products
    from sparsezoo import Model

    folder = str(Model(MODEL).path)
    dense = AutoModel.from_pretrained(folder).eval()
    calibration = batches_of(folder, texts(dataset, "train", count))
    held_out = batches_of(folder, texts(dataset, "test", count // 2))
    names = list(select_parameters(dense, PARAMS, "benchmark"))
    layers = {name: dense.get_submodule(name.removesuffix(".weight")) for name in names}
    products = input_products(dense, layers, held_out)
    magnitude = {
        "init_sparsity": 0.0,
        "final_sparsity": sparsity,
        "end_epoch": 0,
        "start_epoch": 0,
        "update_frequency": 1,
    }
    settings = {"magnitude": ("MagnitudePruningModifier", magnitude)} | {
        name: (
            "LayerwisePruningModifier",
            {"final_sparsity": sparsity, "num_calibration_steps": len(calibration)} | fields,
        )
        for name, fields in FIELDS.items()
    }
    results: dict[str, Any] = {}
    for name, (tag, fields) in settings.items():
        model, wall, processor = pruned(dense, calibration, tag, fields)
        errors = {
            layer: output_error(model.get_parameter(layer).detach() - weight, products[layer])
            / output_error(weight, products[layer])
            for layer in names
            for weight in [dense.get_parameter(layer).detach()]
        }
        results[name] = {
            "layers": errors,
            "model": distance(model, dense, held_out),
            "seconds": wall,
            "processor_seconds": processor,
        }
        print(
            name, {key: results[name][key] for key in ("model", "seconds", "processor_seconds")}, flush=True
        )
    return results


def main() -> None:
    """Measure, and keep the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sparsity", type=float, default=0.8)
    parser.add_argument("--dataset", default="tweeteval_emotion")
    parser.add_argument("--rows", type=int, default=1024, help="calibration texts")
    options = parser.parse_args()
    results = measure(options.sparsity, options.dataset, options.rows)
    names = list(results["magnitude"]["layers"])
    by_layer = table(
        ["layer", *results],
        [
            [name.removesuffix(".weight"), *(f"{each['layers'][name]:.4f}" for each in results.values())]
            for name in names
        ],
    )
    whole = table(
        ["", *results],
        [
            [
                "mean of the layers",
                *(f"{sum(each['layers'].values()) / len(names):.4f}" for each in results.values()),
            ],
            ["the model's outputs", *(f"{each['model']:.3f}" for each in results.values())],
            ["processor seconds", *(f"{each['processor_seconds']:.0f}" for each in results.values())],
            ["seconds", *(f"{each['seconds']:.0f}" for each in results.values())],
        ],
    )
    title = f"Layer-wise pruning of MiniLM to {options.sparsity:.0%}: squared errors in shares of dense"
    data = {
        "sparsity": options.sparsity,
        "dataset": options.dataset,
        "rows": options.rows,
        "results": results,
    }
    keep("layerwise", title, [whole, by_layer], data)


if __name__ == "__main__":
    raise SystemExit(run(main))
