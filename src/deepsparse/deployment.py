"""A deployment folder: the model and its configuration, found and read; never written to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepsparse.errors import ModelError
from resparse.errors import nearest
from resparse.json_text import JsonError, parse_json
from resparse.text_columns import text_columns_of

MODEL = "model.onnx"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS = "special_tokens_map.json"
_HUB = ("hf:", "huggingface:")
REMOTE = ("zoo:", *_HUB)
"""How names begin that are no paths."""
_MOST_LABELS = 1 << 20  # as the native engine


@dataclass(frozen=True)
class Deployment:
    """The files of a model that is ready to be served: the ONNX file, and what `config.json` beside it holds."""

    model: Path
    config: dict[str, Any]

    @property
    def folder(self) -> Path:
        return self.model.parent

    @property
    def config_file(self) -> Path:
        return self.folder / CONFIG

    @property
    def task(self) -> str | None:
        """The task that the model was exported for; None where the exporter did not say."""
        task = self.config.get("task")
        return task if isinstance(task, str) else None

    def text_columns(self) -> tuple[str, ...]:
        """The columns whose texts the model was trained on; () where the exporter did not say.

        Raises:
            ModelError: what the configuration holds makes no sense.
        """
        try:
            return text_columns_of(self.config)
        except ValueError as error:
            raise ModelError(f"{self.config_file}: {error}.") from error

    def label_names(self) -> tuple[str, ...]:
        """The names of the labels, in the order of the logits.

        Raises:
            ModelError: names without ids, or ids with gaps.
        """
        given = self.config.get("id2label")
        if given is None:
            # Transformers leaves the names out where they are its own: LABEL_0, LABEL_1, ...
            count = self.config.get("num_labels", self.config.get("_num_labels", 2))
            if not isinstance(count, int) or not 1 <= count <= _MOST_LABELS:
                raise ModelError(
                    f"{self.config_file}: num_labels is {count!r:.60}, which no model has. Export again."
                )
            return tuple(f"LABEL_{index}" for index in range(count))
        if not isinstance(given, dict | list):
            raise ModelError(
                f"{self.config_file}: id2label is {given!r:.60}, not the labels' names by their ids."
            )
        entries: list[tuple[Any, Any]] = (
            list(enumerate(given)) if isinstance(given, list) else list(given.items())
        )
        try:
            by_id = {int(key): str(name) for key, name in entries}
        except ValueError as error:
            raise ModelError(f"{self.config_file}: an id in id2label is no number: {error}.") from error
        if sorted(by_id) != list(range(len(entries))) or not entries:
            raise ModelError(
                f"{self.config_file}: id2label has the ids {sorted(by_id)!s:.60}; wanted are 0, 1, 2, ..."
            )
        return tuple(by_id[index] for index in range(len(by_id)))


def open_deployment(source: str | Path | Deployment) -> Deployment:
    """Find a model and read its configuration.

    Args:
        source: a deployment folder (or the folder that holds one), its ONNX file, a `zoo:` stub, or `hf:` and
            the name of a Hub repository. A Deployment is returned as it is.

    Raises:
        ModelError: files are missing or cannot be read.
    """
    if isinstance(source, Deployment):
        return source
    model = onnx_file(source)
    return Deployment(model, read_json(model.parent / CONFIG, "It holds the names of the labels."))


def onnx_file(source: str | Path) -> Path:
    """The ONNX file that a source names; a ModelError where there is none."""
    text = str(source)
    path = _fetched(text) or Path(text).expanduser()
    if path.is_dir():
        for folder in (path, path / "deployment"):
            if (folder / MODEL).is_file():
                return folder / MODEL
        raise ModelError(_no_model(path))
    if not path.exists():
        siblings = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
        near = nearest(path.name, siblings, most=1)
        hint = f" Did you mean {path.parent / near[0]}?" if near else ""
        raise ModelError(
            f"There is no {text}; wanted is a deployment folder, an .onnx file or a zoo: stub.{hint}"
        )
    if path.suffix != ".onnx":
        raise ModelError(f"{text} is no .onnx file: a deployment folder or an .onnx file is wanted.")
    return path


def read_json(path: Path, purpose: str) -> dict[str, Any]:
    """Read a JSON object; `purpose` is a sentence that says what the file is for, for the error when it is missing.

    Raises:
        ModelError: missing, damaged, or no object.
    """
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            f"{path} is missing. {purpose} Copy it from the checkpoint's folder, or export again."
        ) from error
    except (OSError, UnicodeDecodeError, JsonError) as error:
        raise ModelError(f"{path} cannot be read: {error}. Copy it again, or export again.") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds a {type(value).__name__}, not a JSON object. Export again.")
    return value


def _fetched(text: str) -> Path | None:
    """The local folder of a remote name; None for a local path."""
    if text.startswith("zoo:"):
        from sparsezoo import Model

        return Path(Model(text).deployment.path)
    for prefix in _HUB:
        if text.startswith(prefix):
            from sparsezoo import hub

            return hub.fetch(text.removeprefix(prefix), None, "deployment", text)
    return None


def _no_model(folder: Path) -> str:
    names = sorted(item.name for item in folder.iterdir())
    if others := [name for name in names if name.endswith(".onnx")]:
        return f"{folder} has no {MODEL}, but {', '.join(others)}: name the file itself."
    if any(name.endswith((".safetensors", ".bin")) for name in names):
        return (
            f"{folder} is a checkpoint for training; export it first: "
            f"sparseml.transformers.export_onnx --model_path {folder} --task text_classification"
        )
    return f"{folder} has no {MODEL}. It holds: {', '.join(names[:8]) or 'nothing'}."
