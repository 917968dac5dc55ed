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
from sparseml.export import stored, verify
from sparseml.export.formats import FORMATS, OPSETS, PORTABLE, apply_format
from sparseml.export.trace import ExportError, input_names, to_onnx
from sparseml.export.trained import Trained, apply_once, load
from sparseml.report import build, versions
from sparseml.session import checkpoint
from sparseml.tasks.base import Task, Texts

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
# Vocabulary files that a training folder may hold beside tokenizer.json, which says the same.
_VOCABULARIES: Final = ("vocab.json", "merges.txt", "tokenizer.model", "spiece.model", "spm.model")
_LARGEST_FILE: Final = 2**31 - 2**20  # a protobuf holds less than 2 GiB


@dataclass(frozen=True)
class Wanted:
    """What to export, and where to.

    Attributes:
        source: a finished training's folder.
        folder: the deployment folder.
        task: what the model does; None where its configuration says.
        runtime: a key of FORMATS.
        opset: ONNX operator set; None is the format's own.
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
    task: Task | None = None
    runtime: str = PORTABLE
    opset: int | None = None
    file_name: str = "model.onnx"
    sequence_length: int | None = None
    rows: Sequence[Texts] = ()
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
    trained = load(wanted.source, wanted.task, wanted.sequence_length)
    rows = verify.spread(wanted.rows) or verify.made_up(trained.tokenizer, trained.limit)
    if wanted.recipe is not None:
        apply_once(trained, wanted.recipe, rows)
    with _staging(wanted.folder) as stage:
        facts = _write_model(trained, wanted, rows, stage)
        _write_others(trained, wanted, stage)
        files = sorted({path.name for path in stage.iterdir()} | {REPORT})
        report = _report(trained, wanted, {**facts, "files": files})
        write_json(stage / REPORT, report)
        _publish(stage, wanted)
    for name in set(mine) - set(files):
        (wanted.folder / name).unlink(missing_ok=True)
    _write_samples(trained, wanted, rows)
    return report


def _write_model(trained: Trained, wanted: Wanted, rows: Sequence[Texts], stage: Path) -> dict[str, Any]:
    """Write model.onnx, and check that it computes what the model does."""
    inputs = input_names(trained.model, trained.tokenizer.model_input_names)
    format = FORMATS[wanted.runtime]
    opset = OPSETS[format] if wanted.opset is None else wanted.opset
    with waiting("exporting"):
        graph = to_onnx(trained.model, inputs, opset, trained.task.output_names)
        apply_format(graph, format, opset)
        files = _save(graph, stage / wanted.file_name, wanted.external_data)
    layers = stored.weigh(trained.model, files[0])
    answers = verify.compare(
        trained.task, trained.model, files[0], trained.tokenizer, inputs, rows, trained.limit
    )
    answers.refuse_mismatch()
    with waiting("measuring its size"):
        sizes = stored.sizes(trained.model, files)
    return {
        "runtime": wanted.runtime,
        "form": format,
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
    write_json(stage / "config.json", trained.task.deployment_config(trained.model.config))
    save_tokenizer(trained.tokenizer, wanted.source, stage, trained.limit)
    if trained.plan is not None:
        write_text(stage / checkpoint.RECIPE_FILE, trained.plan.to_yaml())


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


def _write_samples(trained: Trained, wanted: Wanted, rows: Sequence[Texts]) -> None:
    """Write rows as the model takes them, and the file's outputs: NumPy files in folders beside the deployment."""
    if not wanted.samples:
        return
    inputs = input_names(trained.model, trained.tokenizer.model_input_names)
    names = list(trained.task.output_names)
    session = verify.open_session(wanted.folder / wanted.file_name)

    def save(place: str, arrays: dict[str, Any]) -> None:
        with whole_file(wanted.folder.parent / place) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)

    for index, row in enumerate(rows[: wanted.samples]):
        encoded = trained.tokenizer(*row, truncation=True, max_length=trained.limit)
        feeds = {name: np.asarray([encoded[name]]) for name in inputs}
        save(f"sample-inputs/inp-{index:04d}.npz", feeds)
        save(f"sample-outputs/out-{index:04d}.npz", dict(zip(names, session.run(names, feeds), strict=True)))


def save_tokenizer(tokenizer: Any, source: Path, folder: Path, limit: int) -> None:
    """Write tokenizer.json, tokenizer_config.json, special_tokens_map.json, and vocab.txt for WordPiece.

    Args:
        tokenizer: a fast tokenizer.
        source: the training folder, whose other vocabulary files come along.
        folder: where to.
        limit: tokens that the deployed model takes at most.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        # A tokenizer remembers how it was last called, and would write that down as its nature.
        backend.no_truncation()
        backend.no_padding()
    tokenizer.model_max_length = limit
    tokenizer.save_pretrained(folder)
    # Transformers 5 keeps these in tokenizer_config.json alone; older readers look for the file.
    write_json(folder / "special_tokens_map.json", _special_tokens(tokenizer))
    _clean_config(folder / "tokenizer_config.json", source)
    vocabulary = _wordpiece(folder / "tokenizer.json")
    if vocabulary is not None:
        write_text(folder / "vocab.txt", "".join(f"{token}\n" for token in vocabulary))
    for name in _VOCABULARIES:
        if (source / name).is_file() and not (folder / name).exists():
            (folder / name).write_bytes((source / name).read_bytes())


def _special_tokens(tokenizer: Any) -> dict[str, Any]:
    return {
        name: value if isinstance(value, str) else [str(token) for token in value]
        for name, value in tokenizer.special_tokens_map.items()
    }


def _clean_config(path: Path, source: Path) -> None:
    """Leave out what only said where the tokenizer came from."""
    config = json.loads(path.read_text(encoding="utf-8"))
    for name in (
        "name_or_path",
        "is_local",
        "local_files_only",
        "max_length",
        "stride",
        "truncation_strategy",
    ):
        config.pop(name, None)
    write_json(path, config)


def _wordpiece(path: Path) -> list[str] | None:
    """The tokens in the order of their ids, where the tokenizer is a WordPiece."""
    if not path.is_file():
        return None
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    if model.get("type") != "WordPiece":
        return None
    vocabulary: dict[str, int] = model["vocab"]
    return sorted(vocabulary, key=vocabulary.__getitem__)
