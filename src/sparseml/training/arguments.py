"""The arguments of a training command: from flags, a file or Python keywords."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

import transformers
from transformers import TrainerCallback
from transformers.integrations import unset_hf_deepspeed_config

from resparse.json_text import JsonError, parse_json
from resparse.yaml_text import YamlError, parse_yaml
from sparseml.guided import choices
from sparseml.guided.choices import Guided
from sparseml.options import checks, early_stopping, environment, help, renamed
from sparseml.options.groups import DEFAULT_MODEL, DataTrainingArguments, ModelArguments, TrainingArguments
from sparseml.options.table import ArgumentError, Option, check_names, options_of, requests_help, scan
from sparseml.session.distributed import one_device, refuse_sharding
from sparseml.tasks.base import Task

_SECRETS: Final = frozenset({"token", "use_auth_token", "hub_token", "push_to_hub_token"})
_FILES: Final = (".json", ".yaml", ".yml")


@dataclass
class Arguments:
    """All that a run was asked to do.

    Attributes:
        task: what the model learns to do.
        model, data, training: the three groups, checked against each other; `data` is of the task's own class.
        guided: what a guided run has decided; None where the work is named.
        notes: lines to say once to the user: what was renamed, replaced or assumed.
        command: the command that asks for the same, access tokens left out.
        values: the arguments that were given or chosen, by name.
        defaults: of all arguments, by name.
        callbacks: further ones for the training.
    """

    task: Task
    model: ModelArguments
    data: DataTrainingArguments
    training: TrainingArguments
    guided: Guided | None = None
    notes: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    callbacks: tuple[TrainerCallback, ...] = ()

    @property
    def learns(self) -> bool:
        """Whether the run changes the model: by training, or by applying a recipe once."""
        return self.training.do_train or self.data.one_shot


def parse(task: Task, /, argv: Sequence[str] | None = None, **kwargs: Any) -> Arguments:
    """Read the arguments of a run.

    Args:
        task: what the model learns to do; it has data arguments of its own.
        argv: flags, or the path of one file (.json, .yaml) that holds all arguments; by default those of the
            process, unless keywords are given.
        kwargs: arguments by name, from Python; they win over `argv`. None means "not given".

    Raises:
        ArgumentError: an unknown name, an impossible value or a contradiction, in one clear line each.
        SystemExit: help was asked for, and printed.
    """
    options = all_options(task)
    known = {**options, **renamed.old_options(options)}
    words = list(argv) if argv is not None else [] if kwargs else sys.argv[1:]
    if requests_help(words):
        everything = not {"--help-all", "--help_all"}.isdisjoint(words)
        print(help.text(task.command, task.introduction, task.arguments, options, everything))
        raise SystemExit(0)
    given, notes = _read(words, known)
    check_names(kwargs, known)
    given |= {name: value for name, value in kwargs.items() if value is not None}
    values, renames = renamed.translate(given, options)
    typed = {name: options[name].convert(value) for name, value in values.items()}
    notes += renames
    if "model_name_or_path" not in typed:
        notes.append(f"No --model_name_or_path given: starting from the embedded {DEFAULT_MODEL}.")
    checks.normalise(typed)
    refuse_sharding(typed.get("fsdp"))
    asked = frozenset(typed)
    notes += early_stopping.fit(typed)
    guide, defaults = None, {name: option.default for name, option in options.items()}
    if task.guided and choices.is_guided(typed):
        guide, chosen = choices.choose(typed, defaults, task)
        guide = replace(guide, given=guide.given & asked)
        notes = chosen + notes
    holds_out = task.holds_out or (guide is not None and guide.hold_out)
    checks.check(typed, options, holds_out, task.file_endings)
    notes += environment.fit(typed) + environment.alone_after_all()
    training, warned = _training(_part(TrainingArguments, typed))
    data = task.arguments(**_part(task.arguments, typed))
    bounds = one_device(training) + environment.cap(data, training)
    return Arguments(
        task=task,
        model=ModelArguments(**_part(ModelArguments, typed)),
        data=data,
        training=training,
        guided=guide,
        notes=list(dict.fromkeys(notes + warned + bounds)),
        command=[task.command, *_as_flags(words, kwargs)],
        values=typed,
        defaults=defaults,
    )


def all_options(task: Task) -> dict[str, Option]:
    """Every argument of a task's training command, by its current name."""
    options = options_of(ModelArguments, task.arguments, TrainingArguments)
    # Aliases that the installed Transformers deprecates: known by their old names only.
    return {name: option for name, option in options.items() if renamed.RENAMED.get(name) not in options}


def _read(words: list[str], known: Mapping[str, Option]) -> tuple[dict[str, Any], list[str]]:
    if len(words) != 1 or not words[0].endswith(_FILES) or words[0].startswith("-"):
        return scan(words, known)
    values = _file(Path(words[0]))
    try:
        check_names(values, known)
    except ArgumentError as error:
        raise ArgumentError(f"{words[0]}: {error}") from error
    return {name: value for name, value in values.items() if value is not None}, []


def _file(path: Path) -> dict[str, Any]:
    """Arguments by name, from a file of JSON or YAML."""
    try:
        text = path.read_text(encoding="utf-8")
        values = parse_json(text) if path.suffix == ".json" else parse_yaml(text)
    except OSError as error:
        raise ArgumentError(f"Could not read the arguments in {path}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise ArgumentError(f"{path} is not UTF-8 text: byte {error.start + 1} cannot be read.") from error
    except JsonError as error:
        place = f", line {error.line}" if error.line else ""
        raise ArgumentError(f"{path}{place}: not JSON: {error.reason}.") from error
    except YamlError as error:
        raise ArgumentError(f"{path} is not YAML: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise ArgumentError(f"{path} must hold one mapping of argument names to values.")
    return values


def _part(group: type, values: Mapping[str, Any]) -> dict[str, Any]:
    names = {entry.name for entry in fields(group)}
    return {name: value for name, value in values.items() if name in names}


def _training(values: dict[str, Any]) -> tuple[TrainingArguments, list[str]]:
    """Transformers checks its own arguments as they are made: what it says is about what the user gave."""
    with _restored_if_refused(), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            training = TrainingArguments(**values)
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ArgumentError(f"Transformers does not accept these training arguments: {reason}") from error
    return training, [" ".join(str(entry.message).split()) for entry in warned]


@contextmanager
def _restored_if_refused() -> Iterator[None]:
    """Silence Transformers; if it refuses the arguments, put back what it has changed in the process by then.

    Its DeepSpeed configuration registers itself before it is complete, by a weak reference that every later
    `from_pretrained` follows. The traceback of the error keeps it alive for as long as someone keeps the error,
    as an interactive session does.
    """
    verbosity, environment = transformers.logging.get_verbosity(), dict(os.environ)
    transformers.logging.set_verbosity_error()
    try:
        yield
    except ArgumentError:
        unset_hf_deepspeed_config()
        transformers.logging.set_verbosity(verbosity)
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        raise


def _as_flags(words: list[str], kwargs: Mapping[str, Any]) -> list[str]:
    """The command line that says the same, without access tokens."""
    flags: list[str] = []
    secret = False
    for word in words:
        flag, equals, _ = word.partition("=")
        if flag.startswith("--"):
            secret = flag[2:].replace("-", "_") in _SECRETS
            flags.append(f"{flag}=***" if secret and equals else word)
        else:
            flags.append("***" if secret else word)
    for name, value in kwargs.items():
        if value is None:
            continue
        texts = value if isinstance(value, list | tuple) else [value]
        shown = [json.dumps(text) if isinstance(text, dict | bool) else str(text) for text in texts]
        flags += [f"--{name}", *(["***"] if name in _SECRETS else shown)]
    return flags
