"""How large a model its config.json promises, against the weights beside it: before memory is asked for.

A configuration from elsewhere is a few numbers, and Transformers makes every tensor that they ask for: of one that says
`hidden_size: 1000000` a terabyte, before the first weight is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from resparse.json_text import JsonError, parse_json
from sparseml.session.sources import ModelError

# What architectures call the same size.
_HIDDEN: Final = ("hidden_size", "d_model", "dim", "n_embd", "emb_dim")
_INNER: Final = ("intermediate_size", "hidden_dim", "ffn_dim", "encoder_ffn_dim", "d_ff", "d_inner")
_EMBEDDING: Final = ("embedding_size", "d_embed")
# ALBERT's layers share their weights: it has as many as it has groups.
_GROUPS: Final = ("num_hidden_groups",)
_LAYERS: Final = ("num_hidden_layers", "n_layers", "n_layer", "num_layers", "encoder_layers")
_ROWS: Final = ("vocab_size", "max_position_embeddings", "n_positions", "type_vocab_size")
_LABELS: Final = ("num_labels", "_num_labels")

_ALLOWED: Final = 64 * 1024 * 1024
"""Parameters more than the weights have bytes: heads and vocabularies that are new, models of which parts were cut."""

_MOST_ENTRIES: Final = 100_000

_OF_A_LAYER: Final = 8192
"""Parameters that take the memory of a layer's Python objects."""

_WEIGHTS: Final = ("*.safetensors", "*.bin", "*.npz")


def refuse_counts(called: str, folder: Path) -> None:
    """Check the sizes of which a configuration itself makes lists, entry by entry, when it is read.

    Raises:
        ModelError: there are more layers or labels than any model has.
    """
    config = _config(folder)
    for name in (*_LAYERS, *_LABELS):
        if _size(config, name) > _MOST_ENTRIES:
            raise ModelError(
                f"The config.json of {called!r} says {name}: {_shown(config[name])}, and at most {_MOST_ENTRIES:,} are "
                "taken: it is damaged. Use another copy."
            )


def refuse_promises(called: str, folder: Path) -> None:
    """Compare the sizes in a folder's config.json with the weights beside it, where there are any.

    A weight takes a byte or more, so an honest model has no more parameters than its files have bytes.

    Raises:
        ModelError: it promises a larger model.
    """
    config = _config(folder)
    weights = sum(path.stat().st_size for pattern in _WEIGHTS for path in folder.glob(pattern))
    if weights and parameters(config) > weights + _ALLOWED:
        named = ", ".join(f"{name}: {_shown(config[name])}" for name in _sizes(config))
        raise ModelError(
            f"The config.json of {called!r} promises a model of {_shown(parameters(config))} parameters ({named}), and "
            f"the weights beside it have {weights:,} bytes: it is damaged, or another model's. Use another copy."
        )


def _config(folder: Path) -> dict[str, Any]:
    """What config.json holds; nothing where it cannot be read, which whoever loads it says."""
    try:
        found = parse_json((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, JsonError):
        return {}
    return found if isinstance(found, dict) else {}


def parameters(config: Mapping[str, Any]) -> int:
    """About how many parameters an encoder of this configuration has; what it does not say counts as nothing."""
    hidden = _first(config, _HIDDEN)
    embedding = _first(config, _EMBEDDING) or hidden
    layers = _first(config, _GROUPS) or _first(config, _LAYERS)
    of_layer = 4 * hidden * hidden + 2 * hidden * _first(config, _INNER) + _OF_A_LAYER
    rows = sum(_size(config, name) for name in _ROWS)
    return layers * of_layer + rows * max(embedding, 1) + _first(config, _LABELS) * max(hidden, 1)


def _first(config: Mapping[str, Any], names: Iterable[str]) -> int:
    return next((size for name in names if (size := _size(config, name))), 0)


def _size(config: Mapping[str, Any], name: str) -> int:
    value = config.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _sizes(config: Mapping[str, Any]) -> list[str]:
    """The sizes that it gives, largest first."""
    known = (*_HIDDEN, *_INNER, *_EMBEDDING, *_LAYERS, *_GROUPS, *_ROWS, *_LABELS)
    return sorted((name for name in known if _size(config, name)), key=lambda name: -config[name])[:4]


def _shown(number: int) -> str:
    return f"{number:,}" if number < 10**18 else f"{float(min(number, 10**300)):.1e}"
