"""What the accuracy benchmark runs: every run as one command of ours, and the order in which they are worth having."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accuracy_recipes import TRANSFER_RECIPE, recipe_of, variables_of
from data import DATASETS, DataSet
from process import RunFailedError, flags

DENSE = "dense"


@dataclass(frozen=True, order=True)
class Cell:
    """One cell of the grid of settings that every start is tried with."""

    epochs: int
    rate: float

    def __str__(self) -> str:
        return f"{self.epochs}x{self.rate:g}"


GRID = (Cell(4, 1e-4), Cell(10, 2e-4), Cell(20, 2e-4))

MOST_STEPS = 2500
"""Of a run of the grid: on more rows there are fewer epochs, as the guided training chooses them, too."""

BASE = Cell(10, 2e-4)
"""Of the runs that the ablations are compared with."""

ABLATION_SETS = ("tweeteval_emotion", "sick", "glue_mrpc")


@dataclass(frozen=True)
class Variant:
    """One ablation: what differs from the transfer of a pruned start with int8 and a teacher.

    Attributes:
        title: of its line in the table.
        recipe: see `accuracy_recipes`.
        dense_start: it begins at the dense encoder, which its recipe prunes.
        taught: whether the dense run teaches it.
        epochs: in place of the usual ones.
        after: the variant whose trained model it takes, without training.
    """

    title: str
    recipe: str = "transfer"
    dense_start: bool = False
    taught: bool = True
    epochs: int | None = None
    after: str | None = None


VARIANTS = {
    "": Variant("int8, taught logits and hidden states, 10 epochs"),
    "base": Variant(
        "int8, taught logits and hidden states, 10 epochs"
    ),  # the same, where it is not one of the grid's runs
    "one_shot": Variant("no upstream: magnitude, one shot", "one_shot", dense_start=True),
    "gradual": Variant("no upstream: magnitude, gradual in the first half", "gradual", dense_start=True),
    "solver": Variant("no upstream: layer-wise solver", "solver", dense_start=True),
    "no_teacher": Variant("no task teacher", taught=False),
    "logits_only": Variant("the teacher's logits alone", "logits_only"),
    "hidden_states_weak": Variant("a fifth of the pull of its hidden states", "hidden_states_weak"),
    "float": Variant("float32, no int8", "float"),
    "calibrated": Variant("int8 by calibration after training", "calibrate", taught=False, after="float"),
    "epochs_8": Variant("8 epochs", epochs=8),
    "epochs_13": Variant("13 epochs", epochs=13),
}
"""The ablations by name; the first is what they are compared with."""


@dataclass(frozen=True)
class Run:
    """One run: a start on a data set, with settings and a seed.

    Attributes:
        start: name of the checkpoint it begins at: `dense`, or a pruned one.
        variant: name of an ablation; empty for the usual training.
        teacher: the run whose model teaches it.
        trained: the run whose model it takes instead of the start.
    """

    dataset: str
    start: str
    variant: str
    cell: Cell
    seed: int
    teacher: Run | None = None
    trained: Run | None = None

    @property
    def key(self) -> str:
        """What identifies it, among outcomes and as its folder."""
        variant = f"-{self.variant}" if self.variant else ""
        return f"{self.dataset}/{self.start}{variant}-{self.cell}-{self.seed}"

    @property
    def needs(self) -> tuple[Run, ...]:
        """The runs whose models it reads."""
        return tuple(run for run in (self.teacher, self.trained) if run is not None)

    @property
    def recipe(self) -> str:
        """Which recipe; see `accuracy_recipes.recipe_of`."""
        if self.variant:
            return VARIANTS[self.variant].recipe
        return "dense" if self.start == DENSE else "transfer"


@dataclass(frozen=True)
class Settings:
    """What one call of the benchmark measures.

    Attributes:
        sets, starts, seeds, grid: of the main table; `starts` are models by name, the dense one first.
        ablations, ablation_sets: names of variants, and the data sets that they are tried on.
        only_ablated: further starts, tried on `ablation_sets` alone.
        most_steps: bounds the epochs of the grid.
        recipe: of the transfer.
    """

    sets: tuple[str, ...]
    starts: Mapping[str, str]
    seeds: tuple[int, ...]
    grid: tuple[Cell, ...] = GRID
    ablations: tuple[str, ...] = tuple(name for name in VARIANTS if name != "base")
    ablation_sets: tuple[str, ...] = ABLATION_SETS
    only_ablated: tuple[str, ...] = ()
    most_steps: int = MOST_STEPS
    batch: int = 32
    recipe: str = TRANSFER_RECIPE

    def pruned(self) -> list[str]:
        """Names of the pruned starts of the main table."""
        return [name for name in self.starts if name != DENSE and name not in self.only_ablated]


class Plan:
    """The runs of a call, and what they depend on.

    Args:
        settings: what to measure.
        rows: training rows by data set.
    """

    def __init__(self, settings: Settings, rows: Mapping[str, int]) -> None:
        self.settings = settings
        self.rows = rows

    def steps(self, run: Run) -> int:
        """Optimizer steps of a run."""
        trains = run.recipe != "calibrate"
        return run.cell.epochs * self._steps_per_epoch(run.dataset) if trains else 0

    def cells(self, dataset: str) -> list[Cell]:
        """The grid on a data set, its epochs bounded by the number of steps."""
        most = max(2, round(self.settings.most_steps / self._steps_per_epoch(dataset)))
        return list(dict.fromkeys(Cell(min(cell.epochs, most), cell.rate) for cell in self.settings.grid))

    def runs(self, scores: Mapping[str, float], guess: bool = False) -> list[Run]:
        """All runs that can be named by now, in the order of what they are worth.

        Settings are chosen for the first seed by validation rows, and the other seeds and the students follow. So runs
        appear as outcomes do.

        Args:
            scores: validation scores of finished runs, by key.
            guess: take the longest training where a choice is open, to estimate the whole.
        """
        runs: list[Run] = []
        # The longest first: what follows them waits longest.
        sets = sorted(self.settings.sets, key=lambda name: -self._longest(name))
        for start in (DENSE, *self.settings.pruned()):
            for dataset in sets:
                runs += self._tuned(dataset, start, scores, guess)
        for seed in self.settings.seeds:
            for dataset in self.settings.ablation_sets:
                runs += self._ablations(dataset, seed, scores, guess)
        return list({run.key: run for run in runs}.values())

    def chosen(
        self, dataset: str, start: str, scores: Mapping[str, float], guess: bool = False
    ) -> Cell | None:
        """The grid's best cell by the validation rows of the first seed; None while some are to come."""
        cells = self.cells(dataset)
        found = {cell: scores.get(self._run(dataset, start, cell).key) for cell in cells}
        if None in found.values():
            return max(cells) if guess or len(cells) == 1 else None
        return max(cells, key=lambda cell: found[cell] or 0.0)

    def _tuned(self, dataset: str, start: str, scores: Mapping[str, float], guess: bool) -> Iterator[Run]:
        """The grid with the first seed, then the best of it with the others."""
        first, *others = self.settings.seeds
        for cell in self.cells(dataset):
            yield from self._transfer(dataset, start, cell, first, scores, guess)
        chosen = self.chosen(dataset, start, scores, guess)
        for seed in others if chosen is not None else ():
            assert chosen is not None
            yield from self._transfer(dataset, start, chosen, seed, scores, guess)

    def _transfer(
        self,
        dataset: str,
        start: str,
        cell: Cell,
        seed: int,
        scores: Mapping[str, float],
        guess: bool,
        variant: str = "",
    ) -> Iterator[Run]:
        """A run with its teacher's; none while the teacher's settings are open."""
        if start == DENSE and not variant:
            yield self._run(dataset, start, cell, seed)
            return
        settings = self.chosen(dataset, DENSE, scores, guess)
        if settings is None:
            return
        teacher = self._run(dataset, DENSE, settings, seed)
        asked = VARIANTS[variant]
        trained = (
            Run(dataset, start, asked.after, cell, seed, teacher=teacher) if asked.after is not None else None
        )
        yield teacher
        if trained is not None:
            yield trained
        yield Run(dataset, start, variant, cell, seed, teacher if asked.taught else None, trained)

    def _ablations(self, dataset: str, seed: int, scores: Mapping[str, float], guess: bool) -> Iterator[Run]:
        pruned = self.settings.pruned()
        for asked in self.settings.ablations if pruned else ():
            name = asked or ("" if BASE in self.cells(dataset) else "base")
            variant = VARIANTS[name]
            start = DENSE if variant.dense_start else pruned[0]
            cell = Cell(variant.epochs or BASE.epochs, BASE.rate)
            yield from self._transfer(dataset, start, cell, seed, scores, guess, name)
        for start in self.settings.only_ablated:
            yield from self._transfer(dataset, start, BASE, seed, scores, guess)

    def _run(self, dataset: str, start: str, cell: Cell, seed: int | None = None) -> Run:
        return Run(dataset, start, "", cell, self.settings.seeds[0] if seed is None else seed)

    def _longest(self, dataset: str) -> int:
        return max(cell.epochs for cell in self.cells(dataset)) * self._steps_per_epoch(dataset)

    def _steps_per_epoch(self, dataset: str) -> int:
        return -(-self.rows[dataset] // self.settings.batch)


def arguments_of(run: Run, settings: Settings, root: Path, extra: Sequence[str]) -> list[str]:
    """The command line of a run, without the command itself.

    Args:
        root: the benchmark's folder, which has the rows under `data`.
        extra: further flags.
    """
    dataset = DATASETS[run.dataset]
    model = settings.starts[run.start] if run.trained is None else str(root / run.trained.key / "model")
    one_shot = run.recipe == "calibrate"
    arguments: dict[str, Any] = {
        "model_name_or_path": model,
        "recipe": recipe_of(run.recipe, root / "recipes", settings.recipe),
        "distill_teacher": "disable" if run.teacher is None else root / run.teacher.key / "model",
        **{f"{split}_file": root / "data" / dataset.name / f"{split}.jsonl" for split in _SPLITS},
        "input_column_names": ",".join(dataset.columns),
        "label_column_name": dataset.label,
        "max_seq_length": 128,
        "per_device_train_batch_size": settings.batch,
        "per_device_eval_batch_size": 128,
        "save_strategy": "no",
        "logging_strategy": "epoch",
        "logging_nan_inf_filter": "false",  # which waits for the device at every step
        "disable_tqdm": "true",
        "seed": run.seed,
        "output_dir": root / run.key / "model",
    }
    if variables := variables_of(run.recipe, run.cell.epochs, run.cell.rate):
        arguments["recipe_args"] = json.dumps(variables)
    return [
        *flags(arguments),
        "--one_shot" if one_shot else "--do_train",
        "--do_eval",
        "--do_predict",
        *extra,
    ]


_SPLITS = ("train", "validation", "test")


def score(dataset: DataSet, metrics: Mapping[str, Any], split: str) -> float:
    """The data set's score on the rows that `split` (`eval` or `predict`) names; 0 where training diverged."""
    return statistics.fmean(metrics[f"{split}_{name}"] or 0.0 for name in dataset.metrics)


def trained_model(folder: Path, dataset: str, start: str, seed: int) -> Path:
    """The model of a finished run that was kept (`accuracy.py --keep`); of several settings the best by validation.

    Raises:
        RunFailedError: there is none.
    """
    found = {}
    for path in (folder / dataset).glob(f"{start}-[0-9]*x*-{seed}/outcome.json"):
        if (path.parent / "model" / "model.safetensors").is_file():
            outcome = json.loads(path.read_text(encoding="utf-8"))["outcome"]
            found[path.parent / "model"] = outcome["validation"]
    if not found:
        raise RunFailedError(
            f"{folder / dataset} has no trained {start} with seed {seed}: run `benchmarks/accuracy.py --keep "
            f"--sets {dataset} --folder {folder}` first."
        )
    return max(found, key=lambda model: found[model])
