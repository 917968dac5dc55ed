"""Models from elsewhere bring data only: no code, no pickles that do something, no weights outside their folder."""

from __future__ import annotations

import ast
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from transformers import AutoModelForSequenceClassification

import sparseml
from resparse.errors import UserError
from sparseml.session.models import Source, load_config, load_model, load_tokenizer
from sparseml.session.sources import ModelError
from support import tiny
from support.deployment import deployment

CODE = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.bert(tmp_path / "model", names=["bad", "good"])


def changed(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def load(folder: Path) -> Any:
    return load_model(Source("theirs", folder), AutoModelForSequenceClassification).model


class Touch:
    """A pickle of it creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def as_pickle(folder: Path, extra: dict[str, Any]) -> None:
    """Put `pytorch_model.bin` in the place of `model.safetensors`."""
    from safetensors.torch import load_file

    torch.save({**load_file(folder / "model.safetensors"), **extra}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def test_pickled_weights_are_read_as_tensors_alone(folder: Path, tmp_path: Path):
    wanted = load(folder).state_dict()
    as_pickle(folder, {})
    for name, tensor in load(folder).state_dict().items():
        assert torch.equal(tensor, wanted[name])


def test_a_pickle_that_does_something_is_refused(folder: Path, tmp_path: Path):
    as_pickle(folder, {"x": Touch(tmp_path / "ran")})
    with pytest.raises(ModelError, match="such a pickle is never loaded"):
        load(folder)
    assert not (tmp_path / "ran").exists()
    # The pickle is one that would have done it.
    torch.load(folder / "pytorch_model.bin", weights_only=False)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["training_args.bin", "optimizer.pt", "rng_state.pth", "scheduler.pt"])
def test_pickles_beside_a_model_are_not_looked_at(name: str, folder: Path, tmp_path: Path):
    torch.save(Touch(tmp_path / "ran"), folder / name)
    load(folder)
    load_tokenizer(Source("theirs", folder))
    assert not (tmp_path / "ran").exists()


def test_code_that_comes_with_a_model_is_neither_run_nor_asked_about(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("builtins.input", lambda *text: pytest.fail("the user was asked"))
    (folder / "theirs.py").write_text(CODE + "class C: pass\n")
    changed(
        folder / "config.json",
        model_type="theirs",
        auto_map={"AutoConfig": "theirs.C", "AutoModel": "theirs.C"},
    )
    with pytest.raises(ModelError, match="never run here"):
        load_config(Source("theirs", folder))
    with pytest.raises(ModelError, match="never run here"):
        load(folder)
    assert not (folder / "ran").exists() and "theirs" not in sys.modules


def test_code_that_comes_with_a_tokenizer_is_not_run(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("builtins.input", lambda *text: pytest.fail("the user was asked"))
    (folder / "theirs.py").write_text(CODE + "class C: pass\n")
    changed(
        folder / "tokenizer_config.json", tokenizer_class="C", auto_map={"AutoTokenizer": ["theirs.C", None]}
    )
    try:
        load_tokenizer(Source("theirs", folder))
    except ModelError as error:
        assert "theirs" in str(error)
    assert not (folder / "ran").exists()


def test_kernels_from_the_hub_are_not_fetched(folder: Path):
    changed(folder / "config.json", attn_implementation="someone/kernel:run")
    try:
        model = load(folder)
    except ModelError:
        return
    assert "/" not in str(model.config._attn_implementation)


@pytest.mark.parametrize("engine", ["native", "onnxruntime"])
@pytest.mark.parametrize("place", ["../weights", "{absolute}"])
def test_weights_of_a_graph_lie_in_its_folder(engine: str, place: str, tmp_path: Path):
    from deepsparse import Engine
    from sparsezoo import analyze

    folder = deployment(tmp_path / "deployed")
    model = onnx.load(folder / "model.onnx")
    tensor = model.graph.initializer[0]
    values = numpy_helper.to_array(tensor)
    (tmp_path / "weights").write_bytes(np.ascontiguousarray(values).tobytes())
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=place.format(absolute=tmp_path / "weights"))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError):
        Engine(folder, engine_type=engine)
    with pytest.raises(UserError):
        analyze(folder / "model.onnx")


def test_nothing_here_unpickles_or_evaluates():
    """No call in the sources loads a pickle or runs text; where Transformers does the loading, it is told not to."""
    package = Path(sparseml.__file__).parents[1]
    forbidden = {"eval", "exec", "compile", "__import__"}
    names = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    found = []
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                wrong = called in forbidden or called in (
                    "torch.load",
                    "np.load",
                    "numpy.load",
                    "yaml.unsafe_load",
                )
                wrong = (
                    wrong
                    or keywords.get("trust_remote_code") == "True"
                    or keywords.get("allow_pickle") == "True"
                )
                if called.startswith("Auto") and called.endswith(".from_pretrained"):
                    wrong = wrong or keywords.get("trust_remote_code") != "False"
                if wrong:
                    found.append(f"{path.relative_to(package)}:{node.lineno}: {called}")
            elif isinstance(node, ast.Import) and names & {alias.name for alias in node.names}:
                found.append(f"{path.relative_to(package)}:{node.lineno}")
    assert not found
