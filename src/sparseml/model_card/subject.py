"""What a model card is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sparseml.model_card.origin import Origin


@dataclass(frozen=True)
class Subject:
    """What a card is about.

    Attributes:
        name: of the model.
        address: what loads it: a Hub id or a folder.
        usage: commands that use it, a line each.
        pipeline_tag: the Hub's name of the task; None where it has none.
        report: as in `report.json`; `metrics`, `totals`, `layers`, `model`, `command` and `versions` are used, and
            `data`, `start` and `export` where they are there.
        data_name: of the data, for people.
        datasets: ids on the Hub.
        origin: what is known of the start.
        recipe: text of the evaluated recipe.
    """

    name: str
    address: str
    usage: Sequence[str]
    pipeline_tag: str | None
    report: Mapping[str, Any]
    data_name: str
    datasets: tuple[str, ...] = ()
    origin: Origin = field(default_factory=Origin)
    recipe: str | None = None
