"""SparseML's `SparseAuto...`: models, configurations and tokenizers from folders, `zoo:` stubs and Hub ids."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from transformers import AutoModelForSequenceClassification

from sparseml.distillation.teacher import DISABLED, SELF
from sparseml.session.models import Source, load_config, load_model, load_tokenizer, resolve, restore

# Keywords of `from_pretrained` that say where a model is, and their current names.
_LOCATIONS: Final = {k: k for k in ("revision", "token", "cache_dir")} | {"use_auth_token": "token"}


class SparseAutoModel:
    """Loads classifiers."""

    @staticmethod
    def text_classification_from_pretrained(
        model_name_or_path: str | Path, model_type: str = "model", **kwargs: Any
    ) -> Any:
        """A classifier from a folder, a `zoo:` stub or a Hub id.

        The types "model" and "teacher" are restored as trained, quantized if they were; a "student" is in floating
        point, for a `Trainer` whose `model_state_path` restores it. Keywords are `config`, `revision`, `token`,
        `cache_dir`, and changes to the configuration, such as `num_labels`.

        Raises:
            ModelError, ZooError: there is none, or it cannot be loaded.
        """
        source, config = _source(model_name_or_path, kwargs)
        if config is None:
            config = load_config(source, **kwargs)
        model = load_model(source, AutoModelForSequenceClassification, config).model
        if model_type != "student":
            restore(model, source.folder)
        return model.eval() if model_type == "teacher" else model

    @staticmethod
    def text_classification_from_pretrained_distil(
        model_name_or_path: str | Path,
        teacher_name_or_path: str | Path | None,
        model_kwargs: Mapping[str, Any] | None = None,
        teacher_kwargs: Mapping[str, Any] | None = None,
    ) -> tuple[Any, Any]:
        """A student and its teacher; a teacher of None, "self" or "disable" is returned unchanged."""
        load = SparseAutoModel.text_classification_from_pretrained
        student = load(model_name_or_path, "student", **(model_kwargs or {}))
        if teacher_name_or_path in (None, SELF, DISABLED):
            return student, teacher_name_or_path
        assert teacher_name_or_path is not None
        return student, load(teacher_name_or_path, "teacher", **(teacher_kwargs or {}))


class SparseAutoConfig:
    """Loads configurations."""

    @staticmethod
    def from_pretrained(pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Any:
        """As `transformers.AutoConfig`; takes stubs, too."""
        source, _ = _source(pretrained_model_name_or_path, kwargs, weights=False)
        return load_config(source, **kwargs)


class SparseAutoTokenizer:
    """Loads tokenizers."""

    @staticmethod
    def from_pretrained(pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Any:
        """As `transformers.AutoTokenizer`; takes stubs, too."""
        use_fast = bool(kwargs.pop("use_fast", True))
        source, _ = _source(pretrained_model_name_or_path, kwargs, weights=False)
        return load_tokenizer(source, use_fast)


def _source(called: str | Path, kwargs: dict[str, Any], weights: bool = True) -> tuple[Source, Any]:
    """Pop the model's location and the configuration from the keywords, and resolve the location."""
    config = kwargs.pop("config", None)
    location = {new: kwargs.pop(old) for old, new in _LOCATIONS.items() if kwargs.get(old) is not None}
    for old in _LOCATIONS:
        kwargs.pop(old, None)
    return resolve(str(called), **location, weights=weights), config
