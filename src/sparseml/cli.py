"""The command `sparseml train | sparsify | export | ...`; heavy imports are inside the functions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from resparse.console import run
from resparse.errors import UserError, did_you_mean
from sparseml import __version__
from sparseml.missing import needs
from sparseml.processes import quiet_pytorch, started_as_several

Verb = Callable[[list[str]], int | None]

_HELP = """\
usage: sparseml VERB ...

  train      fine-tune a pruned checkpoint by a recipe; of a --train_file alone make all that serves it
  search     train with several settings, choose by the validation rows, and export the best
  sparsify   prune an encoder on plain text, to start from; or adapt a sparse one to your texts
  export     write a trained classifier as ONNX, in a deployment folder that is checked to be right
  predict    label a CSV, TSV or JSON Lines file with an exported model
  calibrate  fit a deployed classifier's probabilities to labelled rows, or its thresholds
  explain    show which words of a text moved its label
  report     show a trained folder: sparsity, loss, scores, confusions, size and speed, as tables and as a page
  recipe     write a recipe, show or check one, or list the modifiers that one may use
  demo       run it all on the embedded model and data

  --version  print the version
  --help     print this

`sparseml train` is also called sparseml.transformers.text_classification; `sparsezoo` finds models."""

_RECIPE_HELP = """\
usage: sparseml recipe new [--model MODEL] [--train_file FILE | --rows N] ...
       sparseml recipe show RECIPE [--recipe_args ARGS] [--steps-per-epoch N]
       sparseml recipe check RECIPE [--recipe_args ARGS]
       sparseml recipe modifiers [NAME]

  new        write a commented recipe for a model and a dataset
  show       print the recipe as evaluated, then its merged schedule as comments
  check      say whether a recipe can be carried out
  modifiers  list the modifiers, or all that one of them may be told

RECIPE is a file (.yaml, .yml, .md), a zoo: stub, or the text of a recipe."""


class CommandError(UserError):
    """A command line that is not understood, or cannot be executed here."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command `sparseml`; returns 0, 2 after an error of the user's, 130 when interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    quiet_pytorch()
    return run(lambda: _dispatch(words, "sparseml", _VERBS, _HELP))


def _dispatch(words: list[str], command: str, verbs: Mapping[str, Verb], text: str) -> int | None:
    if not words or words[0] in {"-h", "--help", "help"}:
        print(text)
        return 0
    verb = verbs.get(words[0])
    if verb is None:
        hint = did_you_mean(words[0], [*verbs, "--help"])
        raise CommandError(f"`{command}` knows no {words[0]!r}. {hint}")
    return verb(words[1:])


def _version(words: list[str]) -> int:
    print(f"resparse {__version__}")
    return 0


def _train(words: list[str]) -> int | None:
    from sparseml import tasks
    from sparseml.options import early

    called, words = _task(words)
    if called is None:
        from sparseml.guided.task_by_file import task_of

        called = task_of(words)
    early.check(tasks.own_name(called), words)
    with needs("Training"):
        from sparseml.training import run

        task = tasks.load_task(called)
    run.main(task, words)
    return 0


def _task(words: list[str]) -> tuple[str | None, list[str]]:
    """The task that `--task` names (None without it), and the other words.

    Of data sets, `--task` is an old name of `--task_name`.
    """
    from sparseml import tasks

    for place, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag != "--task":
            continue
        value, after = (value, place + 1) if equals else (" ".join(words[place + 1 : place + 2]), place + 2)
        if value.lower().replace("-", "_") in tasks.names():
            return value, [*words[:place], *words[after:]]
    return None, words


def _search(words: list[str]) -> int:
    from sparseml import tasks
    from sparseml.search.command import search

    if started_as_several():
        raise CommandError(
            "sparseml search was started as several processes, and starts one for each trial itself: run it alone."
        )
    called, words = _task(words)
    with needs("A search"):
        return search(tasks.own_name(called or tasks.DEFAULT), words)


def _sparsify(words: list[str]) -> int | None:
    from sparseml import sparsify

    with needs("Pruning"):
        return sparsify.main(words)


def _export(words: list[str]) -> int | None:
    from sparseml.transformers import export

    with needs("An export"):
        export.main(words)
    return 0


def _predict(words: list[str]) -> int | None:
    from deepsparse import predict

    with needs("Predicting", "runtime"):
        return predict.main(words)


def _calibrate(words: list[str]) -> int:
    with needs("Calibrating"):
        from sparseml.transformers import calibrate

        return calibrate.main(words)


def _explain(words: list[str]) -> int | None:
    from deepsparse import explain_command

    with needs("Explaining", "runtime"):
        return explain_command.main(words)


def _report(words: list[str]) -> int:
    with needs("A report"):
        from sparseml.report_page.request import request

        given = request(words)  # before what takes seconds to import
        from sparseml.report_page.command import report

        return report(given)


def _demo(words: list[str]) -> int | None:
    from sparseml.demo.run import main as demo

    return demo(words)


def _recipe(words: list[str]) -> int | None:
    from sparseml import recipe_verbs

    verbs: dict[str, Verb] = {
        "new": _new_recipe,
        "show": recipe_verbs.show,
        "check": recipe_verbs.check,
        "modifiers": recipe_verbs.modifiers,
    }
    return _dispatch(words, "sparseml recipe", verbs, _RECIPE_HELP)


def _new_recipe(words: list[str]) -> int:
    from sparseml.new_recipe.command import new

    with needs("Looking at a model or at data"):
        return new(words)


_VERBS: Mapping[str, Verb] = {
    "train": _train,
    "search": _search,
    "sparsify": _sparsify,
    "predict": _predict,
    "explain": _explain,
    "export": _export,
    "calibrate": _calibrate,
    "report": _report,
    "recipe": _recipe,
    "demo": _demo,
    "--version": _version,
}
