"""Pruning in two processes, each with half of every batch: one set of masks, and that of a single process."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from test_modifiers_settings import CLOCK, SETTINGS, batches, plan_of, pruned_model
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from sparseml.modifiers import MODIFIERS
from sparseml.modifiers.pruning import PruningModifier
from sparseml.modifiers.second_order import Fisher
from sparseml.session.distributed import rebuild
from sparseml.session.session import Session
from support.encoders import labelled

pytestmark = pytest.mark.slow

PRUNING = [tag for tag in SETTINGS if issubclass(MODIFIERS[tag], PruningModifier)]
BLOCKS = "blocks of the Fisher matrix that were inverted"
TAGS = [*PRUNING, "LayerThinningModifier", "LayerPruningModifier"]


def trained(tag: str, rank: int, processes: int) -> dict[str, Tensor]:
    """The weights and the modifier's state after a training on one process's rows."""
    model = pruned_model().train()
    session = Session(plan_of(tag, SETTINGS[tag].fields), model)
    session.run.rank, session.run.world_size = rank, processes
    session.run.batches = lambda: itertools.islice(batches(), rank, None, processes)
    called: nn.Module = DistributedDataParallel(model) if processes > 1 else model
    session.resized = lambda: rebuild(called)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    session.begin(CLOCK, 0, optimizer)
    for step in range(CLOCK.total_steps):
        session.before_step(step)
        optimizer.zero_grad()
        called(**{name: rows[rank::processes] for name, rows in labelled(seed=step).items()}).loss.backward()
        session.after_backward()
        session.before_optimizer_step()
        optimizer.step()
        session.after_step()
    return {**model.state_dict(), **session.state()}


def work(rank: int, folder: str) -> None:
    """What one of two processes does."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    inverted: list[int] = []
    inverse = Fisher.inverse
    Fisher.inverse = lambda self, damp: (inverted.append(len(self.values)), inverse(self, damp))[1]  # type: ignore[method-assign]
    torch.save({tag: trained(tag, rank, 2) for tag in TAGS} | {BLOCKS: inverted}, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the two processes ended with, by modifier."""
    folder: Path = tmp_path_factory.mktemp("two")
    multiprocessing.spawn(work, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("tag", TAGS)
def test_both_processes_end_with_the_same_bits(both: list[dict[str, Any]], tag: str) -> None:
    first, second = (results[tag] for results in both)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.mark.parametrize("tag", TAGS)
def test_two_processes_prune_what_one_prunes(both: list[dict[str, Any]], tag: str) -> None:
    """Up to the order in which gradients are added."""
    alone, together = trained(tag, 0, 1), both[0][tag]
    masks = [name for name in alone if name.endswith(".pruned")]
    assert (masks or tag not in PRUNING) and alone.keys() == together.keys()
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=1e-3, atol=1e-5)


def test_each_block_of_the_fisher_matrix_is_inverted_by_one_process(
    both: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone: list[int] = []
    inverse = Fisher.inverse
    monkeypatch.setattr(
        Fisher, "inverse", lambda self, damp: (alone.append(len(self.values)), inverse(self, damp))[1]
    )
    trained("OBSPruningModifier", 0, 1)
    first, second = (results[BLOCKS] for results in both)
    assert [one + other for one, other in zip(first, second, strict=True)] == alone
    assert max(abs(one - other) for one, other in zip(first, second, strict=True)) <= 1
