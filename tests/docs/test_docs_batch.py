"""docs/batch.md, block by block, on a tiny model; blocks of engines that are not installed here are passed over."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from support.deployment import deployment
from support.pages import ROOT, Reader, blocks

PAGE = ROOT / "docs" / "batch.md"
SKIPPED = {
    "sparseml predict deployment --ray --ray-address": "needs a cluster",
    "ray job submit": "needs a cluster",
}
_IMPORT = re.compile(r"^(?:import|from) (\w+)", re.MULTILINE)


def needed(text: str, language: str) -> list[str]:
    """The packages that a block needs and that are not here."""
    names = _IMPORT.findall(text) if language == "python" else ["ray"] if "--ray" in text else []
    return [name for name in names if importlib.util.find_spec(name) is None]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pytest.importorskip("pyarrow").table({"text": ["a happy film", "very sad", None]})
    parquet.write_table(table, tmp_path / "rows.parquet")
    (tmp_path / "rows.csv").write_text('text\na happy film\n"very\nsad"\n')
    deployment(tmp_path / "deployment")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore")  # of the engines
@pytest.mark.parametrize("block", blocks(PAGE), ids=lambda block: block.place)
def test_a_block_can_be_followed(block, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if missing := needed(block.text, block.language):
        pytest.skip(f"{missing[0]} is not installed")
    with Reader(desk, SKIPPED) as reader:
        reader.follow(block)
    said = capsys.readouterr().out
    if "joblib" in block.text:
        assert re.search(r"joy\s+1\nsadness\s+1", said)
    for folder in re.findall(r'parquet\("(scored-[a-z-]+)"\)', block.text):
        assert list((desk / folder).glob("*.parquet"))


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE.read_text(encoding="utf-8")):
        assert "://" in target or (PAGE.parent / target).exists(), target


def test_the_options_are_those_of_the_command() -> None:
    from deepsparse.predict import _parser

    known = {option for action in _parser()._actions for option in action.option_strings}
    page = PAGE.read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(--[a-z-]+)`", page, re.MULTILINE)) <= known
