from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sparsezoo import ZooError, search_models
from sparsezoo.cli import main
from sparsezoo.index import entries
from support.hub import LoopbackHub

MNLI = "zoo:nlp/text_classification/obert-base/pytorch/huggingface/mnli/pruned90_quant-none"
TEACHER = "zoo:nlp/text_classification/obert-base/pytorch/huggingface/mnli/base-none"
MINILM = "zoo:nlp/sentence_embedding/minilm-l6/pytorch/huggingface/sentence_transformers/pruned80-none"


@pytest.fixture(autouse=True)
def _home(zoo_home: Path) -> None:
    """No test reads the zoo of the person who runs it."""


def test_pages_are_honoured() -> None:
    everything = search_models(page_length=1000, return_stubs=True)
    assert everything == sorted(f"zoo:{name}" for name in entries())
    pages = [search_models(page=page, page_length=4, return_stubs=True) for page in range(1, 9)]
    assert [stub for page in pages for stub in page] == everything
    assert max(len(page) for page in pages) == 4


def test_search_by_parts_gives_models() -> None:
    found = search_models(domain="NLP", dataset="mnli", sparse_name="base")
    assert [str(model.stub) for model in found] == [TEACHER]
    assert search_models(dataset="mnli", architecture="bert") == []


def test_search_refuses_what_it_cannot_search_by() -> None:
    with pytest.raises(ZooError, match="'task'"):
        search_models(task="mnli")
    with pytest.raises(ZooError, match="count from 1"):
        search_models(page=0)


def test_search_finds_folders_under_the_home(zoo_home: Path) -> None:
    name = "nlp/text_classification/tiny/pytorch/huggingface/mine/pruned50-none"
    (zoo_home / name).mkdir(parents=True)
    (zoo_home / name.replace("pruned50-none", "not a stub")).mkdir()
    assert search_models(dataset="mine", return_stubs=True) == [f"zoo:{name}"]


def test_search_prints_one_line_per_stub(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--dataset", "mnli", "--page-length", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "stub",
        TEACHER,
        TEACHER.replace("base-none", "pruned90-none"),
    ]
    assert (
        len({line.index(word) for line, word in zip(lines, ("needs", "the Hug", "the Hug"), strict=True)})
        == 1
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["search", "--dataset", "mnlii"], "Nearest: mnli"),
        (["search", "--release-version", "1"], "--release-version"),
        (["show", "zoo:a/b"], "2 levels"),
        (["show", MNLI.replace("mnli", "mnlo")], MNLI),
        (["show", MNLI[4:]], "begins with 'zoo:'"),
        (["download", TEACHER + "?recipe_tpe=x"], "recipe_type"),
    ],
)
def test_mistakes_end_with_2_and_one_message(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert said in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("arguments", [["search", "--page", "0"], ["frobnicate"], ["download"], []])
def test_wrong_usage_ends_with_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: sparsezoo" in capsys.readouterr().err


def test_show_tells_home_licence_and_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", TEACHER]) == 0
    shown = capsys.readouterr().out
    for word in ("neuralmagic/oBERT-teacher-mnli", "not stated", "the Hugging Face Hub"):
        assert word in shown
    assert main(["show", MINILM]) == 0
    shown = capsys.readouterr().out
    for word in ("in this package, ", "Apache-2.0", "sentence-transformers"):
        assert word in shown
    assert main(["show", MNLI]) == 0
    assert "wikipedia_bookcorpus/pruned90-none" in capsys.readouterr().out


def test_download_prints_the_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["download", MNLI, "--save-dir", str(tmp_path / "x")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'x'}\n"
    assert (tmp_path / "x" / "recipe.yaml").is_file()


def test_download_and_show_from_the_hub(
    hub: LoopbackHub, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    files = {"config.json": b"{}", "model.safetensors": b"x" * 2000}
    hub.add("neuralmagic/oBERT-teacher-mnli", files, revision="v1")
    assert main(["download", TEACHER, "--revision", "v1", "--save-dir", str(tmp_path / "x")]) == 0
    assert (tmp_path / "x" / "training" / "model.safetensors").read_bytes() == b"x" * 2000
    capsys.readouterr()
    assert main(["show", f"{TEACHER}@v1"]) == 0
    shown = capsys.readouterr().out
    assert "at v1" in shown
    assert "2 kB" in shown
    assert "needs    nothing" in shown


def test_offline_ends_with_2_and_names_the_repository(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["download", TEACHER]) == 2
    said = capsys.readouterr().err
    assert "neuralmagic/oBERT-teacher-mnli" in said
    assert MINILM in said


def test_light_commands_import_nothing_heavy() -> None:
    code = f"""
import sys
from sparsezoo.cli import main
assert main(["search"]) == main(["show", {TEACHER!r}]) == 0
heavy = {{"torch", "transformers", "datasets", "numpy", "safetensors", "huggingface_hub"}}
sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
