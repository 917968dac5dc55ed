"""`sparseml.recipe_template`: SparseML's generator of recipes, on top of `sparseml recipe new`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from resparse.console import run, say
from resparse.files import write_text
from sparseml.modifiers.mask_shapes import parse_mask_type
from sparseml.new_recipe import writer
from sparseml.new_recipe.plan import NewRecipeError, Wishes, decide
from sparseml.new_recipe.start import Start
from sparseml.verb_parser import Parser

# What its --pruning took, and the method here; None for what is gone.
_METHODS: Final = {
    "false": "none",
    "true": "magnitude",
    "gmp": "magnitude",
    "constant": "keep",
    "movement": "movement",
    "obs": "obs",
    "magnitude": "magnitude",
    "layerwise": "layerwise",
    "acdc": None,
    "mfac": None,
}
# The shape of masks that a target's int8 kernels skip, as there.
_SHAPES: Final = {"default": "unstructured", "vnni": "block4", "tensorrt": "2:4"}
_SWITCHES: Final = ("true", "false")
_ROWS: Final = 3000
_WIDTH: Final = 768  # of BERT base


def recipe_template(
    pruning: str | bool | None = None,
    quantization: str | bool | None = None,
    lr: str = "linear",
    mask_type: str | None = None,
    global_sparsity: bool = True,
    target: str | None = None,
    model: str | None = None,
    file_name: str | None = None,
    distillation: bool = False,
) -> str:
    """A recipe, under SparseML's names.

    Args:
        pruning: a method, or whether to prune (by magnitude).
        quantization: whether to quantize; a target's name means yes, for that target.
        lr: linear; other schedules are refused.
        mask_type: by default that of `target`.
        global_sparsity: whether magnitude pruning has one threshold for all layers.
        target: vnni (blocks of 4), tensorrt (2:4) or default.
        model: a folder, stub or Hub id whose module names the recipe has; by default BERT's, which every encoder takes.
        file_name: where to write it, too; in a .md file, as its front matter.
        distillation: whether there will be a teacher.

    Raises:
        NewRecipeError: something that there is not, or a contradiction.
    """
    target, int8 = _target(target, quantization)
    method = _method(pruning, global_sparsity)
    if lr.lower() != "linear":
        raise NewRecipeError(
            f"--lr {lr}: recipes are written with a linear rate, which restarts at every update while pruning. Change "
            "lr_func of its !LearningRateFunctionModifier (`sparseml recipe modifiers LearningRateFunction`)."
        )
    prunes = method not in ("none", "keep")
    shape = mask_type or (_SHAPES[target] if prunes and int8 else "unstructured")
    wishes = Wishes(
        start=_start(model, method),
        rows=_ROWS,
        sparsity=0.0 if method == "none" else None,
        int8=int8,
        teacher=distillation,
        method=None if method == "none" else method,
        mask_shape=_checked(shape),
    )
    text = writer.text(decide(wishes))
    if file_name:
        path = Path(file_name)
        write_text(path, f"---\n{text}---\n" if path.suffix == ".md" else text)
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, or 2 for a mistake of the user's."""
    return run(lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    given = _parser().parse_args(argv)
    print(recipe_template(**vars(given)), end="")
    say(f"written: {given.file_name}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser("recipe_template")
    parser.prog = "sparseml.recipe_template"
    add = parser.add_argument
    add(
        "--pruning",
        default="false",
        type=str.lower,
        choices=list(_METHODS),
        help="whether to prune, or the method",
    )
    add(
        "--quantization",
        default="false",
        type=str.lower,
        choices=[*_SWITCHES, *_SHAPES],
        help="whether to quantize",
    )
    add("--lr", "--learning_rate", default="linear", metavar="NAME", help="linear")
    add(
        "--mask_type",
        "--mask-type",
        metavar="SHAPE",
        help="by default that of the target, where it is quantized",
    )
    switch = argparse.BooleanOptionalAction
    add("--global_sparsity", action=switch, default=True, help="one threshold for all layers")
    add("--target", type=str.lower, choices=list(_SHAPES), help="vnni: blocks of 4; tensorrt: 2:4")
    add("--model", metavar="MODEL", help="folder, stub or Hub id whose module names the recipe has")
    add("--distillation", action="store_true", help="with a teacher")
    add(
        "--file_name",
        "--file-name",
        default="recipe.md",
        metavar="FILE",
        help="where to write it (recipe.md)",
    )
    return parser


def _target(target: str | None, quantization: str | bool | None) -> tuple[str, bool]:
    """The target, and whether to quantize."""
    word = str(quantization if quantization is not None else False).lower()
    if word in _SHAPES:
        return target or word, True
    if word not in _SWITCHES:
        raise NewRecipeError(f"--quantization {word}: give true, false, or a target: {', '.join(_SHAPES)}.")
    if (target or "default") not in _SHAPES:
        raise NewRecipeError(f"--target {target}: give one of {', '.join(_SHAPES)}.")
    return target or "default", word == "true"


def _method(pruning: str | bool | None, global_sparsity: bool) -> str:
    word = str(pruning if pruning is not None else False).lower()
    method = _METHODS.get(word)
    if method is None:
        known = ", ".join(name for name, there in _METHODS.items() if there)
        raise NewRecipeError(f"--pruning {word} is not here. Give one of {known}.")
    return "uniform" if method == "magnitude" and not global_sparsity else method


def _start(model: str | None, method: str) -> Start:
    """The model that was named; else any: pruned where its zeros are to be kept, and dense elsewhere."""
    if model is not None:
        from sparseml.new_recipe.start import inspect
        from sparseml.tasks import load_task

        return inspect(model, load_task())
    if method == "keep":
        return Start("", "", sparsity=0.8, width=_WIDTH)
    return Start("any encoder", "dense", sparsity=0.0, width=_WIDTH, prunable=_ENCODER)


_ENCODER: Final = (r"re:bert\.encoder\..*\b(query|key|value|dense)\.weight",)


def _checked(shape: Any) -> Any:
    try:
        parse_mask_type(shape)
    except ValueError as error:
        raise NewRecipeError(f"--mask_type {error}.") from error
    return shape
