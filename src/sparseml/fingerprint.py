"""What a run is made of: the content of all that it reads, and the arguments that decide its result.

Two runs with one fingerprint train the same model, so one may go on where the other was stopped. Files count by their
content, under whatever name and however old; a recipe by the modifiers that it says.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from resparse.errors import UserError
from resparse.files import write_json
from sparseml.data.digests import digest_of, named_files
from sparseml.options import environment
from sparseml.processes import count_of_processes
from sparseml.recipe import load_plan

MARK: Final = "run.json"
"""The file of an output folder that says what its run is made of; written before the first checkpoint."""

MODEL_FILES: Final = (
    *("config.json", "model*.safetensors", "model.safetensors.index.json", "pytorch_model*.bin"),
    *("tokenizer*.json", "tokenizer*.model", "special_tokens_map.json", "added_tokens.json", "vocab.*"),
    *("merges.txt", "bpe.codes", "spiece.model", "sentencepiece*.model", "chat_template.jinja"),
    *("recipe.yaml", "modifiers.safetensors"),
)
"""Patterns of the files of a model's folder that a run reads from its start, and writes for its result."""

_DATA: Final = ("train_file", "validation_file", "test_file", "dataset_name")
_OPTIONAL_FILES: Final = ("class_weights",)  # which may be a word, too
_MODELS: Final = ("model_name_or_path", "config_name", "tokenizer_name", "distill_teacher")

# Where files go, how the run is shown and logged, and how it is spread over processes.
_NO_MATTER: Final = frozenset(
    {
        *("output_dir", "overwrite_output_dir", "resume_from_checkpoint", "cache_dir", "overwrite_cache"),
        *("disable_tqdm", "report_to", "run_name", "project", "trackio_space_id"),
        *("trackio_bucket_id", "trackio_static_space_id", "log_level"),
        *("log_level_replica", "log_on_each_node", "logging_dir", "logging_first_step", "logging_steps"),
        *("logging_strategy", "logging_nan_inf_filter", "include_num_input_tokens_seen"),
        *("skip_memory_metrics", "token", "use_auth_token", "push_to_hub", "push_to_hub_token"),
        *("hub_token", "hub_model_id", "hub_strategy", "hub_private_repo", "hub_always_push", "hub_revision"),
        *("save_strategy", "save_steps", "save_total_limit", "save_on_each_node"),
        *("preprocessing_num_workers", "dataloader_num_workers", "dataloader_pin_memory"),
        *("dataloader_persistent_workers", "dataloader_prefetch_factor", "use_cpu", "no_cuda", "local_rank"),
        *("ddp_backend", "ddp_timeout", "do_train", "do_eval"),
    }
)
# Their product, with the number of processes, is the rows of an optimizer step, which decide the weights.
_STEP: Final = ("per_device_train_batch_size", "gradient_accumulation_steps")
_STEP_ROWS: Final = "rows of a step"
# How the run is scored: it decides the weights only where the best of them are looked for, or it ends the training.
_SCORING: Final = frozenset(
    {
        *("eval_strategy", "eval_steps", "eval_delay", "eval_on_start", "per_device_eval_batch_size"),
        *("eval_accumulation_steps", "bf16_full_eval", "fp16_full_eval", "batch_eval_metrics"),
        "max_eval_samples",
    }
)
# What is done with the trained model: a run that differs in these alone trains the same one.
_AFTER_TRAINING: Final = frozenset(
    {
        *("test_file", "do_predict", "max_predict_samples", "num_export_samples"),
        *("multi_label_threshold", "calibration", "min_score", "out_of_scope_label"),
    }
)


@dataclass(frozen=True)
class Fingerprint:
    """See the top of this file; both by the name of the argument."""

    contents: dict[str, str]  # digests of what was read
    arguments: dict[str, Any]  # those that differ from their defaults

    def differences(self, other: Fingerprint) -> list[str]:
        """The flags of the arguments in which two trainings differ, for messages; [] where they are the same one."""
        ours, theirs = self.contents | self.arguments, other.contents | other.arguments
        names = (ours.keys() | theirs.keys()) - _AFTER_TRAINING
        return [
            f"what --{name} holds" if name in self.contents and name in other.contents else _flag(name)
            for name in sorted(names)
            if ours.get(name) != theirs.get(name)
        ]


@dataclass(frozen=True)
class Mark:
    """What an output folder says of its run.

    Attributes:
        made_of: the run's fingerprint.
        kept: names of the folder's files that were there before and are called like those of a run: the user's own.
    """

    made_of: Fingerprint
    kept: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Write the mark whole; a WriteError where the folder cannot be written."""
        write_json(folder / MARK, asdict(self))


def read_mark(folder: Path) -> Mark | None:
    """The mark of a folder; None where it has none, or one of another version that says less."""
    try:
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
        made_of = Fingerprint(dict(mark["made_of"]["contents"]), dict(mark["made_of"]["arguments"]))
        return Mark(made_of, [str(name) for name in mark["kept"]])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def fingerprint(
    values: Mapping[str, Any],
    defaults: Mapping[str, Any],
    start: Path | None = None,
    whole_batches: bool = False,
    processes: int | None = None,
) -> Fingerprint:
    """The fingerprint of a run.

    However the rows of a step are spread over processes and micro-batches, the run is the same one. What cannot be read
    counts as such: to say so is left to who needs it.

    Args:
        values: its arguments by name, as they were given or chosen.
        defaults: of all arguments.
        start: the folder of `model_name_or_path`, where that was fetched; names of what is not on this machine
            count as they are.
        whole_batches: the data are cut into batches of a size, which is another cut for another size.
        processes: that train together, by default as many as were started; 1 where a step's rows do not depend on it.
    """
    output = values.get("output_dir")
    outside = Path(str(output)) if output is not None else None
    found = {name: _data(str(values[name]), outside) for name in _DATA if values.get(name) is not None}
    files = {
        name: Path(str(values[name])).expanduser() for name in _OPTIONAL_FILES if values.get(name) is not None
    }
    found |= {name: _readable([path]) for name, path in files.items() if path.is_file()}
    folders = {name: Path(str(values[name])).expanduser() for name in _MODELS if values.get(name) is not None}
    if start is not None:
        folders["model_name_or_path"] = start
    found |= {name: _model(folder) for name, folder in folders.items() if folder.is_dir()}
    if values.get("recipe") is not None:
        found["recipe"] = _recipe(values["recipe"], values.get("recipe_args"))
    contents = {name: digest for name, digest in found.items() if digest is not None}
    passed_over = _NO_MATTER | contents.keys() | ({"recipe_args"} if "recipe" in contents else set())
    passed_over |= set(_STEP[1:] if whole_batches else _STEP)
    if not values.get("load_best_model_at_end") and values.get("early_stopping_patience") is None:
        passed_over |= _SCORING
    arguments = {
        name: value
        for name, value in sorted(values.items())
        if name not in passed_over and value is not None and value != defaults.get(name)
    }
    bounds = {
        name: os.environ[name] for name in (environment.ROWS, environment.STEPS) if os.environ.get(name)
    }
    step = _rows_of_a_step(values, defaults, processes or count_of_processes())
    if step != _rows_of_a_step({}, defaults, 1):
        arguments[_STEP_ROWS] = step
    return Fingerprint(contents, json.loads(json.dumps(arguments | bounds, default=str)))


def _rows_of_a_step(values: Mapping[str, Any], defaults: Mapping[str, Any], processes: int) -> int:
    return int(math.prod(values.get(name) or defaults.get(name) or 1 for name in _STEP)) * processes


def _flag(name: str) -> str:
    if name == _STEP_ROWS:
        return "rows of a step: --per_device_train_batch_size x --gradient_accumulation_steps x processes"
    return name if name.isupper() else f"--{name}"


def _data(text: str, outside: Path | None) -> str | None:
    files = named_files(text, outside)
    return _readable(files) if files else None


def _model(folder: Path) -> str:
    found = {path for pattern in MODEL_FILES for path in folder.glob(pattern)}
    parts = [f"{path.name} {_readable([path])}" for path in sorted(found)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _readable(files: list[Path]) -> str:
    try:
        return digest_of(files)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


def _recipe(recipe: str, recipe_args: Any) -> str | None:
    try:
        plan = load_plan(recipe, recipe_args)
    except UserError:
        return None
    steps = [(spec.tag, spec.fields) for spec in plan.modifiers]
    return hashlib.sha256(json.dumps(steps, sort_keys=True, default=str).encode()).hexdigest()
