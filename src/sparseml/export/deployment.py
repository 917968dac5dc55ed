"""The deployment folder: checked in a place of its own first, then written file by file."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from resparse.files import WriteError, whole_file, write_json, write_text
from resparse.progress import waiting
from sparseml.export import rows as texts
from sparseml.export import stored, verify
from sparseml.export import tokenizer as tokenizers
from sparseml.export.forms import FORMS, OPSETS, PORTABLE, give_form
from sparseml.export.onnx import ExportError, input_names, to_onnx
from sparseml.export.trained import Trained, load
from sparseml.export.verify import Answers, Row
from sparseml.report import build, versions
from sparseml.session import checkpoint

REPORT: Final = "report.json"
_OTHERS: Final = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    checkpoint.RECIPE_FILE,
    REPORT,
)
_LARGEST_FILE: Final = 2**31 - 2**20  # a protobuf holds less than 2 GiB


@dataclass(frozen=True)
class Wanted:
    """What to export, and where to.

    Attributes:
        source: a finished training's folder.
        folder: the deployment folder.
        runtime: a key of FORMS.
        opset: ONNX operator set; None is the form's own.
        file_name: of the model in the folder.
        sequence_length: tokens that texts are cut at; None is what the model takes.
        rows: texts to compare PyTorch and ONNX Runtime on; empty makes some up.
        rows_called: where these come from, for the report.
        samples: how many rows and answers to keep as NumPy files beside the folder.
        external_data: keep weights in a file of their own even where one file could hold them.
        recipe: applied once before the export (one-shot), with the rows for calibration.
        command: what the user typed, for the report.
    """

    source: Path
    folder: Path
    runtime: str = PORTABLE
    opset: int | None = None
    file_name: str = "model.onnx"
    sequence_length: int | None = None
    rows: Sequence[Row] = ()
    rows_called: str = "made-up texts"
    samples: int = 0
    external_data: bool = False
    recipe: str | None = None
    command: list[str] = field(default_factory=list)


def export(wanted: Wanted) -> dict[str, Any]:
    """Export a trained classifier into a deployment folder.

    All is written to a temporary folder and checked there; the deployment folder changes only after that, each
    file whole, the model last. What is there already and is not the work of an export stays.

    Returns:
        The report, as in `report.json`.

    Raises:
        UserError: nothing to export, a file that cannot be written, or an export that is not the model.
    """
    mine = _mine(wanted.folder)
    _refuse_foreign(wanted, mine)
    trained = load(wanted.source, wanted.sequence_length)
    rows = texts.some(wanted.rows) or texts.made_up(trained.tokenizer, trained.limit)
    if wanted.recipe is not None:
        from sparseml.export.one_shot import apply_once

        apply_once(trained, wanted.recipe, rows)
    with _staging(wanted.folder) as stage:
        answers, facts = _write_model(trained, wanted, rows, stage)
        _write_others(trained, wanted, stage)
        files = sorted({path.name for path in stage.iterdir()} | {REPORT})
        report = _report(trained, wanted, {**facts, "files": files})
        write_json(stage / REPORT, report)
        _publish(stage, wanted)
    for name in set(mine) - set(files):
        (wanted.folder / name).unlink(missing_ok=True)
    _write_samples(trained, wanted, answers)
    return report


def _write_model(
    trained: Trained, wanted: Wanted, rows: Sequence[Row], stage: Path
) -> tuple[Answers, dict[str, Any]]:
    """Write model.onnx and prove it."""
    inputs = input_names(trained.model, trained.tokenizer.model_input_names)
    form = FORMS[wanted.runtime]
    opset = OPSETS[form] if wanted.opset is None else wanted.opset
    with waiting("exporting"):
        graph = to_onnx(trained.model, inputs, opset)
        give_form(graph, form, opset)
        files = _save(graph, stage / wanted.file_name, wanted.external_data)
    layers = stored.weigh(trained.model, files[0])
    answers = verify.ask(trained.model, files[0], trained.tokenizer, inputs, rows, trained.limit)
    answers.refuse_mismatch()
    with waiting("measuring its size"):
        sizes = stored.sizes(trained.model, files)
    return answers, {
        "runtime": wanted.runtime,
        "form": form,
        "opset": opset,
        "inputs": inputs,
        "sequence_length": trained.limit,
        "verification": {"on": wanted.rows_called if wanted.rows else "made-up texts", **answers.facts()},
        "layers": layers,
        "size": sizes,
    }


def _save(graph: Any, path: Path, external: bool) -> list[Path]:
    """Write a graph; weights go to `model.data` beside it where they are too many for one file."""
    import onnx_ir as ir

    weights = sum(value.const_value.nbytes for value in graph.graph.initializers.values())
    if not external and weights < _LARGEST_FILE:
        ir.save(graph, path)
        return [path]
    data = path.with_suffix(".data")
    ir.save(graph, path, external_data=data.name)
    return [path, data]


def _write_others(trained: Trained, wanted: Wanted, stage: Path) -> None:
    """Everything that stands beside the model."""
    write_json(stage / "config.json", config_of(trained.model.config))
    tokenizers.save(trained.tokenizer, wanted.source, stage, trained.limit)
    if trained.plan is not None:
        write_text(stage / checkpoint.RECIPE_FILE, trained.plan.to_yaml())


def config_of(config: Any) -> dict[str, Any]:
    """A model's configuration with what readers without Transformers need spelled out."""
    kind = config.problem_type or ("regression" if config.num_labels == 1 else "single_label_classification")
    values = {key: value for key, value in config.to_dict().items() if key != "_name_or_path"}
    names = {str(index): str(config.id2label[index]) for index in range(config.num_labels)}
    return {
        **values,
        "num_labels": config.num_labels,
        "id2label": names,
        "label2id": {name: int(index) for index, name in names.items()},
        "problem_type": kind,
    }


def _report(trained: Trained, wanted: Wanted, facts: dict[str, Any]) -> dict[str, Any]:
    """The training's report, where there is one, with the export's part."""
    try:
        report: dict[str, Any] = json.loads((wanted.source / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        report = build(trained.model, {}, [], None)
    return {**report, "export": {**facts, "command": wanted.command, "versions": versions()}}


def _mine(folder: Path) -> list[str]:
    """Names of the files that the export before this one wrote into the folder."""
    try:
        report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        names = [str(name) for name in report["export"]["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [name for name in names if name == Path(name).name]


def _refuse_foreign(wanted: Wanted, mine: Sequence[str]) -> None:
    """Check that the folder holds nothing that would be overwritten and is not an earlier export's.

    Raises:
        ExportError: it does.
    """
    foreign = [
        name for name in (wanted.file_name, *_OTHERS) if (wanted.folder / name).exists() and name not in mine
    ]
    if foreign:
        raise ExportError(
            f"{wanted.folder} holds {foreign[0]}, which no export of resparse wrote, so it is not overwritten. "
            "Move the folder away, or choose another place with --target_path."
        )


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """A temporary folder beside the deployment folder.

    Raises:
        WriteError: it cannot be made there.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent)
    except OSError as error:
        raise WriteError(f"Could not write {folder}: {error.strerror or error}.") from error
    with temporary as name, checkpoint.clear_write_errors(folder):
        yield Path(name)


def _publish(stage: Path, wanted: Wanted) -> None:
    """Move the staged files to their places, each whole: first the report, which names them all, last the model."""
    order = {REPORT: -1, wanted.file_name: 1}
    for path in sorted(stage.iterdir(), key=lambda path: (order.get(path.name, 0), path.name)):
        with whole_file(wanted.folder / path.name) as temporary:
            path.replace(temporary)


def _write_samples(trained: Trained, wanted: Wanted, answers: Answers) -> None:
    """Rows as the model takes them, and its answers: NumPy files in folders beside the deployment."""
    inputs = input_names(trained.model, trained.tokenizer.model_input_names)

    def save(place: str, arrays: dict[str, Any]) -> None:
        with whole_file(wanted.folder.parent / place) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)

    for index, row in enumerate(answers.rows[: wanted.samples]):
        encoded = trained.tokenizer(*row, truncation=True, max_length=trained.limit)
        save(f"sample-inputs/inp-{index:04d}.npz", {name: np.asarray([encoded[name]]) for name in inputs})
        save(f"sample-outputs/out-{index:04d}.npz", {"logits": answers.got[index : index + 1]})
