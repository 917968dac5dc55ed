"""The tables of the accuracy benchmark, from outcomes alone."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from accuracy_runs import ABLATION_SETS, BASE, DENSE, VARIANTS, Cell
from data import DATASETS
from record import RESULTS, table

Outcome = Mapping[str, Any]

GOALS = (
    ("pruned80", None, 0.985),
    ("pruned90", None, 0.97),
    ("pruned80", "tweeteval_emotion", 0.805),
    ("pruned80", "sick", 0.85),
)
"""Start, data set (None: the mean over all, as a share of dense) and the least that it is to reach."""

_METRICS = {
    ("accuracy",): "accuracy",
    ("f1_micro",): "F1, micro",
    ("pearson", "spearmanr"): "mean of Pearson and Spearman",
}


class Outcomes:
    """All outcomes of the benchmark, with the settings that were chosen for each start."""

    def __init__(self, outcomes: Iterable[Outcome]) -> None:
        self.all = list(outcomes)
        self.sets = [name for name in DATASETS if any(entry["dataset"] == name for entry in self.all)]
        names = dict.fromkeys(entry["start"] for entry in self.all if not entry["variant"])
        self.starts = sorted(names, key=lambda name: (name != DENSE, name))

    def of(self, dataset: str, start: str, variant: str = "", cell: Cell | None = None) -> dict[int, float]:
        """Test scores by seed, of one cell of settings."""
        return {
            entry["seed"]: entry["test"]
            for entry in self.all
            if (entry["dataset"], entry["start"], entry["variant"]) == (dataset, start, variant)
            and (cell is None or _cell(entry) == cell)
        }

    def cells(self, dataset: str, start: str) -> dict[Cell, float]:
        """Validation scores of the grid, of the seed that has most of it."""
        entries = [
            entry
            for entry in self.all
            if (entry["dataset"], entry["start"], entry["variant"]) == (dataset, start, "")
        ]
        if not entries:
            return {}
        seed = Counter(entry["seed"] for entry in entries).most_common(1)[0][0]
        return {_cell(entry): entry["validation"] for entry in entries if entry["seed"] == seed}

    def chosen(self, dataset: str, start: str) -> Cell | None:
        """The cell that the validation rows favour."""
        cells = self.cells(dataset, start)
        return max(cells, key=lambda cell: cells[cell]) if cells else None

    def tuned(self, dataset: str, start: str) -> dict[int, float]:
        """Test scores by seed with the chosen settings; empty where there are none."""
        cell = self.chosen(dataset, start)
        return {} if cell is None else self.of(dataset, start, cell=cell)

    def recovery(self, dataset: str, start: str) -> dict[int, float]:
        """Shares of dense by seed, of the seeds that both have."""
        dense, sparse = self.tuned(dataset, DENSE), self.tuned(dataset, start)
        return {seed: sparse[seed] / dense[seed] for seed in sparse if dense.get(seed)}

    def mean_recovery(self, start: str, sets: Sequence[str]) -> list[float]:
        """The mean share of dense over data sets, a value a seed: of the seeds that all of them have."""
        shares = [found for name in sets if (found := self.recovery(name, start))]
        seeds = set.intersection(*map(set, shares)) if shares else set()
        return [statistics.fmean(found[seed] for found in shares) for seed in sorted(seeds)]


def tables(entries: Iterable[Outcome]) -> list[str]:
    """All Markdown blocks of the result."""
    outcomes = Outcomes(entries)
    blocks = [main_table(outcomes), goal_table(outcomes), _NOTES]
    if ablations := ablation_table(outcomes):
        blocks += [ablations]
    return [*blocks, choice_table(outcomes), machine_table(outcomes)]


def main_table(outcomes: Outcomes) -> str:
    """One line a data set: dense, and every pruned start with its share of dense; the mean share below."""
    pruned = outcomes.starts[1:]
    header = ["data set", "rows (test)", "metric", "TF-IDF + LR", "dense"]
    for start in pruned:
        header += [f"{start} int8", "of dense"]
    baseline, rows = _baseline(), []
    for dataset in outcomes.sets:
        entry = next(entry for entry in outcomes.all if entry["dataset"] == dataset)
        row = [
            dataset,
            f"{entry['train_rows']:,} ({entry['test_rows']:,})",
            _METRICS[DATASETS[dataset].metrics],
            f"{100 * baseline[dataset]:.1f}" if dataset in baseline else "–",
            _spread(outcomes.tuned(dataset, DENSE).values()),
        ]
        for start in pruned:
            shares = outcomes.recovery(dataset, start).values()
            row += [_spread(outcomes.tuned(dataset, start).values()), _share(shares)]
        rows.append(row)
    last = ["**mean**", "", "", "", _mean_of(outcomes, DENSE)]
    for start in pruned:
        sets = [name for name in outcomes.sets if outcomes.recovery(name, start)]
        part = "" if len(sets) == len(outcomes.sets) else f" ({len(sets)} sets)"
        last += [_mean_of(outcomes, start), f"{_spread(outcomes.mean_recovery(start, sets))} %{part}"]
    return table(header, [*rows, last])


_NOTES = (
    "Mean ± standard deviation over seeds, in points. Settings are chosen for each start from one grid, by the "
    "validation rows of the first seed; the teacher is the dense run of the same seed. CoLA and RTE are tested on "
    "their validation rows; for them, TREC and SNLI settings are chosen by rows drawn from the training ones. "
    "GoEmotions and SNLI are trained on a part of their rows. Scores are of the fake-quantized model."
)


def goal_table(outcomes: Outcomes) -> str:
    """What is to be reached, and what is."""
    rows = []
    for start, dataset, least in GOALS:
        found = (
            outcomes.mean_recovery(start, outcomes.sets)
            if dataset is None
            else list(outcomes.tuned(dataset, start).values())
        )
        what = f"{start} + int8, {dataset or 'mean share of dense'}"
        reached = statistics.fmean(found) if found else None
        verdict = "–" if reached is None else "yes" if reached >= least else "no"
        if dataset is None and found and len(outcomes.sets) < len(DATASETS):
            verdict = f"open: {len(outcomes.sets)} of {len(DATASETS)} sets"  # a mean of some is none of all
        rows.append([what, f"{least:.1%}", "–" if reached is None else f"{reached:.1%}", verdict])
    return table(["goal", "at least", "is", "reached"], rows)


def ablation_table(outcomes: Outcomes) -> str:
    """One line an ablation: scores on some data sets, and the mean share of dense; empty without ablations."""
    sets = [
        name
        for name in ABLATION_SETS
        if any(entry["dataset"] == name and entry["variant"] for entry in outcomes.all)
    ]
    rows = []
    for start, variant in _ablated(outcomes) if sets else ():
        asked = VARIANTS[variant]
        cell = Cell(asked.epochs or BASE.epochs, BASE.rate)
        found = {name: outcomes.of(name, start, variant, cell) for name in sets}
        if not any(found.values()):
            continue
        title = asked.title if start == DENSE else f"{start}: {asked.title}"
        rows.append(
            [title, *(_spread(scores.values()) for scores in found.values()), _shares(outcomes, found)]
        )
    return table(["ablation", *sets, "of dense"], rows) if rows else ""


def choice_table(outcomes: Outcomes) -> str:
    """The settings that the validation rows chose, and the scores of all."""
    rows = []
    for dataset in outcomes.sets:
        for start in outcomes.starts:
            cells = outcomes.cells(dataset, start)
            if not cells:
                continue
            scores = ", ".join(f"{_named(cell)}: {100 * cells[cell]:.1f}" for cell in sorted(cells))
            chosen = outcomes.chosen(dataset, start)
            assert chosen is not None
            rows.append([f"{dataset}, {start}", _named(chosen), scores])
    return table(["data set, start", "chosen: epochs, learning rate", "validation scores"], rows)


def machine_table(outcomes: Outcomes) -> str:
    """Where the runs ran, how long they took, and what came out: one line a start or ablation and machine."""
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for entry in outcomes.all:
        what = entry["variant"] or entry["start"]
        groups.setdefault((what, device_of(entry)), []).append(entry)
    rows = []
    for (what, device), entries in groups.items():
        first = entries[0]
        steps, seconds = (sum(entry[name] for entry in entries) for name in ("steps", "seconds"))
        rows.append(
            [
                what,
                f"{len(entries)}",
                f"{statistics.fmean(entry['sparsity'] for entry in entries):.1%}",
                f"{statistics.fmean(entry['quantized'] for entry in entries):.0%}",
                f"{first['compressed_bytes'] / 1e6:.1f} MB",
                f"{seconds / 60:.0f} min",
                f"{1000 * seconds / steps:.0f} ms" if steps else "–",
                device,
            ]
        )
    header = ["start or ablation", "runs", "zeros", "int8", "compressed", "time", "a step", "on"]
    return table(header, rows)


def device_of(entry: Outcome) -> str:
    """The device that an outcome was measured on, with the versions of what computed it."""
    machine = entry["machine"]
    versions = machine.get("versions", {})
    device = machine.get("gpu") or machine.get("cpu", "?")
    return f"{device}, torch {versions.get('torch')}, transformers {versions.get('transformers')}"


def _ablated(outcomes: Outcomes) -> list[tuple[str, str]]:
    """Start and variant of every line: the usual transfer of each start, then the variants."""
    pairs = dict.fromkeys((entry["start"], entry["variant"]) for entry in outcomes.all)
    usual = [(start, "") for start in outcomes.starts if start != DENSE]
    order = list(VARIANTS)
    return usual + sorted((pair for pair in pairs if pair[1]), key=lambda pair: order.index(pair[1]))


def _shares(outcomes: Outcomes, found: Mapping[str, Mapping[int, float]]) -> str:
    shares = []
    for dataset, scores in found.items():
        dense = outcomes.tuned(dataset, DENSE)
        shared = [scores[seed] / dense[seed] for seed in scores if dense.get(seed)]
        if not shared:
            return "–"
        shares.append(statistics.fmean(shared))
    return f"{statistics.fmean(shares):.1%}"


def _mean_of(outcomes: Outcomes, start: str) -> str:
    scores = [list(outcomes.tuned(dataset, start).values()) for dataset in outcomes.sets]
    return f"{100 * statistics.fmean(map(statistics.fmean, scores)):.1f}" if all(scores) else "–"


def _spread(scores: Iterable[float]) -> str:
    found = list(scores)
    if not found:
        return "–"
    mean = f"{100 * statistics.fmean(found):.1f}"
    return mean if len(found) == 1 else f"{mean} ± {100 * statistics.stdev(found):.1f}"


def _share(shares: Iterable[float]) -> str:
    found = list(shares)
    return f"{statistics.fmean(found):.1%}" if found else "–"


def _cell(entry: Outcome) -> Cell:
    return Cell(entry["epochs"], entry["rate"])


def _named(cell: Cell) -> str:
    return f"{cell.epochs}, {cell.rate:g}"


def _baseline() -> dict[str, float]:
    """What baseline_tfidf.py has recorded, by data set; empty where it has not run."""
    path = RESULTS / "baseline_tfidf.json"
    if not path.is_file():
        return {}
    return {entry["dataset"]: entry["test_accuracy"] for entry in json.loads(path.read_text())["outcomes"]}
