"""Every block of the pages is run, in its page's order, in a folder that holds what the page says a reader has.

Models are tiny: that of the Hub comes from the loopback hub, the embedded one from the zoo's folder. Only the number of
rows and steps is bounded, by the two variables that exist for it.
"""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from deepsparse.native import library
from support import tiny
from support.hub import LoopbackHub
from support.pages import ROOT, Reader, blocks, prepare_folder

PAGES = (
    "README.md",
    "docs/start.md",
    "docs/architecture.md",
    "docs/benchmarks.md",
    "docs/confidence.md",
    "docs/imbalance.md",
    "docs/c.md",
    "docs/explain.md",
    "docs/long_texts.md",
    "docs/few_rows.md",
    "docs/migration.md",
    "docs/processes.md",
    "docs/question_answering.md",
    "docs/recipes.md",
    "docs/search.md",
    "docs/serving.md",
    "docs/token_classification.md",
    "docs/transfer.md",
    "docs/upstream.md",
)
# Pages that have a test of their own.
ELSEWHERE = {
    "docs/batch.md": "tests/docs/test_docs_batch.py",
    "docs/deploying.md": "tests/docs/test_docs_deploying.py",
    "docs/python.md": "tests/docs/test_docs_python.py",
    "docs/tutorial.md": "tests/tutorial",
}
SKIPPED = {
    "accelerate launch": "starts what torchrun starts",
    "torchrun --nproc_per_node=2 -m sparseml train": "trains for minutes; a guided run of two has a test",
    "make demo": "takes minutes; the demo has tests of its own, and the target is looked up below",
    "make test": "would run this test; the target is looked up below",
    "sparseml sparsify": "takes the minutes that it is told; it has tests of its own, and what it runs is run here",
    "sparseml search --train_file train.csv --space space.yaml --method optuna": "needs Optuna; has tests",
    "pip install": "needs a package index; its extras are looked up below",
    "pip uninstall": "would change the environment that runs the tests",
}
UPSTREAM = "neuralmagic/oBERT-12-upstream-pruned-unstructured-90-v2"


@pytest.fixture(scope="module")
def trained(pruned_model: Path, rows_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training, for the pages that begin with one."""
    folder = tmp_path_factory.mktemp("trained") / "my-classifier"
    tiny.train(
        pruned_model,
        rows_folder,
        folder,
        recipe_args="num_epochs=1,qat_start_epoch=0,observer_epoch=1",
    )
    return folder


@pytest.fixture
def desk(
    hub: LoopbackHub,
    zoo_home: Path,
    pruned_model: Path,
    rows_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Path]:
    """The folder in which a reader sits: rows of their own; and what the zoo has, at hand."""
    hub.add(UPSTREAM, {path.name: path.read_bytes() for path in pruned_model.iterdir()})
    folder = prepare_folder(zoo_home, pruned_model, rows_folder, tmp_path / "desk")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("RESPARSE_MAX_ROWS", "48")
    monkeypatch.setenv("RESPARSE_MAX_STEPS", "2")
    yield folder


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_followed(name: str, desk: Path, request: pytest.FixtureRequest) -> None:
    page = ROOT / name
    if name == "docs/c.md" and library.file() is None:
        pytest.skip("the native engine is not built here")
    if "my-classifier" in page.read_text(encoding="utf-8") and name != "README.md":
        shutil.copytree(request.getfixturevalue("trained"), desk / "my-classifier")
    if name == "README.md":
        # It names recipe.yaml in Python before it shows one.
        (saved,) = [block for block in blocks(page) if block.file]
        (desk / str(saved.file)).write_text(saved.text, encoding="utf-8")
    with Reader(desk, SKIPPED) as reader:
        for block in blocks(page):
            reader.follow(block)
    if name == "README.md":
        promised = ("messages-classifier/deployment", "my-classifier", "deployment", "python-deployment")
        assert all((desk / folder).is_dir() for folder in promised)
        for file in ("model.safetensors", "recipe.yaml", "modifiers.safetensors", "report.json"):
            assert (desk / "my-classifier" / file).is_file()


def test_no_page_is_forgotten() -> None:
    here = {"README.md", *(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))}
    assert here == {*PAGES, *ELSEWHERE}
    assert all((ROOT / test).exists() for test in ELSEWHERE.values())


def test_what_is_skipped_is_there() -> None:
    """No block is skipped that nobody wrote, and what cannot be run names things that exist."""
    lines = [line for name in PAGES for block in blocks(ROOT / name) for line in block.text.splitlines()]
    for start in SKIPPED:
        assert any(line.startswith(start) for line in lines), start
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for line in lines:
        if line.startswith("make "):
            assert f"\n{line.split()[1]}:" in makefile, line
        if line.startswith("pip install"):
            extras = line.partition("[")[2].partition("]")[0].split(",")
            assert set(extras) <= set(project["optional-dependencies"]), line


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert "://" in target or (page.parent / target).exists(), target
