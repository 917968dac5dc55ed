"""`sparseml recipe show | check | modifiers`: prints recipes, schedules and fields of modifiers, without torch."""

from __future__ import annotations

import argparse
import inspect
import io
import types
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from rich.console import Console

from resparse.console import entry, width
from resparse.errors import UserError, did_you_mean
from sparseml.modifiers import MODIFIERS, Clock, Modifier, build
from sparseml.modifiers.schedule import Schedule, merge
from sparseml.recipe import load_plan
from sparseml.verb_parser import Parser

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


def show(words: list[str]) -> int:
    """Print an evaluated recipe, and its merged schedule as comments, so that the output is a recipe, too."""
    parser = _recipe_parser("show")
    steps = "optimizer steps in an epoch; without it a nominal number, so that edges show in full"
    parser.add_argument("--steps-per-epoch", "--steps_per_epoch", type=_positive, metavar="N", help=steps)
    given = parser.parse_args(words)
    plan = load_plan(given.recipe, given.recipe_args)
    schedule = merge(build(plan))
    print(plan.to_yaml().rstrip("\n") + "\n\n" + _commented(schedule, given.steps_per_epoch))
    return 0


def check(words: list[str]) -> int:
    """Check that a recipe can be carried out; the caller prints the error if not."""
    given = _recipe_parser("check").parse_args(words)
    plan = load_plan(given.recipe, given.recipe_args)
    schedule = merge(build(plan))
    count = len(schedule.modifiers)
    print(f"{plan.source}: good, {count} modifier{'s' * (count != 1)}, {_length(schedule)}")
    return 0


def modifiers(words: list[str]) -> int:
    """List the modifiers, or the properties of one."""
    parser = Parser("recipe modifiers")
    parser.add_argument("name", nargs="?", metavar="NAME", help="a modifier, with or without its last word")
    name = parser.parse_args(words).name
    if name is None:
        for tag, modifier in MODIFIERS.items():
            print(entry(tag, (inspect.getdoc(modifier) or "").partition("\n")[0], column=30))
        return 0
    modifier = _find(name)
    print(f"!{modifier.__name__}\n\n{inspect.getdoc(modifier)}\n")
    # Fields that all modifiers have come last.
    fields = sorted(modifier.model_fields.items(), key=lambda pair: pair[0] in Modifier.model_fields)
    for field, info in fields:
        print(entry(field, _described(info), column=38))
    return 0


def _recipe_parser(verb: str) -> Parser:
    parser = Parser(f"recipe {verb}")
    parser.add_argument("recipe", metavar="RECIPE", help="a file, a zoo: stub, or the text of a recipe")
    values = "values for its variables: JSON, or name=value,..."
    parser.add_argument("--recipe_args", "--recipe-args", metavar="ARGS", help=values)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0")
    return number


def _commented(schedule: Schedule, steps_per_epoch: int | None) -> str:
    """The schedule as comment lines of YAML."""
    clock = None
    if steps_per_epoch is not None:
        length = schedule.steps or round((schedule.epochs or 1) * steps_per_epoch)
        clock = Clock(steps_per_epoch, total_steps=length)
    page = Console(file=io.StringIO(), width=width() - 2, highlight=False, color_system=None)
    with page.capture() as capture:
        page.print(schedule.table(clock=clock))
    lines = [f"The schedule: {_length(schedule)}.", *capture.get().splitlines()]
    return "\n".join(f"# {line}".rstrip() for line in lines)


def _length(schedule: Schedule) -> str:
    if schedule.epochs is not None:
        return f"{schedule.epochs:g} epochs"
    if schedule.steps is not None:
        return f"{schedule.steps} optimizer steps"
    return "as many epochs as --num_train_epochs says"


def _find(name: str) -> type[Modifier]:
    tag = name.removeprefix("!")
    for known in (tag, f"{tag}Modifier"):
        if known in MODIFIERS:
            return MODIFIERS[known]
    raise UserError(f"There is no modifier called {name!r}. {did_you_mean(tag, MODIFIERS)}")


def _described(info: FieldInfo) -> str:
    """A field's description, type and default, as text."""
    kind = kind_in_words(info.annotation)
    if info.is_required():
        return f"{info.description or ''} [{kind}, required]".strip()
    default = info.get_default(call_default_factory=True)
    return f"{info.description or ''} [{kind}{'' if default is None else f', {default}'}]".strip()


_KINDS: dict[Any, str] = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    Any: "anything",
    type(None): "",
}


def kind_in_words(annotation: Any) -> str:
    """A type as text for users."""
    origin, members = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind_in_words(members[0])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(word for word in map(kind_in_words, members) if word))
    if origin is Literal:
        return " or ".join(
            str(member).lower() if member in (True, False) else str(member) for member in members
        )
    if origin in (list, tuple):
        return f"list of {kind_in_words(members[0])}"
    if annotation is dict or origin is dict or hasattr(annotation, "model_fields"):
        return "mapping"
    return _KINDS.get(annotation, getattr(annotation, "__name__", str(annotation)))
