"""Short forms of `benchmarks/server_overload.py`, on a tiny model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from support.deployment import deployment

TEXTS = ["happy film", "a sad film", "furious"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """A server's configuration, with two models that it may swap; and its folder."""
    from server_overload import prepared

    folder = tmp_path_factory.mktemp("overload")
    model = deployment(folder / "model")
    return {**prepared(model, folder), "num_cores": 1, "max_queued_texts": 4096}, folder


@pytest.fixture(scope="module")
def served(settings: tuple[dict[str, Any], Path]) -> Iterator[Any]:
    from http_clients import serving

    with serving(*settings) as running:
        yield running


def test_more_than_it_can_take(served: Any) -> None:
    """Some are answered, and the others refused sooner than that; then it answers again."""
    from server_overload import bodies, overload_table, overloaded

    longer = [" ".join([text] * 20) for text in TEXTS]
    found = asyncio.run(overloaded(served, bodies(longer, 64), 2.0, warmup=1.0))
    # How fast is for the benchmark to say: another test may have the cores meanwhile.
    assert found["neither"] == 0
    assert found["accepted"]["count"] > 0 and found["refused"]["count"] > 0
    assert found["refused"]["p50"] < found["accepted"]["p50"]
    assert found["not_answered_later"] < found["later"]["count"]
    assert "4 x for 2 s" in overload_table(found)


def test_a_model_replaced_while_it_answers(served: Any) -> None:
    from server_overload import bodies, replaced, replaced_table

    found = asyncio.run(replaced(served, bodies(TEXTS, 70), 600, pause=0.02))
    assert found["requests"] == 600 and found["swaps"] > 5
    assert found["lost"] == found["mixed"] == 0
    assert all(found["of_each"])
    assert "600" in replaced_table(found)


def test_stopped_under_load_all_that_was_taken_is_answered(settings: tuple[dict[str, Any], Path]) -> None:
    from http_clients import serving
    from server_overload import bodies, stopped, stopped_table

    with serving(*settings) as running:
        found = asyncio.run(stopped(running, bodies(TEXTS, 4), after=0.3))
    assert found["answered"] > 50 and found["lost"] == 0
    assert found["exit"] in (0, -15)
    assert "Traceback" not in running.log.read_text()
    assert "answered" in stopped_table([found])
