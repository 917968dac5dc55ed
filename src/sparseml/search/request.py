"""What a search is asked to do, from its command line: its own flags, and the training command of a trial."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from resparse.errors import did_you_mean
from sparseml.guided import sizing
from sparseml.options import early, renamed
from sparseml.options.table import BARE, Option, options_of, scan
from sparseml.recipe import load_plan
from sparseml.recipe.variables import read_overrides
from sparseml.search import space as spaces
from sparseml.search.space import Point, Range, SearchError, Space
from sparseml.search.strategies import METHODS

HELP: Final = """\
usage: sparseml search --train_file rows.csv [--grid NAME=VALUE,VALUE ...] [--name value ...]

Trains with several settings, each in a process of its own, chooses by the validation rows, and exports the best model.
A stopped search goes on where it was when the same command is given again.

  --grid NAME=V,V   values of a parameter; once for each. A parameter is an argument of the training command (learning
                    rate, epochs, batch size, seed, ...) or a variable of the recipe
                    [learning_rate=1e-4,2e-4,4e-4 num_train_epochs=10,20]
  --space FILE      in place of --grid: YAML or JSON, a list of values or low: and high: (log: true) by parameter
  --method          grid: all combinations; random; optuna: what has done well before decides, and bad trials are ended
                    early (pip install 'resparse[search]') [grid; random where the space has a range]
  --trials N        begin no more trials than this [grid: all; else 20]
  --minutes M       begin no trial after so many minutes of training
  --metric          what to choose by [--metric_for_best_model, else accuracy, or F1 of tokens and answers]
  --search_dir DIR  where trials, table, page and the best model go [search]
  --keep_models     keep the weights of all trials, not of the best one alone

All arguments of the training command may follow. Validation rows decide: rows of --test_file are read once, at the
end, by the model that was chosen."""

DEFAULT_TRIALS: Final = 20

# What the bundled recipes call what the training command has a flag for.
_VARIABLES: Final = {"learning_rate": "init_lr", "num_train_epochs": "num_epochs"}
# What a trial must not be told by the user: where it writes, and anything of the test rows.
_WITHHELD: Final[tuple[str, ...]] = ("test_file", "do_predict", "max_predict_samples")
_OURS: Final = ("output_dir", "overwrite_output_dir", "resume_from_checkpoint", "push_to_hub")


@dataclass(frozen=True)
class SearchArguments:
    """The search's own flags; see HELP."""

    grid: list[str] = field(default_factory=list)
    space: str | None = None
    method: str | None = field(default=None, metadata={"choices": METHODS})
    trials: int | None = None
    minutes: float | None = None
    metric: str | None = None
    search_dir: str = "search"
    keep_models: bool = False


@dataclass(frozen=True)
class Request:
    """A search.

    Attributes:
        task: the task's own name.
        space: what is tried.
        method: one of METHODS.
        asked: the search's own flags.
        base: arguments of every trial by name, as they were given.
        withheld: those of the test rows.
        variables: names of the recipe's variables.
    """

    task: str
    space: Space
    method: str
    asked: SearchArguments
    base: dict[str, Any]
    withheld: dict[str, Any]
    variables: tuple[str, ...]

    @property
    def folder(self) -> Path:
        return Path(self.asked.search_dir)

    @property
    def seed(self) -> int:
        given = self.base.get("seed")
        return int(given) if given is not None and given is not BARE else 42

    @property
    def most_trials(self) -> int | None:
        if self.asked.trials is not None or self.method == "grid":
            return self.asked.trials
        return DEFAULT_TRIALS

    def words(self, point: Point) -> list[str]:
        """The training command of a trial, without --output_dir."""
        arguments, overrides = dict(self.base), read_overrides(_text(self.base.get("recipe_args")))
        for name, value in point.items():
            variable = self.variable(name)
            if variable is None:
                arguments[name] = value
            else:
                overrides[variable] = value
        if overrides:
            arguments["recipe_args"] = json.dumps(overrides)
        arguments.setdefault("split_seed", self.seed)
        return as_words(arguments)

    def variable(self, name: str) -> str | None:
        """The recipe's variable that a parameter sets; None where it is an argument."""
        given = self.base.get("recipe") is not None
        named = _VARIABLES.get(name, name)
        if given and name in _VARIABLES and named in self.variables:
            return named
        return name if name in self.variables and name not in _VARIABLES else None

    def fingerprint(self) -> dict[str, Any]:
        """What must be the same for a search to go on: trials of another space or command are another search's."""
        kept = {name: str(value) for name, value in sorted(self.base.items())}
        space = [{"kind": type(parameter).__name__, **asdict(parameter)} for parameter in self.space]
        made: dict[str, Any] = json.loads(
            json.dumps({"task": self.task, "space": space, "method": self.method, "base": kept}, default=str)
        )
        return made


def parse(task: str, words: Sequence[str]) -> Request:
    """The request in a command line.

    Raises:
        UserError: an unknown flag or parameter, or a contradiction.
    """
    own = options_of(SearchArguments)
    known = early.options(task)
    if known is None:
        raise SearchError("A search needs the package 'transformers': pip install 'resparse[torch]'.")
    words, grid = _without_grid(words)
    raw, _ = scan(words, {**known, **renamed.old_options(known), **own})
    given = {name: own[name].convert(raw.pop(name)) for name in list(raw) if name in own and name != "grid"}
    asked = SearchArguments(grid=grid, **given)
    base, _ = renamed.translate(raw, known)
    _check(asked, base)
    withheld = {name: base.pop(name) for name in _WITHHELD if name in base}
    space = _space(asked)
    ranged = any(isinstance(parameter, Range) for parameter in space)
    request = Request(
        task=task,
        space=space,
        method=asked.method or ("random" if ranged else "grid"),
        asked=asked,
        base=base,
        withheld=withheld,
        variables=_recipe_variables(base),
    )
    for parameter in space:
        _check_name(parameter.name, request, known)
    if request.method == "grid":
        next(spaces.grid(space))
    return request


def as_words(arguments: Mapping[str, Any]) -> list[str]:
    """Arguments as flags."""
    words: list[str] = []
    for name, value in arguments.items():
        if value is BARE:
            words.append(f"--{name}")
        elif isinstance(value, bool):
            words += [f"--{name}", str(value).lower()]
        else:
            words += [f"--{name}", *map(str, value if isinstance(value, list | tuple) else [value])]
    return words


def _without_grid(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The other words, and the values of all --grid flags: a flag that may be given again and again."""
    rest: list[str] = []
    grid: list[str] = []
    into = rest
    for word in words:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            into = grid if name == "--grid" else rest
            if name == "--grid":
                grid += [value] if equals else []
                continue
        into.append(word)
    return rest, grid


def _space(asked: SearchArguments) -> Space:
    if asked.grid and asked.space:
        raise SearchError("--grid and --space both say what to try: leave one out.")
    if asked.space:
        return spaces.from_file(Path(asked.space))
    return spaces.from_grid(asked.grid) if asked.grid else spaces.DEFAULT


def _check(asked: SearchArguments, base: Mapping[str, Any]) -> None:
    if asked.trials is not None and asked.trials < 1:
        raise SearchError(f"--trials {asked.trials}: it must be at least 1.")
    if asked.minutes is not None and asked.minutes <= 0:
        raise SearchError(f"--minutes {asked.minutes:g}: it must be above 0.")
    for name in _OURS:
        if name in base:
            raise SearchError(f"--{name} is for one training; a search writes into --search_dir.")
    if "eval_on_test" in base:
        raise SearchError(
            "--eval_on_test would choose by the test rows, whose score then says nothing about new ones: give "
            "--validation_file, or neither, and validation rows are held out."
        )


def _check_name(name: str, request: Request, known: Mapping[str, Option]) -> None:
    if name in _OURS or name in _WITHHELD or name in ("recipe_args", "split_seed"):
        raise SearchError(f"{name} is no parameter that a search can choose.")
    if name in known and name not in request.variables and request.variable(name) is None:
        if request.base.get("recipe") is None or name not in _VARIABLES:
            return
        raise SearchError(
            f"{name}: the recipe says it, and has no variable {_VARIABLES[name]} for it; its variables are "
            f"{', '.join(request.variables) or 'none'}."
        )
    if request.variable(name) is None:
        raise SearchError(
            f"{name!r} is neither an argument of the training command nor a variable of the recipe. "
            f"{did_you_mean(name, [*known, *request.variables])}"
        )


def _recipe_variables(base: Mapping[str, Any]) -> tuple[str, ...]:
    """Of the given recipe; where none is given and no work is named, of the one that is chosen."""
    named = {"do_train", "do_eval", "do_predict", "one_shot"} & base.keys()
    recipe = base.get("recipe") or (None if named else sizing.RECIPE)
    return tuple(load_plan(str(recipe)).variables) if recipe is not None else ()


def _text(value: Any) -> str | None:
    return None if value is None or value is BARE else str(value)
