"""A short form of `benchmarks/server_abuse.py`, on a tiny model."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from support.deployment import deployment

pytestmark = pytest.mark.slow


def test_others_are_served_and_the_memory_stays_flat(tmp_path: Path) -> None:
    from http_clients import serving
    from server_abuse import ABUSES, NAME, abuse_table, idle, measured

    model = deployment(tmp_path / "model")
    config = {
        "endpoints": [{"task": "text_classification", "model": str(model), "name": NAME}],
        "max_connections": 500,
        "num_cores": 1,
    }
    bodies = [json.dumps({"sequences": "happy"}).encode()]
    found = {}
    with serving(config, tmp_path) as served:
        for name, (abuse, share) in ABUSES.items():
            if abuse is idle:
                found[name] = asyncio.run(measured(served, abuse, bodies, round(1000 * share), 0.5, 60.0))
    for one in found.values():
        assert one["failed"] == 0 and one["asked"] == 30
        assert one["log_lines"] == 0
        assert one["p50"] < 500
    again = found["idle connections, again"]
    assert again["connections"] > 500
    assert again["memory_mib"]["peak"] < again["memory_mib"]["before"] + 15
    assert "idle" in abuse_table(found)
