"""The C interface: what the example in C prints, against the engine as Python calls it; files that are damaged."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from deepsparse import Engine, pack
from deepsparse.native import library, packed_file
from support.exports import POSITIONS

pytest.importorskip("torch")
COMPILER = shutil.which("gcc") or shutil.which("clang")
pytestmark = [
    pytest.mark.skipif(library.file() is None, reason="the native engine is not built here"),
    pytest.mark.skipif(COMPILER is None, reason="there is no C compiler here"),
]

EXAMPLE = Path(__file__).parents[2] / "examples" / "classify.c"
LENGTHS = [2, 16, 45]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, built as its first lines say."""
    built = tmp_path_factory.mktemp("c") / "classify"
    flags = [f"-I{packed_file.INCLUDE}", str(library.file())]
    strict = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"]
    subprocess.run([str(COMPILER), *strict, str(EXAMPLE), "-o", str(built), *flags], check=True)
    return built


@pytest.fixture
def packed(exported: Callable[..., Path], tmp_path: Path) -> Callable[[str], tuple[Path, Path]]:
    """A function from an architecture to its ONNX file and its packed one."""

    def of(architecture: str) -> tuple[Path, Path]:
        model = tmp_path / "model.onnx"
        shutil.copy(exported(architecture), model)
        names = {str(index): f"label {index}" for index in range(len(_logits(model, [[2, 3]])[0]))}
        (tmp_path / "config.json").write_text(json.dumps({"id2label": names}))
        made = tmp_path / "model.resparse"
        assert pack.main([str(model), "--output", str(made)]) == 0
        return model, made

    return of


def _logits(model: Path, texts: Sequence[Sequence[int]]) -> list[np.ndarray]:
    engine = Engine(model, engine_type="native")
    found = []
    for ids in texts:
        row = np.array([ids], np.int64)
        feeds = {"input_ids": row, "attention_mask": np.ones_like(row), "token_type_ids": np.zeros_like(row)}
        found.append(engine.run([feeds[name] for name in engine.input_names])[0][0])
    return found


def _run(program: Path, model: Path, texts: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, model], input=texts, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("architecture", ["bert", "roberta", "mpnet", "modernbert"])
def test_a_program_in_c_has_the_same_logits(
    architecture: str, program: Path, packed: Callable[[str], tuple[Path, Path]]
):
    model, made = packed(architecture)
    source = np.random.default_rng(0)
    texts = [source.integers(5, 30, length).tolist() for length in LENGTHS]
    texts[1][3] = 1  # what RoBERTa and MPNet do not count
    done = _run(program, made, "".join(" ".join(map(str, ids)) + "\n" for ids in texts))
    assert done.returncode == 0, done.stderr
    expected = _logits(model, texts)
    for line, logits in zip(done.stdout.splitlines(), expected, strict=True):
        name, *values = line.split("\t")
        assert name == f"label {logits.argmax()}"
        np.testing.assert_array_equal(np.array(values, np.float32), logits)


def test_a_wrong_text_is_refused_in_words(program: Path, packed: Callable[[str], tuple[Path, Path]]):
    _, made = packed("bert")
    assert "a token's id is 99999" in _run(program, made, "2 99999 3\n").stderr
    assert "at most" in _run(program, made, "2 " * (POSITIONS + 1) + "\n").stderr


@pytest.mark.parametrize("damage", ["cut", "magic", "version", "names", "weights", "empty", "gone"])
def test_a_damaged_file_is_refused_in_words(
    damage: str, program: Path, packed: Callable[[str], tuple[Path, Path]]
):
    _, made = packed("bert")
    whole = bytearray(made.read_bytes())
    if damage == "gone":
        made.unlink()
    else:
        places = {"magic": 0, "version": 8, "names": packed_file.FileRecord.names.offset + 7, "weights": -100}
        if damage in places:
            whole[places[damage]] ^= 0xFF
        made.write_bytes({"cut": whole[:-8], "empty": b""}.get(damage, whole))
    done = _run(program, made, "2 3\n")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and not done.stdout


def test_flags_and_missing_arguments(capsys: pytest.CaptureFixture[str]):
    assert pack.main(["--flags"]) == 0
    folder, file = capsys.readouterr().out.removeprefix("-I").strip().rsplit(" ", 1)
    assert (Path(folder) / "resparse.h").is_file() and Path(file).is_file()
    with pytest.raises(pack.ArgumentsError, match="Which deployment"):
        pack.main([])
