"""The text of a card: what the model is, how to use it, how sparse it is, its results, and how it was made."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sparseml.command_text import wrapped
from sparseml.data.rows import labels_text, rows_text
from sparseml.model_card.metadata import results

if TYPE_CHECKING:
    from sparseml.model_card.subject import Subject

_MOST_LABELS = 30
_ARTICLES = {
    "text-classification": "A text classifier",
    "question-answering": "A model that answers questions by a part of a passage",
    "token-classification": "A model that tags words",
    "fill-mask": "A masked language model",
    "feature-extraction": "An encoder",
}


def text(subject: Subject) -> str:
    """The card below its front matter, in Markdown."""
    parts = [
        f"# {subject.name}",
        _introduction(subject),
        _labels(subject.report),
        _usage(subject),
        _sparsity(subject.report),
        _results(subject.report),
        _making(subject),
        _versions(subject.report["versions"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; the columns after the first are numbers, aligned right."""
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def _introduction(subject: Subject) -> str:
    report, totals = subject.report, subject.report["totals"]
    what = _ARTICLES.get(subject.pipeline_tag or "", "A model")
    sparse = f"{totals['prunable_sparsity']:.1%} of the weights of its Linear layers are zero"
    if quantized := totals["quantized_layers"]:
        sparse += f", {quantized} of {totals['quantizable_layers']} layers are quantized to 8 bits"
    start = subject.origin.base_model
    link = (
        f"[{start}](https://huggingface.co/{start})" if start else f"`{report.get('start', 'a checkpoint')}`"
    )
    data = report.get("data", {})
    rows = data.get("rows", {}).get("train")
    # Without labels these are files of text.
    read = f"{rows_text(rows)} of {subject.data_name}" if rows and data.get("labels") else subject.data_name
    learns = "train_loss" in report["metrics"]
    learned = f"trained from {link} on {read}" if learns else f"made from {link}"
    return f"{what} ({report['model']['architecture']}), {learned}. {sparse[0].upper()}{sparse[1:]}."


def _labels(report: Mapping[str, Any]) -> str:
    labels = report.get("data", {}).get("labels") or []
    if not labels:
        return ""
    listed = ", ".join(f"`{label}`" for label in labels[:_MOST_LABELS])
    rest = len(labels) - _MOST_LABELS
    return f"Labels: {listed}{f' and {rest} more' if rest > 0 else ''}."


def _usage(subject: Subject) -> str:
    """Commands and Python, for `resparse` and for Transformers alone."""
    quantized = subject.report["totals"]["quantized_layers"]
    float_only = ", in floating point: zeros are in place, rounding to 8 bits is not" if quantized else ""
    commands = ['pip install "resparse[torch,runtime]"', *subject.usage]
    parts = [
        "## Use",
        "With [resparse](https://pypi.org/project/resparse/), which makes use of zeros:",
        "```bash\n" + "\n".join(commands) + "\n```",
    ]
    if not subject.report["model"].get("loads_alone", True):
        parts.append(
            "Not with Transformers alone, which would read the first token where this model reads the mean of all: "
            "load it with `sparseml.transformers.SparseAutoModel`, or the exported model with any runtime."
        )
    elif subject.pipeline_tag:
        parts += [
            f"With Transformers alone{float_only}:",
            "```python\nfrom transformers import pipeline\n\n"
            f'run = pipeline("{subject.pipeline_tag}", model="{subject.address}")\n```',
        ]
    return "\n\n".join(parts)


def _sparsity(report: Mapping[str, Any]) -> str:
    totals = report["totals"]
    rows = [
        (kind, str(len(layers)), _share(layers), _bits(layers))
        for kind, layers in _kinds(report["layers"]).items()
    ]
    sums = [
        ("parameters", f"{totals['parameters']:,}"),
        ("zeros in Linear layers", f"{totals['prunable_sparsity']:.2%}"),
        ("dense, float32", f"{totals['dense_bytes'] / 1e6:.1f} MB"),
        ("as deployed, compressed", f"{totals['compressed_bytes'] / 1e6:.1f} MB"),
    ]
    return "\n\n".join(
        ["## Sparsity and bits", table(("", ""), sums), table(("layers", "number", "zeros", "bits"), rows)]
    )


def _kinds(layers: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Layers that play the same part in every block, under one name."""
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for layer in layers:
        name = re.sub(r"\.\d+(?=\.|$)", ".*", layer["name"])
        kinds.setdefault(f"`{name}`", []).append(layer)
    return kinds


def _share(layers: Sequence[Mapping[str, Any]]) -> str:
    sizes = [layer["shape"][0] * layer["shape"][1] for layer in layers]
    zeros = sum(size * layer["sparsity"] for size, layer in zip(sizes, layers, strict=True))
    return f"{zeros / max(sum(sizes), 1):.1%}"


def _bits(layers: Sequence[Mapping[str, Any]]) -> str:
    return " or ".join(str(bits) for bits in sorted({layer["weight_bits"] for layer in layers}))


def _results(report: Mapping[str, Any]) -> str:
    rows = [
        (f"{name.replace('_', ' ')} ({split})", f"{value:.4f}") for split, name, _, value in results(report)
    ]
    export = report.get("export", {}).get("verification")
    if export:
        of = labels_text(export.get("labels", export["rows"]), export["rows"])
        rows.append((f"export and PyTorch agree, of {of}", f"{export['label_agreement']:.4f}"))
    return "\n\n".join(["## Results", table(("metric", "value"), rows)]) if rows else ""


def _making(subject: Subject) -> str:
    parts = ["## How it was made"]
    if command := subject.report["command"]:
        parts.append("```bash\n" + wrapped(command) + "\n```")
    if subject.recipe:
        parts += ["The recipe, evaluated (`recipe.yaml`):", f"```yaml\n{subject.recipe.strip()}\n```"]
    return "\n\n".join(parts) if len(parts) > 1 else ""


def _versions(versions: Mapping[str, str]) -> str:
    return f"Versions: {', '.join(f'{name} {number}' for name, number in versions.items())}."
