"""The pruning methods that `recipe new` knows: each modifier, and the fields and reasons that are its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

Kind = Literal["keep", "gradual", "one_shot"]


@dataclass(frozen=True)
class Method:
    """A method.

    Attributes:
        tag: its modifier.
        kind: whether zeros are kept, made gradually, or made once.
        why: what it does and when to take it, for help and comments.
        updates: of a gradual one, about how many updates of the masks.
        fields: further fields, with the reason for each.
    """

    tag: str
    kind: Kind
    why: str
    updates: int = 20
    fields: tuple[tuple[str, Any, str], ...] = ()


METHODS: Final[dict[str, Method]] = {
    "keep": Method(
        "ConstantPruningModifier", "keep", "keeps the zeros of a pruned model; nothing more is pruned"
    ),
    "magnitude": Method(
        "GlobalMagnitudePruningModifier",
        "gradual",
        "the smallest weights go, by one threshold for all layers, so that layers which need more keep more",
    ),
    "uniform": Method(
        "MagnitudePruningModifier", "gradual", "the smallest weights of each layer go, the same share of each"
    ),
    "movement": Method(
        "MovementPruningModifier",
        "gradual",
        "the weights that training moves towards zero go (arXiv:2005.07683): for high sparsity and long training",
    ),
    "obs": Method(
        "OBSPruningModifier",
        "gradual",
        "the weights that cost the loss least go, and others make up for them (arXiv:2203.07259): slower updates",
        updates=8,
        fields=(
            ("num_grads", 256, "gradients for an estimate of the curvature; at most an epoch has batches"),
        ),
    ),
    "layerwise": Method(
        "LayerwisePruningModifier",
        "one_shot",
        "all at once, so that the layers' outputs change least (arXiv:2208.11580): minutes, and little training",
        fields=(("num_calibration_steps", 64, "batches that the layers' inputs are taken from"),),
    ),
}


def default_for(sparse: bool) -> str:
    """The method where none was named: sparse models keep their zeros."""
    return "keep" if sparse else "magnitude"
