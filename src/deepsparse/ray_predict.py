"""`sparseml predict --ray`: blocks of rows, scored by actors of a Ray cluster; what is done is kept, block by block."""

from __future__ import annotations

import argparse
import itertools
import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

import pyarrow
import ray

from deepsparse import blocks, manifest
from deepsparse.blocks import Block, Outcome
from deepsparse.deployment import Deployment, open_deployment
from deepsparse.errors import DeepsparseError
from deepsparse.remote_files import Folder, find_files
from deepsparse.scorer import Scorer
from resparse.console import say, warn
from resparse.errors import UserError
from resparse.files import whole_folder
from resparse.progress import share

BLOCK_ROWS: Final = 50_000

_QUEUED = 2
"""Blocks that an actor has at a time, so that it need not wait for the next."""

_TRIES = 3
"""Times that a block is given again after the process that scored it has died."""

_PATIENCE = 30.0
"""Seconds without any actor after which it is said what is waited for."""


class RayError(DeepsparseError):
    """A cluster that cannot be used, or an actor that could not do its work."""


@dataclass(frozen=True)
class Job:
    """What an actor is told once.

    Attributes:
        model: the name of the deployment's ONNX file.
        files: the deployment's files; it need not be there on other machines.
        digest: of these files.
        threads, columns, settings: of `Scorer`.
        schema: of the input.
        output: the folder's URL.
    """

    model: str
    files: dict[str, bytes]
    digest: str
    threads: int
    columns: list[str]
    settings: dict[str, Any]
    schema: pyarrow.Schema
    output: str

    def scorer(self) -> Scorer:
        """The scorer, on the machine that asks for it."""
        from sparsezoo.common import cache_folder

        folder = cache_folder("deployments", self.digest)
        if not folder.is_dir():
            with whole_folder(folder) as temporary:
                for name, data in self.files.items():
                    (temporary / name).write_bytes(data)
        return Scorer(folder / self.model, self.threads, columns=self.columns, **self.settings)


class Actor:
    """A process of the cluster that scores blocks.

    Its methods take a reference to the job, in a list so that Ray does not fetch it each time. A constructor could not:
    one that is started again, on another machine, could not rely on its arguments.
    """

    def __init__(self) -> None:
        self._job: Job | None = None

    def ready(self, shared: list[Any]) -> dict[str, str]:
        """Have the model loaded."""
        return self._loaded(shared).scorer().fields

    def score(self, shared: list[Any], block: Block) -> Outcome:
        """Write the block's predictions."""
        job = self._loaded(shared)
        return blocks.score_block(job.scorer(), block, job.schema, Folder(job.output))

    def _loaded(self, shared: list[Any]) -> Job:
        if self._job is None:
            self._job = ray.get(shared[0])
        return self._job


def predict(arguments: argparse.Namespace, settings: dict[str, Any]) -> None:
    """Carry out the command.

    Args:
        arguments: of `sparseml predict`.
        settings: of `Pipeline.create`.
    """
    threads = arguments.num_cores or 1
    rows = arguments.block_rows or BLOCK_ROWS
    folder = Folder(arguments.output)
    files = [file for file in find_files(arguments.input, blocks.ENDINGS) if not folder.holds(file)]
    schema = blocks.read_schema(files)
    deployment = open_deployment(arguments.model)
    # Made here, too: what is wrong with the model or the columns is said before a cluster is asked.
    scorer = Scorer(deployment.model, threads, columns=arguments.input_column_names, **settings)
    columns = scorer.find_columns(schema.names)
    job = _job(deployment, threads, columns, settings, schema, folder.url)
    described = {**settings, "added": scorer.fields, "task": scorer.pipeline.describe()}
    key = manifest.key_of(files, job.digest, columns, rows, described)
    there = manifest.begin(folder, key, arguments.overwrite)
    total = Outcome()
    for name in sorted(there):
        total.add(blocks.read_outcome(folder.file(name)))
    if there:
        say(f"going on in {folder.url}: {total.labelled + total.refused:,} rows are there")
    count, done, started = len(there), 0, time.perf_counter()
    with share("labelling", sum(file.size for file in files)) as advance:

        def pass_over(block: Block) -> None:
            nonlocal done
            done += block.size
            advance(done)

        todo = _left(blocks.plan(files, rows), there, pass_over)
        if (first := next(todo, None)) is not None:
            with _cluster(arguments.ray_address):
                for block, outcome in _Pool(job, arguments.actors).run(itertools.chain([first], todo)):
                    pass_over(block)
                    total.add(outcome)
                    count += 1
    manifest.finish(folder, key, {"files": count, **asdict(total)})
    _summarize(total, folder, count, time.perf_counter() - started)


def _left(planned: Iterator[Block], there: set[str], pass_over: Callable[[Block], None]) -> Iterator[Block]:
    for block in planned:
        if block.name in there:
            pass_over(block)
        else:
            yield block


def _job(
    deployment: Deployment,
    threads: int,
    columns: list[str],
    settings: dict[str, Any],
    schema: pyarrow.Schema,
    output: str,
) -> Job:
    files = manifest.deployment_files(deployment)
    name = deployment.model.name
    return Job(name, files, manifest.digest(files), threads, columns, settings, schema, output)


class _Pool:
    """Actors that score blocks; one that dies is started again, and given its blocks again."""

    def __init__(self, job: Job, count: int | None) -> None:
        cores = int(ray.cluster_resources().get("CPU", 1))
        count = count or max(1, cores // job.threads)
        kind = ray.remote(num_cpus=job.threads, max_restarts=-1, max_task_retries=_TRIES)(Actor)
        # One copy on each machine, however many actors it has; kept for those that are started again.
        self._shared = [ray.put(job)]
        self._actors = [kind.remote() for _ in range(count)]
        self._wanted = f"{count} actors of {job.threads} CPUs, of {cores} in the cluster"

    def run(self, todo: Iterator[Block]) -> Iterator[tuple[Block, Outcome]]:
        """Each block, when it is done."""
        # An actor that has no machine yet is given nothing: others would wait for its blocks.
        starting = {actor.ready.remote(self._shared): actor for actor in self._actors}
        scoring: dict[Any, tuple[Any, Block]] = {}
        patience = time.monotonic() + _PATIENCE
        left: Block | None = next(todo)
        while scoring or left is not None:
            found, _ = ray.wait([*scoring, *starting], timeout=1.0)
            if len(starting) == len(self._actors) and time.monotonic() > patience:
                warn(f"Waiting for {self._wanted}.")
                patience = math.inf
            for reference in found:
                if reference in starting:
                    _result(reference, "the model")
                    actor, wanted = starting.pop(reference), _QUEUED
                else:
                    actor, block = scoring.pop(reference)
                    yield block, _result(reference, f"{block.file} from {_place(block)} on")
                    wanted = 1
                while left is not None and wanted:
                    scoring[actor.score.remote(self._shared, left)] = (actor, left)
                    left, wanted = next(todo, None), wanted - 1


def _result(reference: Any, what: str) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, UserError):
            raise cause from None
        raise RayError(f"{what}: {type(cause).__name__}: {cause}. What is done is kept.") from error
    except ray.exceptions.RayError as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise RayError(
            f"{what}: its actor has died {_TRIES + 1} times ({reason.strip()}). Is there enough memory? What is "
            "done is kept: run the same command again to go on."
        ) from error


def _place(block: Block) -> str:
    return f"line {block.line:,}" if block.line else f"row {block.begin:,}"


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """Ray, connected to; one that was connected to before is left so."""
    if ray.is_initialized():
        yield
        return
    # Ray would report usage to its makers, and warn of what other releases will do.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    local = {} if address or os.environ.get("RAY_ADDRESS") else {"include_dashboard": False}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **local)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise RayError(f"Ray at {address or 'this machine'} cannot be used: {reason}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _summarize(total: Outcome, folder: Folder, files: int, seconds: float) -> None:
    rows = total.labelled + total.refused
    if not rows:
        warn("The input has no rows.")
    if total.refused and not total.labelled:
        raise RayError(
            f"None of the {rows:,} rows could be labelled; {folder.url} says why in prediction_error. "
            f"{total.reasons[0][:1].upper()}{total.reasons[0][1:]}"
        )
    pace = f", {seconds:,.0f} s" if seconds >= 1 else ""
    say(f"{folder.url}: {total.labelled:,} rows labelled, in {files:,} files{pace}")
    if total.refused:
        warn(f"{total.refused:,} rows could not be labelled; prediction_error says why:")
        for reason in total.reasons:
            say(f"  {reason}")
