"""The contestants of `choices.py`: how each is made, and what serves it."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from choices_trained import Place, exported, train
from process import DENSE_MODEL, timed
from sparseml.session.models import resolve

_BUILD = Path(__file__).parent / "opponents" / "choices_build.py"

SHOTS = 16
"""Rows a class that SetFit learns from: its own use is 8 to 16."""


@dataclass(frozen=True)
class Made:
    """A classifier that is ready to be served.

    Attributes:
        folder: all that serving reads.
        seconds: of the processor, for all trainings and conversions behind it.
        rows: it learnt from; all of them by default.
    """

    folder: Path
    seconds: float
    rows: int | None = None


@dataclass(frozen=True)
class Choice:
    """One contestant.

    Attributes:
        title: in tables.
        kind: of opponents/choices_worker.py.
        make: gives what is served, made now or earlier; its Python is that of `environment`.
        environment: the package whose Python serves it; ours by default.
    """

    title: str
    kind: str
    make: Callable[[Place, str], Made]
    environment: str | None = None

    def python(self, pythons: Mapping[str, Path | None]) -> str | None:
        """The Python that serves it; None where that environment was not named."""
        if self.environment is None:
            return sys.executable
        found = pythons[self.environment]
        return None if found is None else str(found)


def tfidf(place: Place, python: str) -> Made:
    """TF-IDF and logistic regression, its strength chosen by validation rows."""
    import joblib

    from baseline_tfidf import Classifier, chosen

    folder = _emptied(place.folder / "made" / "tfidf")
    started = time.process_time()
    named = replace(place.dataset, label="label")
    strength, _ = chosen(named, place.rows["train"], place.rows["validation"])
    joblib.dump(Classifier(named, place.rows["train"], strength), folder / "model.joblib")
    return Made(folder, time.process_time() - started)


def built(kind: str, start: Callable[[Place], Made], place: Place, python: str) -> Made:
    """Made by opponents/choices_build.py, from what `start` gives."""
    begun = start(place)
    folder = place.folder / "made" / kind
    out = _emptied(folder / "model")
    out.rmdir()
    words = [kind, str(begun.folder), str(place.file("train")), str(place.file("validation")), str(out)]
    words += ["--columns", *place.dataset.columns, "--seed", str(place.seed), "--shots", str(SHOTS)]
    ours = python == sys.executable
    cost = timed([python, str(_BUILD), *words], folder / "log.txt", {} if ours else {"PYTHONPATH": ""})
    return Made(out, begun.seconds + cost.cpu_seconds)


def setfit(place: Place, python: str) -> Made:
    """SetFit on 16 rows a class."""
    made = built("setfit", encoder, place, python)
    rows = place.rows["train"]
    classes = [row["label"] for row in rows]
    return replace(made, rows=sum(min(classes.count(name), SHOTS) for name in set(classes)))


def encoder(place: Place) -> Made:
    """The sentence encoder that all begin at."""
    return Made(resolve(DENSE_MODEL).folder, 0.0)


def dense(place: Place) -> Made:
    """The trained dense classifier."""
    seconds = train(place, "dense")
    return Made(place.model("dense"), seconds)


def deployed(name: str, place: Place, python: str = "", runtime: str | None = None) -> Made:
    """A training of ours, exported."""
    seconds = train(place, name)
    started = time.process_time()
    folder = exported(place, name, runtime)
    return Made(folder, seconds + time.process_time() - started)


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


CHOICES = {
    "tfidf": Choice("TF-IDF + logistic regression", "tfidf", tfidf),
    "fasttext": Choice("fastText", "fasttext", partial(built, "fasttext", encoder), "fasttext"),
    "model2vec": Choice(
        "Model2Vec, of MiniLM", "model2vec", partial(built, "model2vec", encoder), "model2vec"
    ),
    "setfit": Choice("SetFit, 16 rows a class", "setfit", setfit, "setfit"),
    "pytorch": Choice("MiniLM, PyTorch", "pytorch", lambda place, python: dense(place)),
    "ort-float": Choice("MiniLM, ONNX Runtime", "onnxruntime", partial(deployed, "dense")),
    "ort-dynamic": Choice(
        "MiniLM, ONNX Runtime, int8 dynamic",
        "onnxruntime",
        partial(built, "onnxruntime", partial(deployed, "dense")),
    ),
    "ort-static": Choice("MiniLM, ONNX Runtime, int8 static", "onnxruntime", partial(deployed, "dense-int8")),
    "openvino": Choice(
        "MiniLM, OpenVINO, int8 by NNCF",
        "openvino",
        partial(built, "openvino", partial(deployed, "dense")),
        "openvino",
    ),
    "openvino-80": Choice("OpenVINO, our 80 % zeros", "openvino", partial(deployed, "pruned80"), "openvino"),
    "ctranslate2": Choice(
        "MiniLM, CTranslate2, int8", "ctranslate2", partial(built, "ctranslate2", dense), "ctranslate2"
    ),
    "deepsparse": Choice(
        "DeepSparse 1.8, our 80 % zeros",
        "deepsparse",
        partial(deployed, "pruned80", runtime="deepsparse"),
        "deepsparse",
    ),
    "ours-dense": Choice("ours, dense int8", "ours", partial(deployed, "dense-int8")),
    "ours-80": Choice("ours, 80 % zeros", "ours", partial(deployed, "pruned80")),
    "ours-90": Choice("ours, 90 % zeros", "ours", partial(deployed, "pruned90")),
}

ENVIRONMENTS = {
    "fasttext": "fasttext-numpy2-wheel",
    "model2vec": "model2vec[distill,train,inference,quantization] 0.10",
    "setfit": "setfit 1.2",
    "openvino": "openvino, nncf and tokenizers",
    "ctranslate2": "ctranslate2, torch and transformers",
    "deepsparse": "deepsparse[transformers] 1.8.0",
}
"""The environments that the command line names, and what each has."""
