"""Is anything lost, or half-written, when a command is killed at any moment, and started again?

Each subject runs undisturbed once. Then it is begun anew, killed at a random file operation or after a random time,
and repeated until it ends well: in the end it must have made the same, bit for bit, and nothing that lies there after
a kill may be taken for whole when it is not.

    python benchmarks/kill_anywhere.py --kills 50
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Before anything is imported that starts threads: a process with threads cannot be forked.
os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "0"}

from kill_subjects import (
    BrokenError,
    Place,
    Subject,
    download,
    export,
    packing,
    predictions,
    training,
    under_a_jumping_clock,
)
from killing import Attempt, Ended
from record import RESULTS, keep, table
from resparse.console import run, say

SUBJECTS = ("training", "export", "predict", "packing", "download", "clock")

_UNDISTURBED = 0.25
"""The share of attempts that are not killed."""


@dataclass
class Tally:
    """What was done to a subject."""

    title: str
    at_operations: int = 0
    after_times: int = 0
    terminated: int = 0
    finished: int = 0
    operations: int = 0
    seconds: float = 0.0

    @property
    def kills(self) -> int:
        """Processes that were killed."""
        return self.at_operations + self.after_times


def kill(subject: Subject, kills: int, chance: random.Random, log: Path) -> Tally:
    """Kill a subject so many times.

    Raises:
        BrokenError: something was lost, or would be taken for whole.
    """
    tally = Tally(subject.title)
    subject.clear()
    usual = [attempt.wait() for attempt in [Attempt(work, subject.folder, log) for work in subject.works]]
    _refuse_failure(usual, subject, log)
    expected = subject.result()
    tally.operations = max(ended.operations for ended in usual)
    tally.seconds = max(ended.seconds for ended in usual)
    while tally.kills < kills:
        subject.clear()
        while any(ended.killed for ended in _round(subject, tally, chance, log)):
            subject.after_kill()
        if (found := subject.result()) != expected:
            differ = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
            raise BrokenError(f"{subject.title}: after kills it made something else: {', '.join(differ)}")
        tally.finished += 1
    return tally


def _round(subject: Subject, tally: Tally, chance: random.Random, log: Path) -> list[Ended]:
    """Run all works at once, some of them to be killed."""
    running, times = [], []
    for work in subject.works:
        draw = chance.random()
        at = after = None
        if draw > _UNDISTURBED:
            if draw < (1 + _UNDISTURBED) / 2:
                at = chance.randint(1, max(1, tally.operations))
            else:
                after = chance.uniform(0.0, tally.seconds)
        running.append(Attempt(work, subject.folder, log, at))
        times.append(after)
    ended = [attempt.wait(after) for attempt, after in zip(running, times, strict=True)]
    for one, after in zip(ended, times, strict=True):
        tally.after_times += one.killed and after is not None
        tally.at_operations += one.killed and after is None
    _refuse_failure([one for one in ended if not one.killed], subject, log)
    return ended


def terminate(subject: Subject, times: int, chance: random.Random, log: Path, usual: Tally) -> int:
    """SIGTERM at random times: it exits with 143 or ends well, and goes on; returns how often it was stopped.

    What `kill` has left is what it is to make.
    """
    expected, stopped = subject.result(), 0
    while stopped < times:
        subject.clear()
        code = None
        while code != 0:
            attempt = Attempt(subject.works[0], subject.folder, log)
            if chance.random() > _UNDISTURBED:
                time.sleep(chance.uniform(0.0, usual.seconds))
                attempt.signal(signal.SIGTERM)
            code = attempt.wait().code
            stopped += code in (143, -signal.SIGTERM)
            if code not in (0, 143, -signal.SIGTERM):
                raise BrokenError(f"{subject.title}: exit code {code} after SIGTERM, see {log}")
            subject.after_kill()
        if subject.result() != expected:
            raise BrokenError(f"{subject.title}: after SIGTERM it made something else")
    return stopped


def _refuse_failure(ended: Sequence[Ended], subject: Subject, log: Path) -> None:
    codes = [one.code for one in ended if one.code != 0]
    if codes:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
        raise BrokenError(f"{subject.title}: exit code {codes[0]}:\n{last}")


def tallies(asked: Sequence[str], kills: int, seed: int, root: Path) -> Iterator[Tally]:
    """The subjects that are asked for, one after the other; what the later ones need is made undisturbed."""
    # Imported here, so that every process has them from its beginning.
    import onnxruntime  # noqa: F401

    import sparseml.export.deployment
    import sparseml.training.run  # noqa: F401
    from support.hub import LoopbackHub

    chance, log, place = random.Random(seed), root / "log.txt", Place(root)
    few = max(1, kills // 5)

    def measured(name: str, subject: Subject, count: int = kills) -> Tally:
        say(f"{subject.title}: {count if name in asked else 'no'} kills")
        return kill(subject, count if name in asked else 0, chance, log)

    trained = training(place, root / "trained")
    tally = measured("training", trained)
    if "training" in asked:
        tally.terminated = terminate(trained, few, chance, log, tally)
        yield tally
    exported = export(root / "trained" / "out", root / "exported")
    tally = measured("export", exported)
    if "export" in asked:
        yield tally
    deployment = root / "exported" / "target" / "deployment"
    with LoopbackHub() as hub:
        others = {
            "predict": [predictions(place, deployment, root / "predicted")],
            "packing": [packing(deployment, root / "packed")],
            "download": [
                download(root / "fetched", hub, locks=True),
                download(root / "fetched-without-locks", hub, locks=False),
            ],
        }
        for name in asked:
            for subject in others.get(name, []):
                yield measured(name, subject)
    if "clock" in asked:
        yield measured("clock", under_a_jumping_clock(training(place, root / "jumping"), seed), few)


def result_table(found: Sequence[Tally]) -> str:
    """A line for each subject."""
    header = [
        "subject",
        "kills",
        "at file operations",
        "at times",
        "SIGTERM",
        "ended as undisturbed",
        "operations",
        "seconds",
    ]
    rows = [
        [
            one.title,
            str(one.kills),
            str(one.at_operations),
            str(one.after_times),
            str(one.terminated or "–"),
            str(one.finished),
            str(one.operations),
            f"{one.seconds:.1f}",
        ]
        for one in found
    ]
    return table(header, rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50, help="of each subject (default: %(default)s)")
    parser.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=SUBJECTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--folder", type=Path, help="default: a temporary one, removed unless something is wrong"
    )
    parser.add_argument("--results", type=Path, help=f"also write the table there, such as {RESULTS.name}")
    arguments = parser.parse_args()
    root = arguments.folder or Path(tempfile.mkdtemp(prefix="kill-anywhere-"))
    found: list[Tally] = []
    try:
        for tally in tallies(arguments.subjects, arguments.kills, arguments.seed, root.resolve()):
            found.append(tally)
    except BrokenError as error:
        say(f"broken: {error}\nwhat is left lies in {root}")
        return 1
    data: dict[str, Any] = {"subjects": [vars(tally) for tally in found]}
    title = "Commands killed at random moments, and repeated until they end"
    if arguments.results is not None:
        keep("kill_anywhere", title, [result_table(found)], data, arguments.results)
    else:
        print(result_table(found))
    if arguments.folder is None:
        shutil.rmtree(root)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
