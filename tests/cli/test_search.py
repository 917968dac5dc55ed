"""`sparseml search`: what it understands, which trials it makes, that it goes on after a kill, and what it chooses."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from resparse.errors import UserError
from sparseml.search import command, results, space
from sparseml.search.request import Request, parse
from sparseml.search.trials import DONE, FAILED, PRUNED, Outcome, Trial
from support import tiny

Hopeless = Callable[[float, Mapping[str, float]], bool]
RECIPE = "zoo:nlp/text_classification/minilm-l6/pytorch/huggingface/default/pruned80_quant-none"


def asked(folder: Path, *words: str) -> Request:
    return parse("text_classification", ["--train_file", "rows.csv", "--search_dir", str(folder), *words])


def closed_form(trial: Trial, request: Request, hopeless: Hopeless) -> Outcome:
    """A trial whose accuracy is known: best at a rate of 2e-4, and after as many epochs as there may be."""
    rate, epochs = float(trial.point["learning_rate"]), float(trial.point.get("num_train_epochs", 1))
    value = 1 - abs(rate - 2e-4) * 1000 + epochs / 100
    return Outcome(DONE, {"eval_accuracy": value, "eval_loss": -value}, seconds=60.0)


def test_a_grid_is_tried_whole_and_the_best_of_it_chosen(tmp_path: Path) -> None:
    request = asked(
        tmp_path / "s", "--grid", "learning_rate=1e-4,2e-4,4e-4", "--grid", "num_train_epochs=3,5"
    )
    found = command.run(request, closed_form)
    assert [trial.point for trial in found] == list(space.grid(request.space)) and len(found) == 6
    best = results.best_of(found, "eval_accuracy")
    assert best is not None and best.point == {"learning_rate": 2e-4, "num_train_epochs": 5}
    # Where lower is better, the same loss chooses the same.
    assert results.best_of(found, "eval_loss") == best


@pytest.mark.parametrize("method", ["grid", "random"])
def test_a_killed_search_goes_on_and_ends_as_one_that_was_not(tmp_path: Path, method: str) -> None:
    words = ("--grid", "learning_rate=1e-4,2e-4,3e-4,4e-4", "--method", method, "--trials", "4")
    whole = command.run(asked(tmp_path / "whole", *words), closed_form)
    ran: list[int] = []

    def killed_at_two(trial: Trial, request: Request, hopeless: Hopeless) -> Outcome:
        ran.append(trial.number)
        if trial.number == 2 and ran.count(2) == 1:
            raise KeyboardInterrupt
        return closed_form(trial, request, hopeless)

    request = asked(tmp_path / "killed", *words)
    with pytest.raises(KeyboardInterrupt):
        command.run(request, killed_at_two)
    again = command.run(request, killed_at_two)
    assert ran == [0, 1, 2, 2, 3]
    assert [(trial.point, trial.outcome) for trial in again] == [
        (trial.point, trial.outcome) for trial in whole
    ]
    # And once all is done, nothing runs.
    assert command.run(request, killed_at_two) == again and len(ran) == 5


def test_minutes_count_over_all_starts(tmp_path: Path) -> None:
    request = asked(tmp_path / "s", "--minutes", "1.5")  # a trial takes one
    assert len(command.run(request, closed_form)) == 2
    assert len(command.run(request, closed_form)) == 2


def test_a_failed_trial_is_passed_over_but_a_refused_first_one_ends_the_search(tmp_path: Path) -> None:
    def fails(number: int, code: int) -> Any:
        def carry_out(trial: Trial, request: Request, hopeless: Hopeless) -> Outcome:
            if trial.number == number:
                return Outcome(FAILED, error="it broke", code=code)
            return closed_form(trial, request, hopeless)

        return carry_out

    found = command.run(asked(tmp_path / "a"), fails(1, 1))
    assert [trial.outcome.state for trial in found if trial.outcome] == [DONE, FAILED, *[DONE] * 4]
    refused = asked(tmp_path / "b")
    with pytest.raises(UserError, match="it broke"):
        command.run(refused, fails(0, 2))
    assert len(command.run(refused, closed_form)) == 6, "mended, it runs whole"


def test_another_search_in_the_folder_is_refused(tmp_path: Path) -> None:
    command.run(asked(tmp_path / "s"), closed_form)
    with pytest.raises(UserError, match="its space differ"):
        command.run(asked(tmp_path / "s", "--grid", "learning_rate=1e-5"), closed_form)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear all")
    with pytest.raises(UserError, match="holds other files"):
        command.run(asked(tmp_path / "other"), closed_form)


def test_trials_never_see_the_test_rows_and_share_their_validation_rows(tmp_path: Path) -> None:
    request = asked(tmp_path, "--test_file", "test.csv", "--do_predict", "--grid", "seed=1,2")
    words = request.words({"seed": 2})
    assert "test.csv" not in words and "--do_predict" not in words
    assert words[words.index("--seed") + 1] == "2" and words[words.index("--split_seed") + 1] == "42"


@pytest.mark.parametrize(
    ("words", "point", "overrides", "flags"),
    [
        # Guided: rates and epochs are its own to pass on.
        ((), {"learning_rate": 1e-4}, None, {"learning_rate": "0.0001"}),
        ((), {"qat_start_epoch": 2}, {"qat_start_epoch": 2}, {}),
        (("--recipe", RECIPE), {"learning_rate": 1e-4, "seed": 3}, {"init_lr": 1e-4}, {"seed": "3"}),
        (
            ("--recipe", RECIPE, "--recipe_args", "weight_decay=0.1"),
            {"num_train_epochs": 3},
            {"weight_decay": 0.1, "num_epochs": 3},
            {},
        ),
    ],
)
def test_a_parameter_is_an_argument_or_a_variable_of_the_recipe(
    tmp_path: Path, words: tuple[str, ...], point: Any, overrides: Any, flags: Mapping[str, str]
) -> None:
    grid = [word for name, value in point.items() for word in ("--grid", f"{name}={value}")]
    trial = asked(tmp_path, *words, *grid).words(point)
    given = json.loads(trial[trial.index("--recipe_args") + 1]) if "--recipe_args" in trial else None
    assert given == overrides
    assert {name: trial[trial.index(f"--{name}") + 1] for name in flags} == flags


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--grid", "learning_rat=1"), "learning_rate"),
        (("--grid", "learning_rate"), "NAME=VALUE"),
        (("--grid", "seed=1", "--grid", "seed=2"), "given twice"),
        (("--eval_on_test",), "test rows"),
        (("--output_dir", "x"), "--search_dir"),
        (("--trials", "0"), "at least 1"),
        (("--grid", "test_file=a,b"), "no parameter"),
        (("--method", "best"), "no such choice"),
    ],
)
def test_what_is_refused(tmp_path: Path, words: tuple[str, ...], text: str) -> None:
    with pytest.raises(UserError, match=text):
        asked(tmp_path, *words)


def test_a_file_holds_lists_and_ranges(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("learning_rate: {low: 1e-5, high: 1e-3, log: true}\nseed: [1, 2]\n")
    found = space.from_file(path)
    assert found == (space.Range("learning_rate", 1e-5, 1e-3, log=True), space.Choices("seed", (1, 2)))
    drawn = [float(space.drawn(found, 0, index)["learning_rate"]) for index in range(400)]
    assert min(drawn) >= 1e-5 and max(drawn) <= 1e-3
    assert 0.4 < sum(value < 1e-4 for value in drawn) / len(drawn) < 0.6, "even by the logarithm"
    assert asked(tmp_path, "--space", str(path)).method == "random"
    path.write_text("learning_rate: {low: 1, high: 0}\n")
    with pytest.raises(UserError, match="low must be below high"):
        space.from_file(path)


def test_the_page_shows_every_trial_and_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    request = asked(tmp_path / "s", "--grid", "learning_rate=1e-4,2e-3", "--grid", "seed=1,2")
    page = results.page(command.run(request, closed_form), "eval_accuracy", request.space, "about")
    assert page.count("<td>best</td>") == 1 and "log10 learning_rate" in page
    assert "<script" not in page and "http://" not in page and "https://" not in page


def test_optuna_learns_prunes_and_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    path = tmp_path / "space.yaml"
    path.write_text("learning_rate: {low: 1e-5, high: 1e-3, log: true}\n")
    request = asked(tmp_path / "s", "--space", str(path), "--method", "optuna", "--trials", "9")
    folder = tmp_path / "s" / "trials"

    def learning(trial: Trial, request: Request, hopeless: Hopeless) -> Outcome:
        whole = closed_form(trial, request, hopeless)
        for share in (0.25, 0.5, 0.75, 1.0):
            metrics = {"eval_accuracy": share * whole.metrics["eval_accuracy"]}
            with (trial.folder / "evaluations.jsonl").open("a") as file:
                file.write(json.dumps({"share": share, "metrics": metrics}) + "\n")
            if hopeless(share, metrics):
                return Outcome(PRUNED, metrics, 1.0)
        return whole

    first = command.run(
        asked(tmp_path / "s", *["--space", str(path), "--method", "optuna", "--trials", "5"]), learning
    )
    found = command.run(request, learning)
    assert found[:5] == first and len(found) == 9
    states = [trial.outcome.state for trial in found if trial.outcome]
    assert PRUNED in states and DONE in states
    best = results.best_of(found, "eval_accuracy")
    assert best is not None and best.outcome is not None and best.outcome.state == DONE
    assert len({trial.point["learning_rate"] for trial in found}) == 9, "nothing is proposed twice"
    assert len(list(folder.glob("*/outcome.json"))) == 9


@pytest.mark.slow
def test_a_search_trains_chooses_exports_and_reads_the_test_rows_once(
    pruned_model: Path, rows_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.write(tmp_path / "test.csv", tiny.rows(16, seed=2))
    words = ["--model_name_or_path", str(pruned_model), "--train_file", str(rows_folder / "train.csv")]
    words += ["--test_file", "test.csv", "--grid", "learning_rate=1e-9,2e-3", "--num_train_epochs", "2"]
    assert command.search("text_classification", words) == 0
    found = json.loads(Path("search/search.json").read_text())
    assert [trial["state"] for trial in found["trials"]] == [DONE, DONE]
    assert found["value"] == max(trial["metrics"]["eval_accuracy"] for trial in found["trials"])
    assert found["test"]["predict_accuracy"] >= 0
    assert Path("search/best/deployment/model.onnx").is_file() and Path("search/search.html").is_file()
    kept = sorted(path.parent.parent.name for path in Path("search/trials").glob("*/model/model.safetensors"))
    assert kept == [f"{found['best']:03d}"]
    # Again, it only says so.
    before = Path("search/best/deployment/model.onnx").stat().st_mtime_ns
    assert command.search("text_classification", words) == 0
    assert Path("search/best/deployment/model.onnx").stat().st_mtime_ns == before
