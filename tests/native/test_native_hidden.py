"""A machine that lacks something: a compiler, AVX-512, any vector instructions, OpenVINO, ONNX Runtime, a tokenizer.

What is missing is hidden. A deployment then answers as where all is there, and one line says what was taken; or an
error says what to install.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from deepsparse import Engine, EngineError, Pipeline, backends
from deepsparse.native import library
from support.pages import ROOT

pytest.importorskip("onnxruntime")
needs_library = pytest.mark.skipif(library.file() is None, reason="the native engine is not built here")

TEXTS = ["happy", "the film was very sad", "furious " * 30]
Hide = Callable[[pytest.MonkeyPatch], None]


def no_compiler(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(library, "file", lambda: None)


def no_openvino(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(sys.modules, "openvino", None)


def no_instructions(patch: pytest.MonkeyPatch) -> None:
    portable = [one for one in library.isas() if one.name == library.PORTABLE]
    patch.setattr(library, "isas", lambda: portable)


def without(*features: str) -> Hide:
    """Hides instruction sets, as a processor does that has none of them."""

    def hide(patch: pytest.MonkeyPatch) -> None:
        kept = [one for one in library.isas() if one.name not in features]
        patch.setattr(library, "isas", lambda: kept)

    return hide


HIDDEN: dict[str, tuple[list[Hide], str | None]] = {
    "no compiler": ([no_compiler], "C++ compiler"),
    "no vector instructions": ([no_instructions], "no kernels for this processor"),
    "no AMX": ([without("amx")], None),
    "no AVX-512": ([without("amx", "avx512", "avxvnni")], None),
    "no OpenVINO": ([no_openvino], None),
    "neither compiler nor OpenVINO": ([no_compiler, no_openvino], "C++ compiler"),
}
"""What is hidden, and a part of the one line that is then said."""


@pytest.fixture(autouse=True)
def loaded_anew() -> Iterator[None]:
    library.load.cache_clear()
    yield
    library.load.cache_clear()


@needs_library
@pytest.mark.parametrize("name", HIDDEN)
def test_answers_are_the_same(
    name: str, bert_deployment: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DEEPSPARSE_CACHE", "")
    wanted = Pipeline.create("text_classification", bert_deployment, engine_type="onnxruntime").logits(TEXTS)
    hide, said = HIDDEN[name]
    for one in hide:
        one(monkeypatch)
    lines: list[str] = []
    monkeypatch.setattr(backends, "say_once", lines.append)
    pipeline = Pipeline.create("text_classification", bert_deployment)
    np.testing.assert_allclose(pipeline.logits(TEXTS), wanted, atol=1e-3)
    assert pipeline.engine.engine_type == ("native" if said is None else "onnxruntime")
    assert len(lines) == (said is not None) and all(said in line and "\n" not in line for line in lines)


@pytest.mark.parametrize(
    ("engine", "module", "extra"),
    [
        ("openvino", "openvino", "openvino"),
        ("onnxruntime", "onnxruntime", "runtime"),
    ],
)
def test_an_engine_that_is_missing_names_its_extra(
    engine: str, module: str, extra: str, bert_deployment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert engine not in backends.installed()
    with pytest.raises(EngineError, match=rf"resparse\[{extra}\]"):
        Engine(bert_deployment, engine_type=engine)


@needs_library
def test_the_native_engine_needs_no_other(bert_deployment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, module, None)
    assert Pipeline.create("text_classification", bert_deployment)(TEXTS).labels


HIDING = "import sys; sys.modules[sys.argv.pop(1)] = None; "
"""Begins a program, whose first argument names a package that is hidden from it."""


@pytest.mark.parametrize(
    "code",
    [
        "from deepsparse import Pipeline; Pipeline.create(model_path=sys.argv[1])",
        "from deepsparse import Scorer; Scorer(sys.argv[1]).pipeline",
    ],
)
def test_without_a_tokenizer_the_extra_is_named(code: str, bert_deployment: Path) -> None:
    command = [sys.executable, "-c", HIDING + code, "tokenizers", str(bert_deployment)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert (
        done.stderr.splitlines()[-1].startswith("deepsparse.errors.EngineError")
        and "resparse[runtime]" in done.stderr
    )


@pytest.mark.parametrize(
    "code",
    [
        "from sparseml.transformers.text_classification import cli",
        "from sparseml.transformers.export import cli",
        "from sparseml.cli import main as cli; sys.argv.insert(1, 'train')",
    ],
)
def test_commands_without_pytorch_name_the_extra(code: str, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    command = [
        sys.executable,
        "-c",
        f"{HIDING}{code}; raise SystemExit(cli())",
        "transformers",
        "--model_path",
        "x",
    ]
    hidden = "sys.modules['torch'] = sys.modules['onnx'] = None; "
    command[2] = command[2].replace(HIDING, HIDING + hidden)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "resparse[torch]" in done.stderr


@pytest.mark.slow
def test_a_source_distribution_installs_without_a_compiler(bert_deployment: Path, tmp_path: Path) -> None:
    """Nothing on PATH compiles; what is installed runs the model in ONNX Runtime, and says so once."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    for name in ("src", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        place = ROOT / name
        copy = shutil.copytree if place.is_dir() else shutil.copy
        copy(
            place,
            source / name,
            **(
                {"ignore": shutil.ignore_patterns("*.so", "*.pyd", "*.egg-info", "__pycache__")}
                if place.is_dir()
                else {}
            ),
        )
    empty = tmp_path / "empty"
    empty.mkdir()
    bare = {name: value for name, value in os.environ.items() if name not in ("CC", "CXX", "PYTHONPATH")}
    bare["PATH"] = str(empty)
    build = "import setuptools.build_meta as b, sys; print(b.build_sdist(sys.argv[1]))"
    made = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)],
        cwd=source,
        env=bare,
        capture_output=True,
        text=True,
        check=True,
    )
    archive = tmp_path / made.stdout.split()[-1]
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    install += ["--no-deps", "--no-build-isolation", "--target", str(target), str(archive)]
    subprocess.run(install, env=bare, capture_output=True, text=True, check=True)
    assert (target / "deepsparse" / "native").is_dir() and not [*target.rglob("_engine*")]
    code = (
        "import deepsparse, sys; from deepsparse import Pipeline; assert deepsparse.__file__.startswith(sys.argv[2]);"
        "print([Pipeline.create(model_path=sys.argv[1]).engine.engine_type for _ in range(2)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(bert_deployment), str(target)],
        env={**bare, "PYTHONPATH": str(target)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["['onnxruntime',", "'onnxruntime']"]
    assert done.stderr.count("C++ compiler") == 1 and len(done.stderr.splitlines()) == 1
