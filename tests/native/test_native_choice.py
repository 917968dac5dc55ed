"""Which engine runs a model when nobody says: the native one where it can, and a line that says why where not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from deepsparse import Engine, EngineError, ModelError, Pipeline, backends
from deepsparse.native import library
from resparse import console
from support.deployment import deployment

pytest.importorskip("onnxruntime")
needs_library = pytest.mark.skipif(library.file() is None, reason="the native engine is not built here")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that were printed."""
    lines: list[str] = []
    monkeypatch.setattr(backends, "say_once", lines.append)
    return lines


@pytest.fixture(autouse=True)
def loaded_anew() -> Iterator[None]:
    """Each test loads the library by itself, and leaves nothing loaded to the next."""
    library.load.cache_clear()
    yield
    library.load.cache_clear()


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A deployment that is no transformer."""
    return deployment(tmp_path / "toy")


@needs_library
def test_an_encoder_runs_natively_and_nothing_is_said(
    exported: Callable[[str], Path], said: list[str], capfd: pytest.CaptureFixture[str]
):
    assert Engine(exported("bert")).engine_type == "native"
    assert not said and capfd.readouterr() == ("", "")


@needs_library
def test_another_model_runs_elsewhere_and_one_line_says_why(toy: Path, said: list[str]):
    assert Engine(toy).engine_type == "onnxruntime"
    (line,) = said
    assert str(toy) in line and "onnxruntime does" in line and "activation" in line and "\n" not in line


@needs_library
def test_asked_for_by_name_it_is_an_error(toy: Path):
    with pytest.raises(ModelError, match=r"native engine cannot run this model: .*activation"):
        Engine(toy, engine_type="native")


@needs_library
def test_a_damaged_model_is_an_error_whichever_engine(toy: Path):
    (toy / "model.onnx").write_bytes((toy / "model.onnx").read_bytes()[:-30])
    for engine in ("native", "deepsparse"):
        with pytest.raises(ModelError, match="cut short"):
            Engine(toy, engine_type=engine)


@needs_library
def test_an_instruction_set_that_is_not_to_be_had_is_an_error(toy: Path, monkeypatch: pytest.MonkeyPatch):
    other = next(one for one in library.instruction_sets() if one not in library.isas())
    monkeypatch.setenv("DEEPSPARSE_ISA", other.name)
    with pytest.raises(EngineError, match="DEEPSPARSE_ISA"):
        Engine(toy)


def test_without_the_library(toy: Path, said: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(library, "file", lambda: None)
    assert "native" not in backends.installed()
    assert Engine(toy).engine_type == "onnxruntime"
    (line,) = said
    assert "C++ compiler" in line and "onnxruntime" in line
    with pytest.raises(EngineError, match=r"C\+\+ compiler"):
        Engine(toy, engine_type="native")


@needs_library
def test_a_processor_that_there_are_no_kernels_for(
    toy: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
):
    portable = library.isas()[-1:]
    assert portable[0].name == "portable"
    monkeypatch.setattr(library, "isas", lambda: portable)
    assert Engine(toy).engine_type == "onnxruntime"
    assert len(said) == 1 and "no kernels for this processor" in said[0]
    monkeypatch.setenv("DEEPSPARSE_ISA", "portable")
    assert Engine(toy).engine_type == "onnxruntime"  # since the toy is no encoder
    assert "native engine cannot run it" in said[1]


def test_a_library_that_does_not_load(
    toy: Path, said: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    broken = tmp_path / "_engine.abi3.so"
    broken.write_bytes(b"no library")
    monkeypatch.setattr(library, "file", lambda: broken)
    assert Engine(toy).engine_type == "onnxruntime"
    assert str(broken) in said[0]


def test_lines_are_said_once(toy: Path, monkeypatch: pytest.MonkeyPatch):
    lines: list[str] = []
    monkeypatch.setattr(console, "say", lines.append)
    for _ in range(3):
        Engine(toy)
    assert len(lines) == 1


@pytest.fixture
def folder(bert_deployment: Path) -> Path:
    """A deployment folder of a BERT."""
    return bert_deployment


TEXTS = ["happy", "the film was very sad", "furious " * 30, "a", "is anybody there ?", "sad ! " * 12]


@needs_library
@pytest.mark.parametrize(
    "settings", [{}, {"batch_size": 2}, {"num_streams": 2, "num_cores": 2}, {"scheduler": "sync"}]
)
def test_pipelines_answer_as_with_onnxruntime(folder: Path, settings: dict[str, object]):
    native = Pipeline.create("text_classification", folder, **settings)
    other = Pipeline.create("text_classification", folder, engine_type="onnxruntime")
    assert native.engine.engine_type == "native"
    np.testing.assert_allclose(native.logits(TEXTS * 3), other.logits(TEXTS * 3), atol=1e-3)
    assert native(TEXTS).labels == other(TEXTS).labels


@needs_library
def test_without_padding_rows_share_a_run_in_their_order(folder: Path, monkeypatch: pytest.MonkeyPatch):
    pipeline = Pipeline.create("text_classification", folder, num_streams=2)
    runs: list[int] = []
    honest = pipeline.engine._backend.run

    def counted(feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        runs.append(len(feeds["input_ids"]))
        return honest(feeds)

    monkeypatch.setattr(pipeline.engine._backend, "run", counted)
    pipeline(TEXTS * 50)
    assert runs == [256, 44]


@needs_library
def test_padding_on_the_left_changes_nothing(folder: Path):
    straight = Pipeline.create("text_classification", folder).logits(TEXTS)
    (folder / "tokenizer_config.json").write_text(json.dumps({"padding_side": "left"}))
    np.testing.assert_array_equal(Pipeline.create("text_classification", folder).logits(TEXTS), straight)
