"""What happens where a command's folder is on a full disk, or may not be written?

Each subject of `kill_subjects.py` writes to a file system in memory, of a random size that does not hold what it makes:
it has to end with exit code 2 and an error that names the cause, without a traceback, and nothing that lies there then
may be taken for whole. With room made, the same command has to make what an undisturbed one makes. The packing of a
model is an exception: without room for its cache the model runs all the same. Then all is tried on a file system that
is read-only. Needs Linux, and the right to mount.

    python benchmarks/full_disk.py
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

# Before anything is imported that starts threads: a process with threads cannot be forked.
os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "0"}

from kill_subjects import BrokenError, Place, Subject, download, export, packing, predictions, training
from killing import Attempt
from record import RESULTS, keep, table
from resparse.console import run, say
from resparse.errors import UserError

_ROOM = "512m"
_CAUSES = ("No space left on device", "no space", "disk is full", "Read-only file system", "read-only")


@dataclass
class Outcome:
    """What became of a subject.

    Attributes:
        sizes: in KiB, of the file systems that did not hold what it makes.
        refused, managed: how often it ended with exit code 2, and how often well all the same.
        read_only: its exit code where nothing may be written.
        said: the last errors.
    """

    title: str
    needed: int
    sizes: list[int] = field(default_factory=list)
    refused: int = 0
    managed: int = 0
    read_only: int | None = None
    said: dict[str, str] = field(default_factory=dict)


@contextmanager
def mounted(folder: Path) -> Iterator[Path]:
    """A file system in memory at a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={_ROOM}", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(*words: str) -> None:
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(
            f"mount {' '.join(words)}: {done.stderr.strip()}. This program needs the right to mount."
        )


def used(folder: Path) -> int:
    """KiB that are used on a file system."""
    usage = shutil.disk_usage(folder)
    return usage.used // 1024


def attempt(subject: Subject, log: Path) -> tuple[set[int], str]:
    """Run a subject's works at once; returns their exit codes and the last line that they printed.

    Raises:
        BrokenError: a traceback, or an exit code that no user should see.
    """
    log.unlink(missing_ok=True)
    running = [Attempt(partial(run, work), subject.folder, log) for work in subject.works]
    codes = {one.wait().code for one in running}
    printed = log.read_text(errors="replace")
    last = next((line for line in reversed(printed.splitlines()) if line.startswith("error:")), "")
    if codes - {0, 2} or "Traceback" in printed:
        raise BrokenError(f"{subject.title}: exit codes {codes}:\n{printed[-2000:]}")
    if 2 in codes and not any(cause in last for cause in _CAUSES):
        raise BrokenError(f"{subject.title}: the error does not name the cause: {last!r}")
    return codes, last.removeprefix("error: ").replace(str(subject.folder), "FOLDER")


def exhaust(subject: Subject, disk: Path, times: int, chance: random.Random, log: Path) -> Outcome:
    """Run a subject on disks that are too small, and then on one that nobody can write to."""
    subject.clear()
    if attempt(subject, log)[0] != {0}:
        raise BrokenError(f"{subject.title}: {log.read_text()[-2000:]}")
    expected = subject.result()
    outcome = Outcome(subject.title, used(disk))
    for _ in range(times):
        subject.clear()
        size = chance.randint(4, max(8, outcome.needed - 4))
        _mount("-o", f"remount,size={size}k", str(disk))
        codes, last = attempt(subject, log)
        outcome.sizes.append(size)
        if 2 in codes:
            outcome.refused += 1
            outcome.said["full"] = last
        else:
            outcome.managed += 1
        subject.after_kill()
        _mount("-o", f"remount,size={_ROOM}", str(disk))
        if attempt(subject, log)[0] != {0} or subject.result() != expected:
            raise BrokenError(f"{subject.title}: with room made, it did not make what it makes undisturbed")
    subject.clear()
    _mount("-o", "remount,ro", str(disk))
    codes, last = attempt(subject, log)
    outcome.read_only = max(codes)
    outcome.said["read-only"] = last
    _mount("-o", "remount,rw", str(disk))
    return outcome


def outcomes(times: int, seed: int, root: Path) -> Iterator[Outcome]:
    """All subjects, one after the other."""
    # Imported here, so that every process has them from its beginning.
    import onnxruntime  # noqa: F401

    import sparseml.export.deployment
    import sparseml.training.run  # noqa: F401
    from support.hub import LoopbackHub

    chance, log, place = random.Random(seed), root / "log.txt", Place(root)
    trained, exported = root / "trained", root / "exported"
    for made in (training(place, trained), export(trained / "out", exported)):
        made.clear()
        attempt(made, log)
    deployment = exported / "target" / "deployment"
    with LoopbackHub() as hub, mounted(root / "disk") as disk:
        work = disk / "work"
        for subject in (
            training(place, work),
            export(trained / "out", work),
            predictions(place, deployment, work),
            packing(deployment, work, answers=root / "answers"),
            download(work, hub, locks=True),
        ):
            say(subject.title)
            yield exhaust(subject, disk, times, chance, log)


def result_tables(found: Sequence[Outcome]) -> list[str]:
    """A line for each subject, and the errors that were said."""
    lines = [
        [
            one.title,
            f"{one.needed:,}",
            str(len(one.sizes)),
            str(one.refused),
            str(one.managed),
            str(len(one.sizes)),
            str(one.read_only),
        ]
        for one in found
    ]
    header = ["subject", "needs KiB", "too small disks", "exit code 2", "done all the same"]
    header += ["with room made, as undisturbed", "exit code where read-only"]
    errors = [[one.title, why, f"`{said}`"] for one in found for why, said in one.said.items() if said]
    return [table(header, lines), table(["subject", "disk", "the error"], errors)]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--times", type=int, default=10, help="too small disks of each subject (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="full-disk-") as place:
        try:
            found = list(outcomes(arguments.times, arguments.seed, Path(place).resolve()))
        except BrokenError as error:
            say(f"broken: {error}")
            return 1
    title = "Commands on full and on read-only disks"
    keep(
        "full_disk",
        title,
        result_tables(found),
        {"subjects": [vars(one) for one in found]},
        arguments.results,
    )
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
