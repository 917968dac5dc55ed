"""The verb `sparseml recipe new`: its flags, and the questions that it asks at a terminal."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from resparse.console import console, say
from resparse.files import write_text
from sparseml.modifiers import build
from sparseml.modifiers.mask_shapes import parse_mask_type
from sparseml.modifiers.schedule import merge
from sparseml.new_recipe import plain_text, writer
from sparseml.new_recipe.methods import METHODS
from sparseml.new_recipe.plan import NewRecipeError, Wishes, decide
from sparseml.new_recipe.start import Start, inspect
from sparseml.recipe import load_plan
from sparseml.tasks import DEFAULT, load_task, own_name
from sparseml.verb_parser import Parser

PLAIN_TEXT = "masked_language_modeling"
_EMBEDDED_SPARSITY, _EMBEDDED_WIDTH = 0.8, 384
_ROWS = 3000


def new(words: list[str]) -> int:
    """Write a recipe; what is not given is asked at a terminal, and chosen elsewhere."""
    given = _parser().parse_args(words)
    output = Path(given.output)
    if given.output != "-" and output.exists() and not given.overwrite:
        raise NewRecipeError(f"{output} exists. Give another --output, or --overwrite to replace it.")
    if own_name(given.task) == PLAIN_TEXT:
        recipe, words = _for_plain_text(given)
    else:
        recipe, words = _for_rows(given)
    merge(build(load_plan(recipe)))  # what is written can be carried out
    if given.output == "-":
        print(recipe, end="")
        return 0
    write_text(output, recipe)
    print(output)
    say(f"Train by it: {shlex.join(words)}")
    return 0


def _for_rows(given: argparse.Namespace) -> tuple[str, list[str]]:
    """A recipe for labelled rows, and the command that trains by it."""
    if sys.stdin.isatty() and console.is_terminal and not given.yes:
        _ask(given)
    content = decide(_wishes(given))
    return writer.text(content), writer.train_words(content, given.output, given.train_file, given.teacher)


def _for_plain_text(given: argparse.Namespace) -> tuple[str, list[str]]:
    """A recipe for plain text, and the command that trains by it; nothing is asked.

    Raises:
        NewRecipeError: a wish that only labelled rows have, or more zeros than the model is to have.
    """
    for name in ("rows", "classes", "pairs", "pruning", "int8"):
        if getattr(given, name) is not None:
            raise NewRecipeError(
                f"--{name} is for labelled rows, and {PLAIN_TEXT} has plain text: leave it out."
            )
    if given.sparsity is not None and not 0 < given.sparsity < 1:
        raise NewRecipeError(f"--sparsity {given.sparsity:g}: it is a share of zeros, between 0 and 1.")
    from sparseml.options.groups import DEFAULT_MODEL
    from sparseml.session.models import resolve

    model = given.model or DEFAULT_MODEL
    zeros = plain_text.encoder_sparsity(resolve(model))
    keeps = plain_text.adapts(zeros, given.sparsity)
    if keeps and given.mask_shape is not None:
        raise NewRecipeError(
            f"--mask_shape {given.mask_shape} is for zeros that are made; those of {model} are kept as they are. Leave "
            "it out, or ask for a --sparsity above its own."
        )
    sparsity, shape = given.sparsity, given.mask_shape or "unstructured"
    if sparsity is None and (pattern := parse_mask_type(shape)).of:
        sparsity = pattern.most
    values = plain_text.variables(zeros, sparsity, shape, _epochs(given))
    words = ["sparseml", "train", "--task", PLAIN_TEXT, "--model_name_or_path", model]
    named = given.teacher if given.teacher != writer.SOME_TEACHER else None
    words += ["--distill_teacher", named or plain_text.teacher_of(model, zeros > plain_text.SPARSE)]
    words += ["--train_file", given.train_file or "corpus.txt", "--recipe", given.output]
    words += ["--output_dir", "FOLDER", "--do_train", "--do_eval"]
    return plain_text.text(plain_text.ADAPT if keeps else plain_text.PRUNE, values), words


def _parser() -> argparse.ArgumentParser:
    parser = Parser("recipe new")
    add = parser.add_argument
    add("--task", default=DEFAULT, help=f"what the model learns: {DEFAULT}, or {PLAIN_TEXT} of plain text")
    add(
        "--model",
        metavar="MODEL",
        help="folder, zoo: stub or Hub id to start from; by default the embedded one",
    )
    add(
        "--train_file",
        "--train-file",
        metavar="FILE",
        help="the rows: their number, texts and classes are read",
    )
    add(
        "--rows",
        type=_positive,
        metavar="N",
        help=f"number of training rows, without a --train_file ({_ROWS:,})",
    )
    add(
        "--classes",
        type=_positive,
        metavar="N",
        help="number of classes, without a --train_file; 1: a score (2)",
    )
    texts = parser.add_mutually_exclusive_group()
    texts.add_argument("--pairs", dest="pairs", action="store_true", default=None, help="rows of two texts")
    texts.add_argument("--single", dest="pairs", action="store_false", help="rows of one text")
    add(
        "--sparsity",
        type=float,
        metavar="SHARE",
        help="share of zeros; by default what the model has, else 0.8",
    )
    add("--pruning", choices=list(METHODS), help="; ".join(f"{name}: {m.why}" for name, m in METHODS.items()))
    add(
        "--mask_shape",
        "--mask-shape",
        metavar="SHAPE",
        help="unstructured, block4, [r,c] or N:M",
        type=_shape,
    )
    int8 = argparse.BooleanOptionalAction
    add("--int8", action=int8, default=None, help="train the last part in int8 (yes)")
    add(
        "--teacher",
        nargs="?",
        const=writer.SOME_TEACHER,
        metavar="MODEL",
        help="learn from a teacher: a dense trained model",
    )
    add("--epochs", type=float, metavar="N", help="length of the training; by default by the rows")
    add("--output", default="recipe.yaml", metavar="FILE", help="where to write; - prints (recipe.yaml)")
    add("--overwrite", action="store_true", help="replace the file")
    add("--yes", action="store_true", help="ask nothing: choose what is not given")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def _shape(text: str) -> str | list[int]:
    """A mask shape; a list in brackets as one."""
    if text.startswith("["):
        parts = text.strip("[] ").split(",")
        try:
            value: str | list[int] = [int(part) for part in parts]
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no list of two whole numbers") from None
    else:
        value = text
    try:
        parse_mask_type(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return value


def _wishes(given: argparse.Namespace) -> Wishes:
    task = own_name(given.task)
    if task != DEFAULT:
        raise NewRecipeError(f"Recipes are written for {DEFAULT} and {PLAIN_TEXT}, not for {task}.")
    rows, classes, pairs = _data(given, task)
    return Wishes(
        start=_start(given.model, task),
        rows=rows,
        classes=classes,
        pairs=pairs,
        sparsity=given.sparsity,
        int8=given.int8 is not False,
        teacher=given.teacher is not None,
        epochs=_epochs(given),
        method=given.pruning,
        mask_shape=given.mask_shape or "unstructured",
    )


def _epochs(given: argparse.Namespace) -> float | None:
    epochs: float | None = given.epochs
    if epochs is not None and epochs <= 0:
        raise NewRecipeError(f"--epochs {epochs:g}: it must be above 0.")
    return epochs


def _start(called: str | None, task: str) -> Start:
    """The model that was named; of the embedded one all is known, so that nothing heavy is imported."""
    if called is None:
        return Start("", "", _EMBEDDED_SPARSITY, _EMBEDDED_WIDTH)
    return inspect(called, load_task(task))


def _data(given: argparse.Namespace, task: str) -> tuple[int, int, bool]:
    """Rows, classes, and whether texts come in pairs: as given, as the file has them, or as usual."""
    rows, classes, pairs = given.rows, given.classes, given.pairs
    if given.train_file is not None:
        if rows is not None or classes is not None:
            raise NewRecipeError("--train_file has rows and classes itself: leave --rows and --classes out.")
        from sparseml.data import DataOptions

        known = load_task(task)
        data = known.load_data(
            DataOptions(train_file=given.train_file, hold_out=True, needs_train=True, needs_eval=True),
            known.arguments(),
        )
        assert data.train is not None
        rows = len(data.train)
        classes = data.labels.num_labels if data.labels is not None else 1
        pairs = len(data.columns.texts) == 2
    return rows or _ROWS, classes or 2, bool(pairs)


def _ask(given: argparse.Namespace) -> None:
    """Ask for what was not given, in place; an empty answer takes what is in parentheses."""
    from rich.prompt import Confirm, IntPrompt, Prompt

    def text(question: str) -> str | None:
        return Prompt.ask(question, console=console, default="", show_default=False).strip() or None

    if given.model is None:
        given.model = text("Model to start from: folder, stub or Hub id (the embedded one)")
    if given.train_file is None and given.rows is None:
        given.train_file = text("File with the training rows (none: only their number)")
    if given.train_file is None:
        if given.rows is None:
            given.rows = IntPrompt.ask("Number of training rows", console=console, default=_ROWS)
        if given.classes is None:
            given.classes = IntPrompt.ask("Number of classes (1: a score)", console=console, default=2)
        if given.pairs is None:
            given.pairs = Confirm.ask("Two texts in a row", console=console, default=False)
    if given.sparsity is None and given.pruning is None:
        wanted = text("Share of zeros, such as 0.8 (as the model has; 0.8 of a dense one)")
        try:
            given.sparsity = float(wanted) if wanted else None
        except ValueError:
            raise NewRecipeError(f"{wanted!r} is no share of zeros: a number such as 0.8.") from None
    if given.int8 is None:
        given.int8 = Confirm.ask("Train the last part in int8", console=console, default=True)
    if given.teacher is None:
        given.teacher = text("Teacher: a dense trained model (none)")
