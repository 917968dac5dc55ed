"""Fixtures that all tests share."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from support import once
from support.hub import LoopbackHub

# How long an example takes is not what these tests are about, and a busy machine is no fault of the code.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


# Files of minutes. They begin first: at the end, one process would work and the others wait.
_LONGEST = ("test_native_sanitizers.py", "test_native_arm.py", "test_native_fuzz.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in _LONGEST)


@pytest.fixture(scope="session", autouse=True)
def made_once(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> None:
    """All processes of this session keep in one folder what `support.once` makes."""
    base = tmp_path_factory.getbasetemp()
    once.keep_in((base.parent if hasattr(request.config, "workerinput") else base) / "made-once")


@pytest.fixture(scope="module", autouse=True)
def quick_collections() -> None:
    """What modules and fixtures have made so far is passed over by the garbage collector.

    Training runs it in full; by the end of a session that would take longer than tiny models do.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def no_cache() -> Iterator[None]:
    """Models that tests make are not kept in the user's own cache of packed models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEEPSPARSE_CACHE", "")
        yield


@pytest.fixture
def zoo_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home for the zoo, and caches of this test's own."""
    home = tmp_path / "zoo"
    monkeypatch.setenv("SPARSEZOO_HOME", str(home))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "huggingface" / "hub"))
    return home


@pytest.fixture
def hub(zoo_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A Hugging Face Hub on loopback, which this process's `sparsezoo` uses; see `support.hub`."""
    with LoopbackHub() as running:
        for name, value in running.environment(zoo_home.parent).items():
            monkeypatch.setenv(name, value)
        if constants := sys.modules.get("huggingface_hub.constants"):
            monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield running
    if client := sys.modules.get("huggingface_hub"):
        client.close_session()


@pytest.fixture(scope="session")
def pruned_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny BERT without a head, 80 % of its encoder's weights zero; see `support.tiny`."""
    from support import tiny

    return tiny.bert(tmp_path_factory.mktemp("models") / "pruned")


@pytest.fixture(scope="session")
def rows_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.csv (48 rows) and validation.csv (16) for it."""
    from support import tiny

    folder = tmp_path_factory.mktemp("rows")
    tiny.write(folder / "train.csv", tiny.rows(48))
    tiny.write(folder / "validation.csv", tiny.rows(16, seed=1))
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: sums come out the same to the last bit, and small runs are faster."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
