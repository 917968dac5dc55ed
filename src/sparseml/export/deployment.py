"""The deployment folder: written and verified in a temporary folder first, then moved into place file by file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from resparse.confidence import TEMPERATURE
from resparse.console import warn
from resparse.files import WriteError, temporary_folder, whole_file, write_json, write_text
from resparse.progress import waiting
from sparseml.export import stored, verify
from sparseml.export.formats import FORMATS, OPSETS, PORTABLE, apply_format
from sparseml.export.sessions import open_session
from sparseml.export.trace import ExportError, to_onnx
from sparseml.export.trained import Trained, apply_once, load
from sparseml.report import build, versions
from sparseml.session import checkpoint
from sparseml.tasks.base import Task, Texts

REPORT: Final = "report.json"
_WRITTEN: Final = (
    *("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"),
    *(checkpoint.RECIPE_FILE, REPORT),
)
# Vocabulary files that a training folder may hold beside tokenizer.json, with the same content.
_VOCABULARIES: Final = ("vocab.json", "merges.txt", "tokenizer.model", "spiece.model", "spm.model")
_LARGEST_FILE: Final = 2**31 - 2**20  # a protobuf holds less than 2 GiB


@dataclass(frozen=True)
class ExportRequest:
    """What to export, and where to."""

    source: Path  # the folder of a finished training
    folder: Path
    task: Task | None = None  # None takes the task from the model's configuration
    runtime: str = PORTABLE  # a key of FORMATS
    opset: int | None = None  # ONNX operator set; None is the format's default
    file_name: str = "model.onnx"
    sequence_length: int | None = None  # tokens to truncate texts to; None is the model's maximum
    rows: Sequence[Texts] = ()  # texts to compare PyTorch and ONNX Runtime on; empty generates some
    rows_called: str = "made-up texts"  # the origin of `rows`, for the report
    samples: int = 0  # number of rows and outputs to save as NumPy files beside the folder
    external_data: bool = False  # write weights to a separate file even where one file could hold them
    recipe: str | None = None  # applied once before the export (one-shot), calibrated on `rows`
    decide: Mapping[str, Any] = field(
        default_factory=dict
    )  # entries for config.json, of `resparse.confidence.KEYS`
    command: list[str] = field(default_factory=list)  # the command line, for the report


def export(request: ExportRequest) -> dict[str, Any]:
    """Export a trained model into a deployment folder, and return the report, as in its `report.json`.

    Everything is written to a temporary folder and verified there; only then are the files moved, the model last. Files
    in the deployment folder that no earlier export wrote are kept.

    Raises:
        UserError: nothing to export, a file that cannot be written, or outputs that differ from the model's.
    """
    previous = _previous_files(request.folder)
    _refuse_foreign(request, previous)
    trained = load(request.source, request.task, request.sequence_length)
    rows = verify.evenly_spaced(request.rows) or verify.synthetic_texts(trained.tokenizer, trained.limit)
    if request.recipe is not None:
        apply_once(trained, request.recipe, rows)
        _forget_temperature(trained)
    for name, value in request.decide.items():
        setattr(trained.model.config, name, value)
    with _staging_folder(request.folder) as stage:
        facts = _write_model(trained, request, rows, stage)
        write_json(stage / "config.json", trained.task.deployment_config(trained.model.config))
        save_tokenizer(trained.tokenizer, request.source, stage, trained.limit)
        if trained.plan is not None:
            write_text(stage / checkpoint.RECIPE_FILE, trained.plan.to_yaml())
        files = sorted({path.name for path in stage.iterdir()} | {REPORT})
        report = _report(trained, request, {**facts, "files": files})
        write_json(stage / REPORT, report)
        _publish(stage, request)
    for name in set(previous) - set(files):
        (request.folder / name).unlink(missing_ok=True)
    _write_samples(trained, request, rows)
    return report


def _forget_temperature(trained: Trained) -> None:
    """A temperature is of the model that it was fitted to; a recipe that was applied since has made another."""
    if getattr(trained.model.config, TEMPERATURE, None) is not None:
        setattr(trained.model.config, TEMPERATURE, None)
        warn(
            "The recipe has changed the model, so the temperature of its training is left out: fit another to the "
            "deployment with `sparseml calibrate`."
        )


def _write_model(
    trained: Trained, request: ExportRequest, rows: Sequence[Texts], stage: Path
) -> dict[str, Any]:
    """Write the model file, and verify it against the PyTorch model; returns the report's part about it."""
    format = FORMATS[request.runtime]
    opset = OPSETS[format] if request.opset is None else request.opset
    with waiting("exporting"):
        graph = to_onnx(trained.model, trained.inputs, opset, trained.task.output_names)
        apply_format(graph, format, opset)
        files = _save(graph, stage / request.file_name, request.external_data)
    layers = stored.check_weights(trained.model, files[0])
    comparison = verify.compare(trained, files[0], rows)
    comparison.refuse_mismatch()
    with waiting("measuring its size"):
        sizes = stored.sizes(trained.model, files)
    return {
        "runtime": request.runtime,
        "form": format,
        "opset": opset,
        "inputs": trained.inputs,
        "sequence_length": trained.limit,
        "verification": {
            "on": request.rows_called if request.rows else "made-up texts",
            **comparison.facts(),
            "longer": trained.longer(rows),
            "window": trained.window,
            "read": trained.long_texts.read,
        },
        "layers": layers,
        "size": sizes,
    }


def _save(graph: Any, path: Path, external: bool) -> list[Path]:
    """Write a graph; weights go to a `.data` file beside it where one protobuf cannot hold them."""
    import onnx_ir as ir

    weights = sum(value.const_value.nbytes for value in graph.graph.initializers.values())
    if not external and weights < _LARGEST_FILE:
        ir.save(graph, path)
        return [path]
    data = path.with_suffix(".data")
    ir.save(graph, path, external_data=data.name)
    return [path, data]


def _report(trained: Trained, request: ExportRequest, facts: dict[str, Any]) -> dict[str, Any]:
    """The training's report, if there is one, extended by the export's."""
    try:
        report: dict[str, Any] = json.loads((request.source / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        report = build(trained.model, {}, [], None)
    return {**report, "export": {**facts, "command": request.command, "versions": versions()}}


def _previous_files(folder: Path) -> list[str]:
    """Names of the files that the previous export wrote into the folder."""
    try:
        report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        names = [str(name) for name in report["export"]["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [name for name in names if name == Path(name).name]


def _refuse_foreign(request: ExportRequest, previous: Sequence[str]) -> None:
    """Refuse to overwrite files that no earlier export wrote."""
    foreign = [
        name
        for name in (request.file_name, *_WRITTEN)
        if (request.folder / name).exists() and name not in previous
    ]
    if foreign:
        raise ExportError(
            f"{request.folder} holds {foreign[0]}, which no export of resparse wrote, so it is not overwritten. "
            "Move the folder away, or choose another place with --target_path."
        )


@contextmanager
def _staging_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside the deployment folder."""
    with ExitStack() as stack:
        try:
            temporary = stack.enter_context(temporary_folder(folder))
        except OSError as error:
            raise WriteError(f"Could not write {folder}: {error.strerror or error}.") from error
        with checkpoint.clear_write_errors(folder):
            yield temporary


def _publish(stage: Path, request: ExportRequest) -> None:
    """Move the staged files into the folder: the report first, since it lists them all, the model last."""
    order = {REPORT: -1, request.file_name: 1}
    for path in sorted(stage.iterdir(), key=lambda path: (order.get(path.name, 0), path.name)):
        with whole_file(request.folder / path.name) as temporary:
            path.replace(temporary)


def _write_samples(trained: Trained, request: ExportRequest, rows: Sequence[Texts]) -> None:
    """Save input rows and the exported model's outputs as NumPy files in folders beside the deployment folder."""
    if not request.samples:
        return
    names = list(trained.task.output_names)
    session = open_session(request.folder / request.file_name)

    def save(place: str, arrays: dict[str, Any]) -> None:
        with whole_file(request.folder.parent / place) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)

    for index, row in enumerate(rows[: request.samples]):
        encoded = trained.tokenizer(*row, truncation=True, max_length=trained.limit)
        feeds = {name: np.asarray([encoded[name]]) for name in trained.inputs}
        save(f"sample-inputs/inp-{index:04d}.npz", feeds)
        save(f"sample-outputs/out-{index:04d}.npz", dict(zip(names, session.run(names, feeds), strict=True)))


def save_tokenizer(tokenizer: Any, source: Path, folder: Path, limit: int) -> None:
    """Write the tokenizer, limited to `limit` tokens, vocab.txt for WordPiece, and other vocabularies of `source`."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        # The truncation and padding of the last call would be saved as the tokenizer's defaults.
        backend.no_truncation()
        backend.no_padding()
    tokenizer.model_max_length = limit
    tokenizer.save_pretrained(folder)
    # Transformers 5 writes these to tokenizer_config.json alone; older readers look for the file.
    special_tokens = {
        name: value if isinstance(value, str) else [str(token) for token in value]
        for name, value in tokenizer.special_tokens_map.items()
    }
    write_json(folder / "special_tokens_map.json", special_tokens)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    # Where the tokenizer came from, and how it was last called.
    dropped = ("name_or_path", "is_local", "local_files_only", "max_length", "stride", "truncation_strategy")
    write_json(path, {name: value for name, value in config.items() if name not in dropped})
    vocabulary = _wordpiece(folder / "tokenizer.json")
    if vocabulary is not None:
        write_text(folder / "vocab.txt", "".join(f"{token}\n" for token in vocabulary))
    for name in _VOCABULARIES:
        if (source / name).is_file() and not (folder / name).exists():
            (folder / name).write_bytes((source / name).read_bytes())


def _wordpiece(path: Path) -> list[str] | None:
    """The vocabulary in the order of the ids; None where the tokenizer is no WordPiece."""
    if not path.is_file():
        return None
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    if model.get("type") != "WordPiece":
        return None
    vocabulary: dict[str, int] = model["vocab"]
    return sorted(vocabulary, key=vocabulary.__getitem__)
