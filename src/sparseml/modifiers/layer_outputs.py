"""What the layers of a student and of its teacher return, and how far that is apart: hidden states and attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from resparse.errors import did_you_mean
from sparseml.modifiers.base import ModifierError
from sparseml.modifiers.units import ATTENTION

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.utils.hooks import RemovableHandle


def hidden_state_distance(
    student: torch.Tensor,
    teacher: torch.Tensor,
    mask: torch.Tensor | None = None,
    normalize: bool = True,
    epsilon: float = 1e-6,
) -> torch.Tensor:
    """The mean squared difference of two hidden states; a scalar, in float32.

    Args:
        student, teacher: [batch, tokens, width].
        mask: [batch, tokens], 0 at padding, which is left out; None where there is none.
        normalize: in shares of the teacher's mean square, so that all layers count alike.
        epsilon: added to that mean square.
    """
    import torch
    import torch.nn.functional as F

    source, target = student.float(), teacher.float()
    if mask is None:
        distance = F.mse_loss(source, target)
        scale = torch.linalg.vector_norm(target).square() / target.numel()
    else:
        weight = mask.unsqueeze(-1).to(target.dtype)
        entries = weight.sum() * target.shape[-1]
        distance = ((source - target).square() * weight).sum() / entries
        scale = (target.square() * weight).sum() / entries
    return distance / (scale + epsilon) if normalize else distance


def attention_distance(
    student: tuple[torch.Tensor, torch.Tensor],
    teacher: tuple[torch.Tensor, torch.Tensor],
    heads: int,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """KL(teacher || student) of the attention distributions, mean over heads and query tokens; a scalar.

    Wang et al. 2020, arXiv:2002.10957. Positions that an architecture adds to the products are not part of it.

    Args:
        student, teacher: queries and keys, each [batch, tokens, heads * size of a head].
        heads: their number, the same in both.
        mask: [batch, tokens], 0 at padding.
    """
    import torch

    ours, theirs = (_attention_log_shares(*pair, heads, mask) for pair in (student, teacher))
    divergence = torch.where(theirs.isfinite(), theirs.exp() * (theirs - ours), 0.0).sum(-1)
    if mask is None:
        return divergence.mean()
    queries = mask[:, None, :].to(divergence.dtype)
    return (divergence * queries).sum() / (queries.sum() * heads)


def transformer_layers(model: nn.Module, who: str) -> list[str]:
    """The names of an encoder's Transformer layers, in order.

    Raises:
        ModifierError: the model has no list of as many modules as its configuration says layers.
    """
    from torch import nn

    count = getattr(getattr(model, "config", None), "num_hidden_layers", None)
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return [f"{name}.{index}" for index in range(count)]
    raise ModifierError(
        f"{who}: the Transformer layers of this {type(model).__name__} are not known: name modules in "
        "student_layer_names and teacher_layer_names."
    )


def paired_layers(student: nn.Module, teacher: nn.Module, who: str) -> tuple[list[str], list[str]]:
    """The student's Transformer layers, and as many of the teacher's at equal distances, the last for the last.

    Raises:
        ModifierError: the teacher has fewer, or a model's layers are not known.
    """
    ours, theirs = transformer_layers(student, who), transformer_layers(teacher, who)
    if len(theirs) < len(ours):
        raise ModifierError(
            f"{who}: the teacher has {len(theirs)} layers and the student {len(ours)}: name the pairs in "
            "student_layer_names and teacher_layer_names."
        )
    return ours, [theirs[-(-(index + 1) * len(theirs) // len(ours)) - 1] for index in range(len(ours))]


@contextmanager
def comparing(
    student: nn.Module, teacher: nn.Module
) -> Iterator[Callable[[torch.Tensor | None], list[torch.Tensor]]]:
    """Yield a function from a batch's mask to the distance of each pair of layers, after both models have run on it.

    Layers pair as they do by default in training; pairs of different widths are left out.
    """
    who = "The comparison"
    ours, theirs = paired_layers(student, teacher, who)
    recorders = Recorder(student, ours, False, who), Recorder(teacher, theirs, False, who)

    def distances(mask: torch.Tensor | None) -> list[torch.Tensor]:
        pairs = zip(recorders[0].outputs, recorders[1].outputs, strict=True)
        return [
            hidden_state_distance(one, other, mask)
            for one, other in pairs
            if one.shape[-1] == other.shape[-1]
        ]

    try:
        yield distances
    finally:
        for recorder in recorders:
            recorder.release()


class Recorder:
    """The last outputs of chosen modules, and of the query and key layers inside them, by forward hooks.

    Attributes:
        outputs: of each module, [batch, tokens, width].
    """

    def __init__(self, model: nn.Module, names: Sequence[str], attends: bool, who: str) -> None:
        modules = dict(model.named_modules())
        self.outputs: list[Any] = [None] * len(names)
        self._queries: list[Any] = [None] * len(names)
        self._keys: list[Any] = [None] * len(names)
        self._hooks: list[RemovableHandle] = []
        for index, name in enumerate(names):
            if name not in modules:
                raise ModifierError(
                    f"{who}: {name!r} is no module of this {type(model).__name__}. {did_you_mean(name, modules)}"
                )
            self._record(modules[name], self.outputs, index)
            if attends:
                query, key = _queries_and_keys(modules[name], name, who)
                self._record(query, self._queries, index)
                self._record(key, self._keys, index)

    @property
    def attention(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Queries and keys of each module."""
        return list(zip(self._queries, self._keys, strict=True))

    def release(self) -> None:
        """Remove the hooks."""
        for hook in self._hooks:
            hook.remove()

    def _record(self, module: nn.Module, place: list[Any], index: int) -> None:
        def keep(_: nn.Module, __: Any, output: Any) -> None:
            place[index] = output[0] if isinstance(output, tuple) else output

        self._hooks.append(module.register_forward_hook(keep))


def _queries_and_keys(layer: nn.Module, name: str, who: str) -> tuple[nn.Module, nn.Module]:
    """The Linear layers of a Transformer layer's queries and keys."""
    modules = dict(layer.named_modules())
    for query, key, *_ in ATTENTION:
        if query in modules and key in modules:
            return modules[query], modules[key]
    raise ModifierError(
        f"{who}: where {name} has its queries and keys is not known: set attention_gain to 0 for this architecture."
    )


def _attention_log_shares(
    queries: torch.Tensor, keys: torch.Tensor, heads: int, mask: torch.Tensor | None
) -> torch.Tensor:
    import torch

    split = [each.float().unflatten(-1, (heads, -1)).transpose(1, 2) for each in (queries, keys)]
    products = split[0] @ split[1].transpose(-1, -2) / split[0].shape[-1] ** 0.5
    if mask is not None:
        products = products.masked_fill(mask[:, None, None, :] == 0, float("-inf"))
    return torch.log_softmax(products, dim=-1)
