"""`Engine`: an ONNX model loaded into one of the backends."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepsparse import backends
from deepsparse.backends import Resources, TensorSpec
from deepsparse.deployment import onnx_file
from deepsparse.errors import EngineError, InputError
from deepsparse.hardware import usable_cores
from resparse.arrays import Array
from resparse.console import say_once
from resparse.errors import did_you_mean

OVERSUBSCRIBE = "DEEPSPARSE_OVERSUBSCRIBE"
"""The variable that allows more threads than cores, when it is 1."""

_MASK = "attention_mask"
_CALLED = {"input_ids": "token id", "token_type_ids": "token type", "position_ids": "position"}
_SINGLE = ("sync", "single_stream", "default")
_MULTI = ("async", "multi_stream", "elastic")


class Engine:
    """An ONNX model that is ready to run on arrays.

    Args:
        model: an ONNX file, a deployment folder, or a `zoo:` stub. The file is only read.
        batch_size: rows at a time; only stored, since any number of rows can be run.
        num_cores: threads that compute; by default all cores that this process may use, and never more.
        num_streams: runs at the same time, from as many threads of the caller.
        scheduler: "sync" (one run has all cores: the least latency), "async" or "elastic" (runs side by
            side: the most throughput).
        input_shapes: only stored, as `batch_size`.
        engine_type: "deepsparse" (the best that can run the model here), "native", "onnxruntime", "openvino", ...

    Attributes:
        inputs, outputs: what the model takes and gives.
        input_names, output_names: of these, in the model's order.
        engine_type, version: of the engine that runs the model.
        length_step: sequence lengths are padded to multiples of this; 1 where any length is as fast.
        pads: whether padding is computed; else rows of any lengths may share a run.

    Raises:
        ModelError: no such model, or one that cannot be read.
        EngineError: no such engine, or a setting that makes no sense.
    """

    def __init__(
        self,
        model: str | Path,
        batch_size: int | None = None,
        num_cores: int | None = None,
        num_streams: int | None = None,
        scheduler: str | None = None,
        input_shapes: Sequence[Sequence[int]] | None = None,
        *,
        engine_type: str = backends.AUTOMATIC,
    ) -> None:
        self.model_path = onnx_file(model)
        self.batch_size = batch_size
        self.input_shapes = input_shapes
        resources = _resources(num_cores, num_streams, scheduler)
        self._backend = backends.load(engine_type, self.model_path, resources)
        self.num_cores, self.num_streams = resources.cores, resources.streams
        self.engine_type, self.version = self._backend.name, self._backend.version
        self.inputs: tuple[TensorSpec, ...] = self._backend.inputs
        self.outputs: tuple[TensorSpec, ...] = self._backend.outputs
        self.input_names = [spec.name for spec in self.inputs]
        self.output_names = [spec.name for spec in self.outputs]
        self.length_step = self._backend.length_step
        # Backends of other packages may lack the attribute.
        self.pads: bool = getattr(self._backend, "pads", True)

    def run(self, inputs: Sequence[Array] | Mapping[str, Array]) -> list[Array]:
        """Compute the outputs; may be called from several threads at once.

        Args:
            inputs: an array for each input, in the model's order or by name.

        Raises:
            InputError: arrays are missing or too many, of a type or shape that the model does not take, or hold tokens
                that it does not have.
        """
        feeds = self._feeds(inputs)
        for spec in self.inputs:
            _check(spec, feeds[spec.name])
        _check_tokens(feeds)
        return self._backend.run(feeds)

    __call__ = run

    def mapped_run(self, inputs: Sequence[Array] | Mapping[str, Array]) -> dict[str, Array]:
        """Compute the outputs, by name."""
        return dict(zip(self.output_names, self.run(inputs), strict=True))

    def _feeds(self, inputs: Sequence[Array] | Mapping[str, Array]) -> dict[str, Array]:
        if isinstance(inputs, Mapping):
            given = dict(inputs)
        elif len(inputs) == len(self.inputs):
            given = dict(zip(self.input_names, inputs, strict=True))
        else:
            raise InputError(
                f"The model takes {len(self.inputs)} arrays ({', '.join(self.input_names)}), got {len(inputs)}."
            )
        if missing := [name for name in self.input_names if name not in given]:
            raise InputError(f"No array for the model's input {', '.join(map(repr, missing))}.")
        if unknown := [name for name in given if name not in self.input_names]:
            hint = did_you_mean(unknown[0], self.input_names)
            raise InputError(f"The model has no input {unknown[0]!r}. {hint}")
        return {spec.name: _as_array(spec, given[spec.name]) for spec in self.inputs}

    def __repr__(self) -> str:
        return (
            f"Engine({str(self.model_path)!r}, engine_type={self.engine_type!r}, num_cores={self.num_cores}, "
            f"num_streams={self.num_streams})"
        )


def compile_model(model: str | Path, batch_size: int | None = None, **settings: Any) -> Engine:
    """Make a model ready to run: the same as `Engine(...)`, under DeepSparse's name for it."""
    return Engine(model, batch_size, **settings)


def _resources(cores: int | None, streams: int | None, scheduler: str | None) -> Resources:
    for name, value in (("num_cores", cores), ("num_streams", streams)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise EngineError(f"{name}={value!r}: a whole number from 1 on is wanted.")
    cores = _limited(cores) if cores else usable_cores()
    if scheduler is not None and str(scheduler) not in (*_SINGLE, *_MULTI):
        raise EngineError(
            f"There is no scheduler {scheduler!r}. {did_you_mean(str(scheduler), (*_SINGLE, *_MULTI))}"
        )
    if streams is None:
        streams = cores if scheduler in _MULTI else 1
    return Resources(cores, streams)


def _limited(cores: int) -> int:
    """As many threads as there are cores: more wait for one another, in ONNX Runtime a hundred times as long."""
    usable = usable_cores()
    if cores <= usable or os.environ.get(OVERSUBSCRIBE) == "1":
        return cores
    say_once(f"num_cores={cores}: this process may use {usable}, which it does ({OVERSUBSCRIBE}=1 insists).")
    return usable


def _check(spec: TensorSpec, array: Array) -> None:
    fits = len(spec.shape) == array.ndim and all(
        want is None or want == size for want, size in zip(spec.shape, array.shape, strict=True)
    )
    if spec.shape and not fits:
        wanted = " × ".join("any" if size is None else str(size) for size in spec.shape)
        raise InputError(
            f"The input {spec.name!r} has the shape {' × '.join(map(str, array.shape))}; wanted: {wanted}."
        )


def _as_array(spec: TensorSpec, value: Any) -> Array:
    """A value as an array of the input's type; an InputError where it is none, or would change."""
    try:
        array = np.asarray(value)
        kept = array.dtype.kind in "biuf" and (array.dtype.kind != "f" or spec.dtype.kind == "f")
        if not kept and array.dtype.kind == "f":
            kept = bool((array == np.trunc(array)).all())
    except ValueError:  # rows of different lengths
        raise InputError(f"The input {spec.name!r} is no array: its rows differ in length.") from None
    if not kept:
        raise InputError(f"The input {spec.name!r} holds {array.dtype} values; wanted is {spec.dtype}.")
    return np.ascontiguousarray(array, dtype=spec.dtype)


def _check_tokens(feeds: Mapping[str, Array]) -> None:
    """Refuse tokens that no model has, which some engines answer all the same; and arrays that are not of one text."""
    tokens = {name: array for name, array in feeds.items() if name.endswith("_ids") or name == _MASK}
    shapes = {array.shape for array in tokens.values()}
    if len(shapes) > 1:
        listed = ", ".join(f"{name} {' × '.join(map(str, array.shape))}" for name, array in tokens.items())
        raise InputError(f"The inputs differ in shape: {listed}.")
    if any(0 in shape[1:] for shape in shapes):
        raise InputError("The inputs have no columns: a text has one token at least.")
    attended = tokens[_MASK] != 0 if _MASK in tokens else slice(None)
    for name, array in tokens.items():
        if name != _MASK and (negative := array[attended][array[attended] < 0]).size:
            called = _CALLED.get(name, f"number in {name}")
            raise InputError(f"The {called} {negative[0]} is out of range: they begin at 0.")
