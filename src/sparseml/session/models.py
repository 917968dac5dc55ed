"""Loading students, teachers and finished models from folders, stubs and Hub ids."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

from resparse.console import say
from resparse.errors import UserError
from resparse.text_columns import text_columns_of
from sparseml.modifiers import MODIFIERS, Clock, Modifier, Run, build
from sparseml.recipe import Plan
from sparseml.session import checkpoint
from sparseml.session.checkpoint import Saved
from sparseml.session.pooling import restore_pooling
from sparseml.session.promised import refuse_counts, refuse_promises
from sparseml.session.session import state_prefix, without_prefix
from sparseml.session.sources import ModelError, listed, local_folder, no_tokenizer
from sparseml.session.thinned import load_thinned

if TYPE_CHECKING:
    from sparsezoo.hub import Part

# Modules that a checkpoint of another task may lack: they are newly initialized and trained.
_HEADS = ("classifier", "pre_classifier", "score", "head", "pooler", "dense", "out_proj", "qa_outputs")

_LONGEST_REASON = 300


@dataclass
class Source:
    """A model's name, as the user gave it, and the local folder of its files."""

    called: str
    folder: Path


def resolve(
    called: str,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | None = None,
    weights: bool = True,
) -> Source:
    """Resolve a name to a local folder; stubs and Hub ids are downloaded when they are not in the cache.

    Args:
        called: a folder, a stub or a Hub id.
        revision, token, cache_dir: for the Hub.
        weights: whether to download them too; configuration and tokenizer alone are small.

    Raises:
        ZooError, ModelError: there is no such model, or it cannot be downloaded now.
    """
    from sparsezoo import is_stub, local_path
    from sparsezoo.hub_repo import Access

    if not is_stub(called) and (folder := local_folder(called)) is not None:
        return Source(called, folder)
    part: Part = "training" if weights else "settings"
    return Source(called, local_path(called, revision, Access(token, cache_dir), part))


@dataclass
class Loaded:
    """A loaded model.

    Attributes:
        model: in training or evaluation mode as Transformers gives it.
        new: names of parameters that the checkpoint did not have and that were newly initialized.
        notes: lines for the user.
    """

    model: Any
    new: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def load_config(source: Source, **overrides: Any) -> Any:
    """A model's configuration; a ModelError where there is none that can be read, or that is too large."""
    refuse_counts(source.called, source.folder)
    with _clear_errors(source, "configuration"):
        config = AutoConfig.from_pretrained(source.folder, trust_remote_code=False, **overrides)
    for name, value in overrides.items():
        # Transformers takes up only what its class knows.
        if value is not None and not hasattr(config, name):
            setattr(config, name, value)
    return config


def text_columns(config: Any) -> tuple[str, ...]:
    """The columns whose texts a model was trained on, by its configuration; () where it does not say.

    Raises:
        ModelError: what it says makes no sense.
    """
    try:
        return text_columns_of(config.to_dict())
    except ValueError as error:
        raise ModelError(f"The model's config.json: {error}.") from error


def load_tokenizer(source: Source, use_fast: bool = True) -> Any:
    """A model's tokenizer; a ModelError where there is none that can be read."""
    with _clear_errors(source, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(source.folder, use_fast=use_fast, trust_remote_code=False)
        vocabulary = set(tokenizer.get_vocab())
    # Transformers creates one without a vocabulary where there is none, to which every word is unknown.
    if vocabulary <= set(tokenizer.all_special_tokens):
        raise no_tokenizer(source.called, source.folder)
    return tokenizer


def load_model(source: Source, model_class: Any, config: Any = None) -> Loaded:
    """A model for a task; a missing head is newly initialized, a missing encoder is an error.

    Args:
        model_class: one of Transformers' Auto classes, such as AutoModelForSequenceClassification.
        config: in place of the source's own.

    Raises:
        ModelError: nothing there, weights cut short or of another architecture, or a configuration that promises far
            more of them.
    """
    refuse_promises(source.called, source.folder)
    for path in sorted(source.folder.glob("*.safetensors")):
        if problem := checkpoint.damage(path):
            raise ModelError(
                f"{path} is damaged ({problem}): it was cut short or overwritten. Use another copy."
            )
    with _clear_errors(source, "model"):
        model, report = model_class.from_pretrained(
            source.folder,
            config=config,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            trust_remote_code=False,
            weights_only=True,  # of pytorch_model.bin: tensors, and none of what a pickle can call
        )
    mismatched = {entry[0] for entry in report["mismatched_keys"]}
    if mismatched:
        mismatched -= load_thinned(model, source.folder, mismatched)
    new = sorted(report["missing_keys"]) + sorted(mismatched)
    encoder = [name for name in new if not set(name.split(".")) & set(_HEADS) or ".layer." in name]
    if encoder:
        raise ModelError(
            f"{source.called} lacks {len(encoder)} weights of a {type(model).__name__}, such as {encoder[0]}: "
            "it was cut short, or its config.json belongs to another model."
        )
    heads = dict.fromkeys(name.rpartition(".")[0] for name in new)
    restore_pooling(model)
    notes = [f"new, to be trained: {', '.join(heads)}"] if heads else []
    return Loaded(model.float(), new, notes)


def restore(model: Any, folder: Path) -> None:
    """Put the modules of a checkpoint's recipe into a model with its weights, such as quantizers.

    Raises:
        CheckpointError, RecipeError, ModifierError: the recipe's state is damaged or does not fit.
    """
    made = checkpoint.saved(folder)
    if made is not None:
        restore_saved(model, made)


def restore_saved(model: Any, made: Saved) -> None:
    """As `restore`, of a checkpoint whose recipe and state have been read."""
    _restore(model, made, _restoring(made.plan))


def _restore(model: Any, made: Saved, modifiers: list[tuple[int, Modifier]]) -> None:
    """Restore those of the recipe's modifiers that no later one has superseded."""
    for position, (place, modifier) in enumerate(modifiers):
        if any(later.supersedes(modifier) is not None for _, later in modifiers[position + 1 :]):
            continue
        state = without_prefix(made.state, state_prefix(place, type(modifier)))
        modifier.restore(Run(model, Clock(1, 0)), state)


def starting_point(model: Any, folder: Path, plan: Plan | None) -> Saved | None:
    """The recipe and state of the model that a training starts from; its modules are put into the model.

    Args:
        model: with the weights of its `folder` loaded.
        plan: the recipe to train with. State that it supersedes is dropped: where it quantizes too, the model
            stays in floating point, and the ranges of the earlier quantization are dropped.

    Returns:
        The folder's recipe and the state that is kept; None for a folder without a recipe.

    Raises:
        CheckpointError, RecipeError, ModifierError: the folder's state is damaged or does not fit.
    """
    made = checkpoint.saved(folder)
    if made is None:
        return None
    state = dict(made.state)
    later = _restoring(plan) if plan is not None else []
    standing = []
    for place, modifier in _restoring(made.plan):
        reasons = [reason for _, other in later if (reason := other.supersedes(modifier)) is not None]
        own = [key for key in state if key.startswith(state_prefix(place, type(modifier)))]
        if not reasons:
            standing.append((place, modifier))
        elif own:
            say(f"{folder} {reasons[0]}")
            for key in own:
                del state[key]
    kept = Saved(made.plan, state)
    _restore(model, kept, standing)
    return kept


def load_trained(folder: str | Path, model_class: Any = AutoModelForSequenceClassification) -> Any:
    """A trained model, quantized where its recipe quantized it, in evaluation mode."""
    source = resolve(str(folder))
    model = load_model(source, model_class).model
    restore(model, source.folder)
    return model.eval()


def _restoring(plan: Plan) -> list[tuple[int, Modifier]]:
    """The recipe's modifiers with `restores_modules`, with their indices; tags unknown here are skipped."""
    return [
        (place, build(replace(plan, modifiers=(spec,)))[0])
        for place, spec in enumerate(plan.modifiers)
        if spec.tag in MODIFIERS and MODIFIERS[spec.tag].restores_modules
    ]


@contextmanager
def _clear_errors(source: Source, what: str) -> Iterator[None]:
    """Turn Transformers' errors into one that names the model, and silence its logging."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except (KeyboardInterrupt, SystemExit, UserError):
        raise
    # A damaged file raises whatever the code that meets it raises; panics of tokenizers are no Exception.
    except BaseException as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0][:_LONGEST_REASON] if lines else type(error).__name__
        if "trust_remote_code" in str(error):
            reason = "it needs code that comes with it, and such code is never run here"
        elif isinstance(error, UnpicklingError) or "weights_only" in str(error):
            reason = "its pytorch_model.bin holds more than tensors, and such a pickle is never loaded"
        raise ModelError(
            f"Could not load the {what} of {source.called!r}: {reason} (the folder holds {listed(source.folder)})"
        ) from error
    finally:
        logging.set_verbosity(before)
