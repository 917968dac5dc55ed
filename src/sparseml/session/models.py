"""Loading students, teachers and finished models from folders, stubs and Hub ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

from resparse.console import say
from resparse.errors import UserError
from sparseml.modifiers import MODIFIERS, Clock, Run, build
from sparseml.modifiers.quantization import QuantizationModifier
from sparseml.recipe import Plan
from sparseml.session import checkpoint
from sparseml.session.checkpoint import Saved
from sparseml.session.session import part as part_of
from sparseml.session.session import prefix

if TYPE_CHECKING:
    from sparsezoo.hub import Part

# Modules that a checkpoint of another task rightly lacks: they are made new and trained.
_HEADS = ("classifier", "pre_classifier", "score", "head", "pooler", "dense", "out_proj")


class ModelError(UserError):
    """A model or tokenizer that cannot be loaded."""


@dataclass
class Source:
    """Where a model comes from, resolved.

    Attributes:
        called: what the user called it.
        folder: where its files are on this machine.
    """

    called: str
    folder: Path


def resolve(
    called: str,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | None = None,
    weights: bool = True,
) -> Source:
    """From what the user typed to a Source; stubs and Hub ids are fetched, when they are not here yet.

    Args:
        called: a folder, a stub or a Hub id.
        revision, token, cache_dir: for the Hub.
        weights: whether they are wanted too; configuration and tokenizer alone are a small download.

    Raises:
        ZooError, ModelError: there is no such thing, or it cannot be had now; says which.
    """
    from sparsezoo import is_stub, local_path
    from sparsezoo.hub_repo import Access

    folder = Path(called).expanduser()
    if not is_stub(called):
        if folder.is_dir():
            return Source(called, folder)
        if folder.is_file() or called.startswith((".", "/", "~")) or called.count("/") > 1:
            what = "is a file, not a model's folder" if folder.is_file() else "does not exist"
            raise ModelError(
                f"The model {called!r} {what}. Give a folder with config.json and model.safetensors, "
                "a zoo: stub (`sparsezoo search`), or a Hugging Face Hub id."
            )
    part: Part = "training" if weights else "settings"
    return Source(called, local_path(called, revision, Access(token, cache_dir), part))


@dataclass
class Loaded:
    """A model with what is to be said about it.

    Attributes:
        model: in training or evaluation mode as Transformers gives it.
        new: names of parameters that the checkpoint did not have and that were made new.
        notes: lines for the user.
    """

    model: Any
    new: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def load_config(source: Source, **overrides: Any) -> Any:
    """A model's configuration.

    Raises:
        ModelError: there is none, or it is not readable.
    """
    with _clear_errors(source, "configuration"):
        return AutoConfig.from_pretrained(source.folder, **overrides)


def load_tokenizer(source: Source, use_fast: bool = True) -> Any:
    """A model's tokenizer.

    Raises:
        ModelError: there is none, or it is not readable.
    """
    with _clear_errors(source, "tokenizer"):
        return AutoTokenizer.from_pretrained(source.folder, use_fast=use_fast)


def load_classifier(source: Source, config: Any = None) -> Loaded:
    """A sequence classifier; a missing head is made new, a missing encoder is an error.

    Raises:
        ModelError: nothing there, weights cut short, or weights of another architecture.
    """
    for path in sorted(source.folder.glob("*.safetensors")):
        problem = checkpoint.damage(path)
        if problem:
            raise ModelError(
                f"{path} is damaged ({problem}): it was cut short or overwritten. Use another copy."
            )
    with _clear_errors(source, "model"):
        model, report = AutoModelForSequenceClassification.from_pretrained(
            source.folder,
            config=config,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    new = sorted(report["missing_keys"]) + sorted(entry[0] for entry in report["mismatched_keys"])
    encoder = [name for name in new if not set(name.split(".")) & set(_HEADS) or ".layer." in name]
    if encoder:
        raise ModelError(
            f"{source.called} lacks {len(encoder)} weights of a {type(model).__name__}, such as {encoder[0]}: "
            "it was cut short, or its config.json belongs to another model."
        )
    notes = (
        [f"new, to be trained: {', '.join(dict.fromkeys(name.rpartition('.')[0] for name in new))}"]
        if new
        else []
    )
    return Loaded(model.float(), new, notes)


def restore_quantization(model: Any, folder: Path | None) -> None:
    """Re-create, from a checkpoint's own recipe, the quantization that its weights were trained with.

    Args:
        model: with the folder's weights loaded.
        folder: a checkpoint's folder; None, or one without a recipe, leaves the model as it is.

    Raises:
        CheckpointError, ModifierError: the recipe's state is damaged or does not fit.
    """
    made = checkpoint.saved(folder) if folder is not None else None
    if made is not None:
        quantize_as_saved(model, made)


def starting_point(model: Any, folder: Path | None, plan: Plan | None) -> Saved | None:
    """What made the model that a training starts from, with its quantization in place again.

    Args:
        model: with the folder's weights loaded.
        folder: the model's; None, or one without a recipe, has no story.
        plan: the recipe to train with. Where it quantizes too, the model is left in floating point, and the
            ranges of the old quantization are forgotten: the new one learns its own.

    Raises:
        CheckpointError, ModifierError: the folder's state is damaged or does not fit.
    """
    made = checkpoint.saved(folder) if folder is not None else None
    if made is None:
        return None
    if plan is None or not _quantizations(plan):
        quantize_as_saved(model, made)
        return made
    forgotten = tuple(prefix(place, QuantizationModifier) for place, _ in _quantizations(made.plan))
    kept = {key: value for key, value in made.state.items() if not key.startswith(forgotten)}
    if len(kept) < len(made.state):
        say(
            f"{folder} was quantized by its own recipe, and this recipe quantizes too: starting from the weights in "
            "floating point; ranges are learned anew."
        )
    return Saved(made.plan, kept)


def quantize_as_saved(model: Any, made: Saved) -> None:
    """Quantize a model with the ranges of its training, held; nothing, where that had not come to quantize yet.

    Raises:
        RecipeError, ModifierError: the state does not fit the recipe or the model.
    """
    from sparseml.quantization.structure import enable, set_observing

    for place, modifier in _quantizations(made.plan):
        own = part_of(made.state, prefix(place, QuantizationModifier))
        # Untouched ranges are NaN: the training ended before its quantization began.
        if any(not value.isnan().any() for key, value in own.items() if key.endswith(".minimum")):
            run = Run(model, Clock(1, 0))
            modifier.structure(run)
            modifier.load_state(own, run)
            enable(model)
            set_observing(model, False)
            return


def load_trained(folder: str | Path) -> Any:
    """A finished classifier as its training left it, quantized where its recipe quantized it; evaluation mode."""
    source = resolve(str(folder))
    model = load_classifier(source).model
    restore_quantization(model, source.folder)
    return model.eval()


def _quantizations(plan: Plan) -> list[tuple[int, QuantizationModifier]]:
    """The recipe's quantization modifiers with their places; whatever else it has need not be known here."""
    found = []
    for place, spec in enumerate(plan.modifiers):
        if MODIFIERS.get(spec.tag) is QuantizationModifier:
            (modifier,) = build(replace(plan, modifiers=(spec,)))
            assert isinstance(modifier, QuantizationModifier)
            found.append((place, modifier))
    return found


@contextmanager
def _clear_errors(source: Source, what: str) -> Iterator[None]:
    """Transformers' many errors as one that names the model; its chatter kept from the screen."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        raise ModelError(
            f"Could not load the {what} of {source.called!r}: {reason}{_hint(source)}"
        ) from error
    finally:
        logging.set_verbosity(before)


def _hint(source: Source) -> str:
    names: Iterable[str] = sorted(path.name for path in source.folder.iterdir())
    return f" (the folder holds {', '.join(list(names)[:8]) or 'nothing'})"
