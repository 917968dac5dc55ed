"""Dataset repositories for the loopback hub: Parquet files, cards that say which file is which split, conversions."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from support.hub import LoopbackHub

CONVERTED = "refs/convert/parquet"
"""The revision at which the Hub keeps what it made of a repository."""


def parquet(rows: Mapping[str, Sequence[Any]], names: Sequence[str] = ("no", "yes")) -> bytes:
    """A Parquet file whose schema declares the class names of `label`, as `datasets` writes it."""
    from datasets import ClassLabel, Dataset, Features, Value

    def feature(column: str, values: Sequence[Any]) -> Any:
        if column == "label" and names:
            return ClassLabel(names=list(names))
        return Value({float: "float32", int: "int32"}.get(type(values[0]), "string"))

    features = Features({column: feature(column, values) for column, values in rows.items()})
    buffer = io.BytesIO()
    Dataset.from_dict(dict(rows), features=features).to_parquet(buffer)
    return buffer.getvalue()


def card(configs: Mapping[str, Mapping[str, str]]) -> bytes:
    """A README.md whose front matter tells the splits of each configuration and their files."""
    lines = ["---", "configs:"]
    for config, splits in configs.items():
        lines += [f"- config_name: {config}", "  data_files:"]
        for split, path in splits.items():
            lines += [f"  - split: {split}", f"    path: {path}"]
    return "\n".join([*lines, "---", ""]).encode()


def repository(configs: Mapping[str, Mapping[str, bytes]]) -> dict[str, bytes]:
    """A repository without a script: CONFIG/SPLIT-00000-of-00001.parquet for each, and the card."""
    held = {
        config: {split: f"{config}/{split}-00000-of-00001.parquet" for split in splits}
        for config, splits in configs.items()
    }
    files = {
        held[config][split]: content
        for config, splits in configs.items()
        for split, content in splits.items()
    }
    return {"README.md": card(held), **files}


def convert(hub: LoopbackHub, repo: str, splits: Mapping[str, bytes]) -> None:
    """Add what the Hub makes of a repository with a script, by CONFIG/SPLIT."""
    files = {f"{split}/0000.parquet": content for split, content in splits.items()}
    hub.add(repo, files, "datasets", CONVERTED)
