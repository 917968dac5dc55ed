"""Mistakes of a training command that show before PyTorch is imported, which takes seconds.

A flag that is misspelt, a file or folder that is not there, a recipe that cannot be read or names what does not
exist, rows and columns of small files. All is checked again, and more, by `training.arguments` and what it calls; here
nothing may be refused that is not refused there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from resparse.files import refuse_unwritable
from sparseml.options import renamed
from sparseml.options.source_fields import own_fields, subclasses
from sparseml.options.table import Option, requests_help, scan
from sparseml.tasks import TASKS

if TYPE_CHECKING:
    from sparseml.data.rows import RawSplit

_FILES: Final = ("train_file", "validation_file", "test_file")
_SMALL: Final = 4 * 1024 * 1024
"""Bytes that are read and checked in a few tenths of a second."""
_NUMBERS: Final = {"int": int, "float": float}
_HERE: Final = Path(__file__).parent
_BASE: Final = "DataTrainingArguments"


def check(task: str, words: Sequence[str]) -> None:
    """Check the words of a command line, for a task of `TASKS`.

    Raises:
        UserError: of what is wrong; as the run would say it.
    """
    known = options(task)
    if known is None or requests_help(words) or (len(words) == 1 and not words[0].startswith("-")):
        return
    raw, _ = scan(words, {**known, **renamed.old_options(known)})
    for name, value in raw.items():
        if name in known and not known[name].kinds & {str, bool}:
            known[name].convert(value)
    given = {name: value for name, value in raw.items() if isinstance(value, str)}
    if raw.keys() & {"do_train", "one_shot"} or not raw.keys() & {"do_eval", "do_predict"}:
        _check_recipe(given)  # else it is not used
    _check_files(given)
    if "output_dir" in given:
        refuse_unwritable(Path(given["output_dir"]))
    _check_folders(given)
    _check_rows(task, {*raw}, given)


def options(task: str) -> dict[str, Option] | None:
    """The arguments of a task's command, whether they are switches, and those that are numbers alone; None where
    Transformers is not installed.

    Read from the source of their dataclasses: to import these is what takes the time.
    """
    transformers = find_spec("transformers")
    if transformers is None or transformers.origin is None:
        return None
    own, theirs = _HERE / "groups.py", Path(transformers.origin).with_name("training_args.py")
    module = TASKS[task].place.partition(":")[0].rpartition(".")[2]
    # A task's own arguments are in its file, or in one of its name here.
    places = [
        path for path in (_HERE / f"{module}.py", _HERE.parent / "tasks" / f"{module}.py") if path.exists()
    ]
    fields = {
        **dict(own_fields(own, "ModelArguments")),
        **dict(own_fields(own, _BASE)),
        **{
            name: kind
            for path in places
            for each in subclasses(path, _BASE)
            for name, kind in own_fields(path, each)
        },
        **dict(own_fields(theirs, "TrainingArguments")),
        **dict(own_fields(own, "TrainingArguments")),
    }
    table = {name: Option(name, _kinds(kind), optional="None" in kind) for name, kind in fields.items()}
    return {name: option for name, option in table.items() if renamed.RENAMED.get(name) not in table}


def _check_recipe(given: Mapping[str, str]) -> None:
    recipe = given.get("recipe")
    if recipe is not None and not recipe.startswith("zoo:"):
        from sparseml.options import early_recipe
        from sparseml.recipe import load_plan

        early_recipe.check(load_plan(recipe, given.get("recipe_args")))


def _check_files(given: Mapping[str, str]) -> None:
    named = {name: given[name] for name in _FILES if name in given}
    if named:
        from sparseml.data.readers import expand_pattern

        for name, pattern in named.items():
            expand_pattern(pattern, f"--{name}")


def _check_rows(task: str, named: Collection[str], given: Mapping[str, str]) -> None:
    """Read the files that the run reads, where that takes no time, and let the task check their columns."""
    place = TASKS[task].check_rows
    work = {*named} & {"do_train", "do_eval", "do_predict", "one_shot"}
    if place is None or {*named} & {"task_name", "dataset_name"} or (work and "do_train" not in work):
        return  # a dataset names columns itself; without training it depends on the run which files are read
    from sparseml.data.readers import expand_pattern, read_files, read_header

    module, _, function = place.partition(":")
    check_rows = getattr(import_module(module), function)
    roles = {}
    for role in ("train", "validation") if not work or "do_eval" in work else ("train",):
        option = f"{role}_file"
        files = expand_pattern(given[option], f"--{option}") if option in given else []
        small = sum(file.stat().st_size for file in files) <= _SMALL
        # Parquet takes a library that takes long to import.
        if files and small and not any(file.suffix.lower() == ".parquet" for file in files):
            roles[role] = read_files(given[option], f"--{option}")
        elif files and files[0].suffix.lower() in (".csv", ".tsv"):
            _check_columns(read_header(files[0]), given)
    if "train" in roles:
        check_rows(roles, given)


def _check_columns(header: RawSplit, given: Mapping[str, str]) -> None:
    """Check that columns which arguments name are there."""
    from sparseml.data.columns import require_columns

    for argument, value in given.items():
        if argument.endswith(("column_name", "column_names")) and value not in (*header.columns, "label"):
            require_columns(header, [name.strip() for name in value.split(",")], f"--{argument}")


def _check_folders(given: Mapping[str, str]) -> None:
    from sparseml.session.sources import local_folder, refuse_without_tokenizer
    from sparsezoo import is_stub

    folders = {
        name: local_folder(given[name])
        for name in ("model_name_or_path", "tokenizer_name", "config_name")
        if name in given and not is_stub(given[name])
    }
    named = "tokenizer_name" if "tokenizer_name" in given else "model_name_or_path"
    if (folder := folders.get(named)) is not None:
        refuse_without_tokenizer(given[named], folder)


def _kinds(kind: str) -> frozenset[type]:
    """Types of values, by an annotation: of switches and numbers their own, of all others text."""
    if _is_switch(kind):
        return frozenset({bool})
    plain = re.sub(r"^Optional\[(.*)\]$", r"\1", kind)
    members = {member.strip() for member in plain.split("|")} - {"None"}
    return frozenset({_NUMBERS[member] for member in members}) if members <= {*_NUMBERS} else frozenset({str})


def _is_switch(kind: str) -> bool:
    """Whether true and false are values, by an annotation."""
    members = re.sub(r"^(Optional|Union)\[(.*)\]$", r"\2", kind)
    while members != (without := re.sub(r"\b(?!Literal\b)\w+\[[^\[\]]*\]", "", members)):
        members = without
    return any(
        re.fullmatch(r"bool|Literal\[.*(True|False).*\]", member.strip()) for member in members.split("|")
    )
