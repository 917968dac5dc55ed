"""The pipeline against NumPy: order, padding, pairs, scores; and that it leaves the model alone."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deepsparse import EngineError, InputError, ModelError, Pipeline
from deepsparse.tasks.label_set import softmax
from support.deployment import NAMES, WORDS, deployment, logits, weights

TASK = "text_classification"


def mixed(count: int, seed: int = 0) -> list[str]:
    """Texts of 1 to 40 words."""
    source = random.Random(seed)
    return [" ".join(source.choices(WORDS[:11], k=source.randint(1, 40))) for _ in range(count)]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("batch_size", [None, 1, 7])
def test_mixed_lengths_come_back_in_order(deployed: Path, engine: str, batch_size: int | None):
    pytest.importorskip(engine)
    classify = Pipeline.create(TASK, deployed, engine_type=engine, batch_size=batch_size)
    texts = mixed(100)
    expected = np.stack([logits(weights(), text) for text in texts])
    computed = classify.logits(texts)
    # OpenVINO computes in bfloat16 where the processor can.
    np.testing.assert_allclose(computed, expected, atol=0.05 if engine == "openvino" else 1e-4)
    found = classify(texts)
    assert found.labels == [NAMES[index] for index in computed.argmax(axis=1)]
    np.testing.assert_allclose(found.scores, softmax(computed).max(axis=1), atol=1e-6)


def test_pairs_differ_from_singles(deployed: Path):
    classify = Pipeline.create(TASK, model_path=deployed)
    found = classify.logits([["happy film", "sad film"], ["happy film"], ("sad", "happy")])
    expected = [
        logits(weights(), "happy film", "sad film"),
        logits(weights(), "happy film"),
        logits(weights(), "sad", "happy"),
    ]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("length", [8, [4, 8], 64, None])
def test_long_texts_are_cut_longest_first(deployed: Path, length: int | list[int] | None):
    classify = Pipeline.create(TASK, deployed, sequence_length=length)
    most = max(length) if isinstance(length, list) else length or 64
    pair = ["happy film " * 40, "sad"]
    expected = logits(weights(), *pair, most=most)
    np.testing.assert_allclose(classify.logits([pair])[0], expected, atol=1e-5)


def test_a_model_of_one_shape_is_padded_to_it(tmp_path: Path):
    fixed = deployment(tmp_path / "fixed", batch=4, length=16)
    classify = Pipeline.create(TASK, fixed, sequence_length=16)
    texts = mixed(10)
    expected = np.stack([logits(weights(), text, most=16) for text in texts])
    np.testing.assert_allclose(classify.logits(texts), expected, atol=1e-5)
    with pytest.raises(ModelError, match="sequence_length=16"):
        Pipeline.create(TASK, fixed)


@pytest.mark.parametrize("task", ["text_classification", "Text-Classification", "glue", "sentiment analysis"])
def test_task_names(deployed: Path, task: str):
    found = Pipeline.create(task=task, model=str(deployed / "model.onnx"))("a happy film")
    assert found.labels == ["joy"]
    assert found.model_dump() == found.dict() == {"labels": ["joy"], "scores": found.scores}


def test_top_k(deployed: Path):
    two = Pipeline.create(TASK, deployed, top_k=2)(["happy", "sad"])
    every = Pipeline.create(TASK, deployed, return_all_scores=True)("happy")
    assert [len(row) for row in two.labels] == [2, 2]
    assert sorted(every.labels[0]) == sorted(NAMES)
    assert sum(every.scores[0]) == pytest.approx(1)
    assert every.scores[0] == sorted(every.scores[0], reverse=True)
    assert every.labels[0][:2] == two.labels[0]


def test_the_caller_keeps_subnormal_numbers(deployed: Path):
    """ONNX Runtime can be told to flush them, and then does so in the caller's thread, for all its arithmetic."""
    Pipeline.create(TASK, deployed, num_cores=1)("happy")
    assert np.float32(1e-40) * np.float32(0.5) > 0


def test_no_rows(deployed: Path):
    assert Pipeline.create(TASK, deployed)([]).labels == []


def test_stream_is_lazy_ordered_and_small(deployed: Path):
    classify = Pipeline.create(TASK, deployed)
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            yield ("happy film", "sad film")[taken % 2]
            taken += 1

    stream = classify.stream(endless(), progress=True)
    next(stream)
    tracemalloc.start()
    labels = [next(stream).label for _ in range(10_000)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert labels == ["sadness", "joy"] * 5000
    assert taken < 15_000
    assert peak < 8e6


def test_a_read_only_folder_is_enough_and_nothing_is_written(tmp_path: Path):
    folder = deployment(tmp_path / "deployment")
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}
    for path in [*folder.iterdir(), folder]:
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        assert Pipeline.create(TASK, folder)("so happy").labels == ["joy"]
    finally:
        folder.chmod(0o755)
    after = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}
    assert after == before


def test_a_folder_that_holds_the_deployment(tmp_path: Path):
    deployment(tmp_path / "model" / "deployment")
    assert Pipeline.create(TASK, tmp_path / "model")("sad").labels == ["sadness"]


@pytest.mark.usefixtures("zoo_home")
def test_zoo_stub(zoo_home: Path):
    name = "nlp/text_classification/tiny-tiny/pytorch/huggingface/mood/base-none"
    deployment(zoo_home / name / "deployment")
    assert Pipeline.create(TASK, f"zoo:{name}")("happy").labels == ["joy"]


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"sequence_lenght": 64}, "sequence_length"),
        ({"batch_size": 0}, "batch_size"),
        ({"top_k": 0}, "top_k"),
        ({"num_cores": -1}, "num_cores"),
        ({"sequence_length": 3}, "sequence_length"),
        ({"scheduler": "asink"}, "async"),
        ({"engine_type": "onnxrutime"}, "onnxruntime"),
    ],
)
def test_settings_that_make_no_sense(deployed: Path, settings: dict[str, object], part: str):
    with pytest.raises(EngineError, match=part):
        Pipeline.create(TASK, deployed, **settings)


def test_unknown_tasks_and_no_model(deployed: Path):
    with pytest.raises(EngineError, match="text_classification"):
        Pipeline.create("text_clasification", deployed)
    with pytest.raises(EngineError, match="model_path"):
        Pipeline.create(TASK)


@pytest.mark.parametrize(
    ("sequences", "part"),
    [
        ("", "empty"),
        (" \n\t ", "empty"),
        ("\x00\x07", "empty"),
        ([""], r"sequences\[0\] is empty"),
        (["", [" ", "\n"]], "Every text of sequences is empty"),
        (["fine", None], r"sequences\[1\] is null"),
        (["fine", 3], "a number"),
        ([["a", "b", "c"]], "list of 3"),
        ([["a", 2]], "a number"),
        ([[]], "list of 0"),
        ({"text": "a"}, "an object"),
        (b"bytes", "bytes"),
        ("half \ud800", "surrogate"),
    ],
)
def test_what_is_no_text(deployed: Path, sequences: object, part: str):
    with pytest.raises(InputError, match=part):
        Pipeline.create(TASK, deployed)(sequences)


def test_one_empty_text_among_others_is_answered_as_no_text(deployed: Path):
    found = Pipeline.create(TASK, deployed).logits(["happy", "", ["sad", ""], " "])
    expected = [logits(weights(), text) for text in ("happy", "", "sad", "")]
    np.testing.assert_allclose(found[[0, 1, 3]], np.stack(expected)[[0, 1, 3]], atol=1e-5)


def test_arrays_and_columns_are_lists(deployed: Path):
    pandas = pytest.importorskip("pandas")
    classify, texts = Pipeline.create(TASK, deployed), ["happy", "sad film"]
    expected = classify.logits(texts)
    for given in (
        np.array(texts),
        np.array(texts, dtype=object),
        pandas.Series(texts, index=[7, 3]),
        tuple(texts),
    ):
        np.testing.assert_array_equal(classify.logits(given), expected)
    pairs = np.array([["happy", "film"], ["sad", "film"]])
    np.testing.assert_array_equal(classify.logits(pairs), classify.logits(pairs.tolist()))
    with pytest.raises(InputError, match=r"sequences\[1\] is a number"):
        classify(pandas.Series(["happy", float("nan")]))


def test_a_megabyte_and_control_characters_are_answered(deployed: Path):
    classify = Pipeline.create(TASK, deployed)
    assert classify("happy " * 170_000).labels == ["joy"]
    np.testing.assert_allclose(classify.logits("a\x00 happy\x1b film"), classify.logits("a happy film"))


def test_it_brings_no_training_libraries(deployed: Path):
    code = (
        "import sys\n"
        "from deepsparse import Pipeline\n"
        "early = {'onnxruntime', 'tokenizers', 'openvino', 'pydantic', 'fastapi'} & set(sys.modules)\n"
        "assert not early, early\n"
        "Pipeline.create('glue', sys.argv[1])('happy')\n"
        "import deepsparse.server.cli, deepsparse.server.app, deepsparse.predict, deepsparse.benchmark\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pandas', 'sparseml', 'onnx'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(deployed)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
