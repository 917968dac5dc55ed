"""The verb `sparseml search`: trials one after the other, then the best of them exported."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from resparse.console import output, say, warn
from resparse.files import whole_folder, write_json, write_text
from resparse.progress import waiting
from sparseml.search import results
from sparseml.search import trials as trial_folders
from sparseml.search.request import HELP, Request, as_words, parse
from sparseml.search.space import SearchError, described
from sparseml.search.strategies import Listed, Optuna, Strategy
from sparseml.search.trials import DONE, FAILED, PRUNED, Outcome, Trial

SEARCH, PAGE, TRIALS, BEST, TEST = "search.json", "search.html", "trials", "best", "test"

# What is chosen by where the user does not say: the first of these that the trials have.
_METRICS: Final = ("accuracy", "matthews_correlation", "f1_micro", "pearson", "accuracy_mm", "f1", "loss")
_TOKEN_METRICS: Final = ("f1", "overall_f1", "exact_match", "accuracy", "loss")
# Of the training of a trial, what says nothing to an evaluation of its model.
_TRAINING: Final = frozenset(
    {"do_train", "do_eval", "recipe", "recipe_args", "distill_teacher", "model_name_or_path", "eval_strategy"}
    | {"early_stopping_patience", "early_stopping_threshold", "load_best_model_at_end", "validation_ratio"}
)

_USER_MISTAKE: Final = 2

Runner = Callable[[Trial, Request, Callable[[float, Mapping[str, float]], bool]], Outcome]


def search(task: str, words: Sequence[str]) -> int:
    """Run the command; returns the exit code.

    Args:
        task: its own name.
        words: of the command line.
    """
    if not words or "--help" in words or "-h" in words:
        print(HELP)
        return 0
    request = parse(task, words)
    with _terminated_as_interrupted():
        found = run(request)
        _finish(request, found)
    return 0


def run(request: Request, runner: Runner | None = None) -> list[Trial]:
    """Carry out the trials that are not over yet; returns all.

    Args:
        runner: carries out one; by default in a process of its own.

    Raises:
        SearchError: the folder holds another search, the first trial is refused, or none succeeds.
    """
    carry_out, folder = runner or _in_a_process, request.folder / TRIALS
    _claim(request)
    before = trial_folders.known(folder)
    finished = [trial for trial in before if trial.outcome is not None]
    pending = [trial for trial in before if trial.outcome is None]
    if before:
        say(f"{request.folder}: {len(finished)} trials are over, {len(pending)} to go on with")
    metric = _metric(request, finished)
    strategy: Strategy | None = None
    number = max((trial.number for trial in before), default=-1) + 1
    while pending or not _spent(request, finished):
        strategy = strategy or _strategy(request, metric, finished)
        if pending:
            trial = pending.pop(0)
            strategy.resume(trial)
        else:
            point = strategy.propose(number)
            if point is None:
                break
            trial = trial_folders.begin(folder, number, point)
            number += 1
        trial = _carry_out(request, trial, strategy, metric, carry_out)
        finished.append(trial)
        metric = metric or _metric(request, finished)
        strategy.learn(trial, trial.value(metric) if metric else None)
        _keep_room(request, finished, metric)
    return finished


def _carry_out(request: Request, trial: Trial, strategy: Strategy, metric: str, runner: Runner) -> Trial:
    def hopeless(share: float, metrics: Mapping[str, float]) -> bool:
        return metric in metrics and strategy.hopeless(share, metrics[metric])

    say(f"trial {trial.number}: {described(trial.point)}")
    outcome = runner(trial, request, hopeless)
    if outcome.state == FAILED and outcome.code == _USER_MISTAKE and trial.number == 0:
        (trial.folder / trial_folders.SETTING).unlink(missing_ok=True)  # mended, it runs anew
        raise SearchError(f"the first trial was refused, and the others would be: {outcome.error}")
    trial = trial_folders.end(trial, outcome)
    if outcome.state == FAILED:
        warn(
            f"trial {trial.number} failed: {outcome.error} (all it printed: {trial.folder / trial_folders.LOG})"
        )
    elif outcome.state == PRUNED:
        say(f"  ended early, after {outcome.seconds / 60:.1f} min: the trials before it were better by then")
    else:
        value = trial.value(metric or _metric(request, [trial]))
        say(f"  {'no such metric' if value is None else f'{value:.4f}'} in {outcome.seconds / 60:.1f} min")
    return trial


def _in_a_process(
    trial: Trial, request: Request, hopeless: Callable[[float, Mapping[str, float]], bool]
) -> Outcome:
    with waiting(f"trial {trial.number}"):
        return trial_folders.carry_out(trial, request.task, request.words(trial.point), hopeless)


def _spent(request: Request, finished: Sequence[Trial]) -> bool:
    most, minutes = request.most_trials, request.asked.minutes
    used = sum(trial.outcome.seconds for trial in finished if trial.outcome is not None) / 60
    return (most is not None and len(finished) >= most) or (minutes is not None and used >= minutes)


def _strategy(request: Request, metric: str, finished: Sequence[Trial]) -> Strategy:
    if request.method != "optuna":
        return Listed(request.space, request.method, request.seed)
    metric = metric or f"eval_{_preferred(request)[0]}"
    return Optuna(request.space, request.seed, results.maximizes(metric), metric, finished)


def _metric(request: Request, finished: Sequence[Trial]) -> str:
    """The metric to choose by; "" while no trial has said which there are."""
    asked = request.asked.metric or request.base.get("metric_for_best_model")
    if isinstance(asked, str):
        return asked if asked.startswith("eval_") else f"eval_{asked}"
    there = {name for trial in finished if trial.outcome is not None for name in trial.outcome.metrics}
    return next((f"eval_{name}" for name in _preferred(request) if f"eval_{name}" in there), "")


def _preferred(request: Request) -> tuple[str, ...]:
    return _METRICS if request.task == "text_classification" else _TOKEN_METRICS


def _claim(request: Request) -> None:
    """Make the folder this search's, or find that it is.

    Raises:
        SearchError: it holds another one.
    """
    path, mine = request.folder / SEARCH, request.fingerprint()
    try:
        theirs = json.loads(path.read_text(encoding="utf-8"))["made_of"]
    except FileNotFoundError:
        if request.folder.exists() and any(request.folder.iterdir()):
            raise SearchError(f"{request.folder} holds other files: give another --search_dir.") from None
        request.folder.mkdir(parents=True, exist_ok=True)
        write_json(path, {"made_of": mine})
        return
    except (ValueError, KeyError, TypeError) as error:
        raise SearchError(f"{path} is damaged: give another --search_dir.") from error
    different = [name for name in mine if mine[name] != theirs.get(name)]
    if different:
        raise SearchError(
            f"{request.folder} holds a search of something else (its {', '.join(different)} differ): give another "
            "--search_dir, or remove it."
        )


def _keep_room(request: Request, finished: Sequence[Trial], metric: str) -> None:
    """Remove the weights of all but the best trial so far, and every finished trial's checkpoints."""
    best = results.best_of(finished, metric) if metric else None
    for trial in finished:
        if trial is not best and not request.asked.keep_models:
            trial_folders.drop_weights(trial)
        elif trial.outcome is not None and trial.outcome.state == DONE:
            trial_folders.drop_checkpoints(trial.model)


def _finish(request: Request, finished: Sequence[Trial]) -> None:
    """Export the best trial's model, write and print the results.

    Raises:
        SearchError: there is none.
    """
    metric = _metric(request, finished)
    best = results.best_of(finished, metric)
    if best is None:
        raise SearchError(
            f"no trial has finished with a {metric or 'metric'}: see {request.folder / TRIALS}."
        )
    names = [parameter.name for parameter in request.space]
    folder, ready = request.folder / BEST, _chosen(request)
    if ready != best.number:
        shutil.rmtree(folder, ignore_errors=True)
        with whole_folder(folder) as temporary:
            shutil.copytree(
                best.model, temporary, dirs_exist_ok=True, ignore=shutil.ignore_patterns("checkpoint-*")
            )
        _call(
            "exporting the best model, and comparing with PyTorch",
            "export",
            str(folder),
            "--target_path",
            str(folder),
        )
    test = _test_score(request, folder)
    facts = {
        "made_of": request.fingerprint(),
        "metric": metric,
        "best": best.number,
        "setting": best.point,
        "value": best.value(metric),
        **({"test": test} if test else {}),
        "trials": [
            {"number": trial.number, "setting": trial.point, **vars(trial.outcome)}
            for trial in finished
            if trial.outcome is not None
        ],
    }
    write_json(request.folder / SEARCH, facts)
    about = f"{request.method}, {len(finished)} trials; chosen by {metric.removeprefix('eval_')} of the validation rows"
    write_text(request.folder / PAGE, results.page(finished, metric, request.space, about))
    output.print(results.table(finished, metric, names))
    say(f"best: trial {best.number}, {described(best.point)}: {metric} {best.value(metric):.4f}")
    for name, value in test.items():
        say(f"  on the test rows, which chose nothing: {name.removeprefix('predict_')} {value:.4f}")
    say(f"model: {folder}; deployment: {folder / 'deployment'}; page: {request.folder / PAGE}")


def _chosen(request: Request) -> int | None:
    """The trial whose model is in `best`, exported."""
    if not (request.folder / BEST / "deployment" / "model.onnx").is_file():
        return None
    chosen: int | None = json.loads((request.folder / SEARCH).read_text(encoding="utf-8")).get("best")
    return chosen


def _test_score(request: Request, best: Path) -> dict[str, float]:
    """The chosen model's metrics on the test rows; none where no rows were named."""
    if not request.withheld:
        return {}
    folder = request.folder / TEST
    kept = {name: value for name, value in request.base.items() if name not in _TRAINING}
    words = as_words({**kept, **request.withheld, "do_predict": True, "model_name_or_path": str(best)})
    shutil.rmtree(folder, ignore_errors=True)
    _call("reading the test rows", "train", "--task", request.task, *words, "--output_dir", str(folder))
    found: dict[str, Any] = json.loads((folder / "predict_results.json").read_text(encoding="utf-8"))
    kinds = ("accuracy", "f1", "pearson", "exact", "matthews")
    return {
        name: float(value)
        for name, value in found.items()
        if isinstance(value, int | float) and name.removeprefix("predict_").startswith(kinds)
    }


def _call(doing: str, *words: str) -> None:
    """Run another verb in a process of its own.

    Raises:
        SearchError: it failed; with its last line.
    """
    with waiting(doing):
        done = subprocess.run(
            [sys.executable, "-m", "sparseml", *words], capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise SearchError(
            f"{doing}: failed: {lines[-1].removeprefix('error: ') if lines else done.returncode}"
        )


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends the trial that is running as Ctrl-C does: with a checkpoint, to go on from."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        say("Stopped. The same command again goes on where this one was.")
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
