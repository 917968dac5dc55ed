"""What sparsity and int8 cost in accuracy: MiniLM, dense and from pruned starts, by one program, on test rows.

Every start is fine-tuned on every data set with settings chosen from one grid by validation rows; pruned ones become
int8 on the way, taught by the dense run of the same seed. Ablations show what each ingredient is worth. Every run is
one command of ours (`sparseml.transformers.text_classification`) with a recipe of the zoo. Finished runs are kept in
the folder and not repeated, so this may be stopped and started again at will:

    python benchmarks/accuracy.py --starts pruned80=FOLDER pruned90=FOLDER --plan
    python benchmarks/accuracy.py --starts pruned80=FOLDER pruned90=FOLDER --jobs 15 --deadline 1500 -- --tf32 true
    python benchmarks/accuracy.py --table --outcomes FIRST.json SECOND.json
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from accuracy_measure import Measurement, read_outcomes
from accuracy_recipes import TRANSFER_RECIPE
from accuracy_runs import ABLATION_SETS, DENSE, GRID, MOST_STEPS, VARIANTS, Cell, Plan, Settings
from accuracy_table import tables
from data import DATASETS
from process import DENSE_MODEL, SPARSE_MODEL
from record import RESULTS, keep, table
from resparse.console import run, say, warn
from resparse.errors import UserError

# One thread a process where several share the machine.
_THREADS = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

STEP_SECONDS = 0.08
"""Of a step of MiniLM where 15 processes share a GPU by MPS, for the plan's estimate."""


class NoSuchStartError(UserError):
    """A start is not given as NAME=MODEL."""


def settings_of(arguments: argparse.Namespace) -> Settings:
    """What the arguments ask for."""
    further = dict(map(_named_model, arguments.ablation_starts))
    sets = tuple(arguments.sets)
    return Settings(
        sets=sets,
        starts={DENSE: arguments.dense, **dict(map(_named_model, arguments.starts)), **further},
        seeds=tuple(arguments.seeds),
        grid=tuple(arguments.grid),
        ablations=tuple(name for name in VARIANTS if name in {"", *arguments.ablations}),
        ablation_sets=tuple(name for name in arguments.ablation_sets if name in sets)
        if arguments.ablations or further
        else (),
        only_ablated=tuple(further),
        most_steps=arguments.most_steps,
        recipe=arguments.recipe,
    )


def written_data(folder: Path, sets: tuple[str, ...], most: int | None) -> dict[str, dict[str, int]]:
    """Write the rows of all data sets into `folder`; their numbers by set and split, at most `most`."""
    counts = {name: DATASETS[name].write_splits(folder) for name in sets}
    if most is None:
        return counts
    return {
        name: {split: min(count, most) for split, count in splits.items()} for name, splits in counts.items()
    }


def plan_table(plan: Plan, jobs: int) -> str:
    """How many runs and steps each start and ablation takes, in the order in which they run."""
    counted: dict[str, list[int]] = {}
    for each in plan.runs({}, guess=True):
        counted.setdefault(each.variant or each.start, []).append(plan.steps(each))
    total, rows = 0, []
    for name, steps in counted.items():
        total += sum(steps)
        minutes = total * STEP_SECONDS / jobs / 60
        rows.append(
            [name, str(len(steps)), f"{sum(steps):,}", f"{max(steps):,}", f"{total:,}", f"{minutes:.0f}"]
        )
    time = f"minutes so far, {jobs} at once, {1000 * STEP_SECONDS:.0f} ms a step"
    header = ["in this order", "runs", "steps", "longest", "steps so far", time]
    return table(header, rows)


def main() -> int:
    arguments, extra = _parse()
    if arguments.data is not None:
        os.environ["RESPARSE_DATA"] = str(arguments.data.resolve())
    earlier = read_outcomes(arguments.outcomes)
    failed: list[str] = []
    if arguments.table:
        outcomes = earlier
    else:
        settings, folder = settings_of(arguments), arguments.folder.resolve()
        rows = written_data(folder / "data", settings.sets, arguments.rows)
        if arguments.rows is not None:
            for split in ("train", "eval", "predict"):
                extra += [f"--max_{split}_samples", str(arguments.rows)]
        plan = Plan(settings, {name: counts["train"] for name, counts in rows.items()})
        if arguments.plan:
            print(plan_table(plan, arguments.jobs))
            return 0
        measurement = Measurement(plan, folder, rows, extra, earlier, arguments.keep)
        measurement.run(arguments.jobs, _THREADS if arguments.jobs > 1 else {}, arguments.deadline)
        outcomes, failed = measurement.outcomes(), measurement.failed
    _write(outcomes, arguments)
    for key in failed:
        warn(f"{key} failed: see its log.txt")
    return 1 if failed else 0


def _write(outcomes: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    if not outcomes:
        say("no run has finished yet")
        return
    blocks = tables(outcomes)
    if arguments.rows is not None and arguments.results == RESULTS:
        print("\n\n".join(blocks))
        return
    machines = Counter(json.dumps(entry["machine"]) for entry in outcomes)
    keep(
        "accuracy",
        "Accuracy on test rows: MiniLM, dense and from pruned starts in int8",
        blocks,
        {"outcomes": outcomes},
        arguments.results,
        measured_on=json.loads(machines.most_common(1)[0][0]),
    )


def _parse() -> tuple[argparse.Namespace, list[str]]:
    """The arguments, and the flags after `--`, which every training gets."""
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    variants = [name for name in VARIANTS if name not in ("", "base")]
    parser = argparse.ArgumentParser(
        description="Accuracy of dense and of sparse int8 MiniLM.",
        epilog="What follows -- is added to every training's flags, such as: -- --bf16",
    )
    add = parser.add_argument
    add("--sets", nargs="+", choices=DATASETS, default=list(DATASETS))
    add("--dense", default=DENSE_MODEL, help="the dense encoder")
    add("--starts", nargs="*", default=[f"pruned80={SPARSE_MODEL}"], metavar="NAME=MODEL", help="pruned ones")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], help="settings are chosen with the first")
    add(
        "--grid",
        nargs="+",
        type=_cell,
        default=GRID,
        metavar="EPOCHS:RATE",
        help=f"settings to try (default: {' '.join(f'{cell.epochs}:{cell.rate:g}' for cell in GRID)})",
    )
    add(
        "--most-steps", type=int, default=MOST_STEPS, help="on more rows, fewer epochs (default: %(default)s)"
    )
    add(
        "--ablations", nargs="*", choices=variants, default=variants, metavar="NAME", help=", ".join(variants)
    )
    add("--ablation-sets", nargs="+", choices=DATASETS, default=ABLATION_SETS, metavar="SET")
    add(
        "--ablation-starts",
        nargs="*",
        default=[],
        metavar="NAME=MODEL",
        help="further pruned starts, tried on the ablations' sets alone",
    )
    add("--recipe", default=TRANSFER_RECIPE, help="of the transfer: a file or a stub (default: the zoo's)")
    add("--folder", type=Path, default=Path("runs/accuracy"), help="of all runs")
    add("--data", type=Path, help="the folder of the data sets (default: RESPARSE_DATA)")
    add("--jobs", type=int, default=1, help="trainings at once")
    add("--deadline", type=float, metavar="SECONDS", help="end by then, with what has finished")
    add("--keep", action="store_true", help="keep the models of all runs, not the teachers' alone")
    add("--plan", action="store_true", help="print what would run, and stop")
    add("--outcomes", nargs="+", type=Path, default=[], metavar="FILE", help="results of other machines")
    add("--table", action="store_true", help="write the tables of --outcomes, and run nothing")
    add("--results", type=Path, default=RESULTS, help="where accuracy.md and accuracy.json go")
    add("--rows", type=int, help="only so many rows of each split, to try this out; not recorded")
    return parser.parse_args(words[:at]), words[at + 1 :]


def _cell(text: str) -> Cell:
    epochs, rate = text.split(":")
    return Cell(int(epochs), float(rate))


def _named_model(text: str) -> tuple[str, str]:
    name, equals, model = text.partition("=")
    if not equals or not name.isalnum():
        raise NoSuchStartError(f"{text!r} is no start: give NAME=MODEL, such as pruned80=runs/pruned80.")
    path = Path(model)
    return name, str(path.resolve()) if path.is_dir() else model


if __name__ == "__main__":
    raise SystemExit(run(main))
