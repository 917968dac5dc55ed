"""Which parameters and modules a recipe means.

Names are written as PyTorch writes them. Recipes in circulation are written for BERT
(`bert.encoder`): on another architecture such a name maps to the model's own prefix and to the
module that plays the same part.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator, Field

from resparse.errors import did_you_mean
from sparseml.modifiers.base import ModifierError

if TYPE_CHECKING:
    from torch import nn

ALL, ALL_PRUNABLE = "__ALL__", "__ALL_PRUNABLE__"


def as_list(value: object) -> object:
    """A recipe's one word or name as a list."""
    if not isinstance(value, str):
        return value
    return [value.upper() if value.upper() in (ALL, ALL_PRUNABLE) else value]


Selector = Annotated[list[str], BeforeValidator(as_list), Field(min_length=1)]
"""Names of parameters; `re:` patterns, matched from the start of the name; or one of the two words."""

# The modules that play a part of BERT's in the other encoders of Transformers, below the model's prefix
# or at its root. A part may be absent (RoBERTa has no pooler) or split (ELECTRA's embeddings_project).
_PARTS = {
    "embeddings": ("embeddings", "embeddings_project"),
    "encoder": ("encoder", "transformer", "layers"),
    "pooler": ("pooler", "pre_classifier", "head"),
    "classifier": ("classifier", "score"),
}
_FOREIGN_PREFIX = re.compile(r"^(bert|roberta|distilbert|electra|albert|mpnet|deberta|model)\.")


def select_parameters(
    model: nn.Module, params: list[str], who: str, strict: bool = True
) -> dict[str, nn.Parameter]:
    """The model's parameters that a recipe's `params` name, in the model's order.

    Args:
        params: names with or without `.weight`, `re:` patterns, `__ALL__`, `__ALL_PRUNABLE__`
            (the weights of all Linear layers; no embeddings).
        who: the modifier, for the error.
        strict: whether an entry that matches nothing is an error.

    Raises:
        ModifierError: an entry matches nothing; the message lists near names.
    """
    parameters = dict(model.named_parameters())
    chosen: set[str] = set()
    for entry in params:
        matched = _match(model, entry, parameters, who)
        if not matched and strict:
            prunable = _prunable(model)
            raise ModifierError(
                f"{who}: params entry {entry!r} matches no parameter of this {type(model).__name__}. "
                f"{did_you_mean(entry.removeprefix('re:'), parameters if len(parameters) < 40 else prunable)}"
            )
        chosen |= matched
    return {name: parameter for name, parameter in parameters.items() if name in chosen}


def is_transposed(layer: nn.Module) -> bool:
    """Whether a layer's weight is [inputs, outputs], as GPT's Conv1D has it; a Linear layer's is [outputs, inputs]."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(layer, Conv1D)


def transposed_weights(model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> frozenset[str]:
    """The names of those parameters of a model that are [inputs, outputs]; see `is_transposed`."""
    return frozenset(
        name
        for name, parameter in parameters.items()
        if parameter.ndim == 2 and is_transposed(model.get_submodule(name.rpartition(".")[0]))
    )


def select_modules(model: nn.Module, names: list[str], who: str) -> tuple[dict[str, nn.Module], list[str]]:
    """The modules that a recipe's `submodules` name, and the names that this architecture has no part for.

    Raises:
        ModifierError: a name is neither a module of this model nor a part of BERT that this
            architecture may lack; or nothing was found at all.
    """
    modules = dict(model.named_modules())
    found: dict[str, nn.Module] = {}
    absent: list[str] = []
    for name in names:
        own = _own_modules(model, name, modules)
        if not own and _bare(name) not in _PARTS:
            near = [path for path in modules if path.count(".") <= max(name.count("."), 1)]
            raise ModifierError(
                f"{who}: {name!r} is no module of this {type(model).__name__}. {did_you_mean(name, near)}"
            )
        if not own:
            absent.append(name)
        found |= own
    if not found:
        raise ModifierError(
            f"{who}: none of {', '.join(names)} is a module of this {type(model).__name__}. "
            f"Its top modules are {', '.join(path for path in modules if path.count('.') == 0 and path)}."
        )
    return found, absent


def may_share(first: list[str], second: list[str]) -> bool:
    """Whether two selectors may name the same parameter, judged without a model.

    Two different patterns are taken to name different parameters.
    """
    return any(_same_entry(one, other) or _same_entry(other, one) for one in first for other in second)


def _same_entry(one: str, other: str) -> bool:
    if one.upper() in (ALL, ALL_PRUNABLE) or one == other:
        return True
    if one.startswith("re:"):
        names = (other, f"{other}.weight")
        try:
            return not other.startswith("re:") and any(re.match(one[3:], name) for name in names)
        except re.error:
            return False
    return one == f"{other}.weight"


def _match(model: nn.Module, entry: str, parameters: dict[str, nn.Parameter], who: str) -> set[str]:
    if entry.upper() == ALL:
        return set(parameters)
    if entry.upper() == ALL_PRUNABLE:
        return set(_prunable(model))
    if entry.startswith("re:"):
        try:
            pattern = re.compile(entry[3:])
        except re.error as error:
            raise ModifierError(f"{who}: params entry {entry!r} is no regular expression: {error}.") from None
        matched = {name for name in parameters if pattern.match(name)}
        if matched:
            return matched
        mapped = re.compile(
            re.sub(r"^\^?(bert|roberta|distilbert|electra|albert)(?=\\?\.)", _prefix(model), entry[3:])
        )
        return {name for name in parameters if mapped.match(name)}
    bare = _bare(entry)
    names = [entry] if bare == entry else [entry, f"{_prefix(model)}.{bare}"]
    for name in names:
        for candidate in (name, f"{name}.weight"):
            if candidate in parameters:
                return {candidate}
    return set()


def _prunable(model: nn.Module) -> list[str]:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return [
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and getattr(module, "weight", None) is not None
    ]


def _own_modules(model: nn.Module, name: str, modules: dict[str, nn.Module]) -> dict[str, nn.Module]:
    if name in modules:
        return {name: modules[name]}
    prefix, bare = _prefix(model), _bare(name)
    candidates = [f"{prefix}.{bare}"]
    for own in _PARTS.get(bare, ()):
        candidates += [f"{prefix}.{own}", own]
    return {path: modules[path] for path in candidates if path in modules}


def _bare(name: str) -> str:
    return _FOREIGN_PREFIX.sub("", name)


def _prefix(model: nn.Module) -> str:
    return str(getattr(model, "base_model_prefix", ""))
