"""The card (README.md) of a deployment on the Hub: what it is, how it is used, what its report says of it."""

from __future__ import annotations

from typing import Any, Final

from deepsparse import tasks
from deepsparse.deployment import Deployment, read_json
from deepsparse.errors import ModelError

_REPORT: Final = "report.json"
_MOST_LABELS: Final = 30
_SHOWN: Final = "eval_"

_TEXT: Final = """
# {name}

A {noun} in ONNX, made with resparse. It runs without PyTorch (`pip install "resparse[runtime]"`):

```python
from deepsparse import Pipeline

pipeline = Pipeline.create(task="{task}", model_path="hf:{repo}")
print(pipeline({example}))
```

```bash
deepsparse.server --task {task} --model_path hf:{repo}
```
"""


def card(deployment: Deployment, repo: str) -> str:
    """The whole text, for a repository OWNER/NAME."""
    from huggingface_hub import ModelCardData

    task = tasks.of_deployment(deployment)
    report = _report(deployment)
    totals = report.get("totals", {})
    sparse = ["sparse"] if totals.get("prunable_sparsity", 0) >= 0.1 else []
    int8 = ["int8", "quantized"] if totals.get("quantized_layers") else []
    front = ModelCardData(
        pipeline_tag=task.name.replace("_", "-"), tags=["onnx", *sparse, *int8, "resparse"]
    ).to_yaml()
    example = ", ".join(
        f"{name}={value!r}" if len(task.request["required"]) > 1 else repr(value)
        for name, value in task.example.items()
        if name in task.request["required"]
    )
    body = _TEXT.format(
        name=repo.rpartition("/")[2], noun=task.noun, task=task.name, repo=repo, example=example
    )
    parts = [body, _labels(task, deployment), _facts(report)]
    return f"---\n{front}\n---\n" + "\n".join(part for part in parts if part)


def _labels(task: type[tasks.Task[Any, Any]], deployment: Deployment) -> str:
    if "id2label" not in deployment.config or task.output_names != ("logits",):
        return ""
    names = deployment.label_names()
    more = f" and {len(names) - _MOST_LABELS} more" if len(names) > _MOST_LABELS else ""
    return f"Labels: {', '.join(f'`{name}`' for name in names[:_MOST_LABELS])}{more}.\n"


def _facts(report: dict[str, Any]) -> str:
    """A table of the report's figures; empty where there are none."""
    rows: list[tuple[str, str]] = []
    totals, export = report.get("totals", {}), report.get("export", {})
    if sparsity := totals.get("prunable_sparsity"):
        rows.append(("zeros among the pruned layers' weights", f"{sparsity:.1%}"))
    if layers := totals.get("quantizable_layers"):
        rows.append(("layers in int8", f"{totals.get('quantized_layers', 0)} of {layers}"))
    if stored := export.get("size", {}).get("stored_bytes"):
        rows.append(("size", f"{stored / 1e6:.1f} MB"))
    for name, value in report.get("metrics", {}).items():
        if name.startswith(_SHOWN) and isinstance(value, float) and "loss" not in name:
            called = name.removeprefix(_SHOWN).replace("_", " ")
            rows.append((f"{called}, validation rows", f"{value:.4f}"))
    if not rows:
        return ""
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    return "\n".join(lines) + "\n"


def _report(deployment: Deployment) -> dict[str, Any]:
    """What the export wrote of the model; empty of a folder that others made."""
    try:
        return read_json(deployment.folder / _REPORT, "")
    except ModelError:
        return {}
