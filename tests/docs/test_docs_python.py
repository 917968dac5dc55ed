"""docs/python.md, block by block: what a reader types, on tiny models in the zoo's place."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.numpy import load_file

from sparseml.training import conclusion
from support import tiny
from support.pages import ROOT, Reader, blocks, prepare_folder

PAGE = ROOT / "docs" / "python.md"


@pytest.fixture
def desk(
    zoo_home: Path, pruned_model: Path, rows_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The folder in which a reader sits, with the files that the page speaks of; a tiny model is the embedded one."""
    folder = prepare_folder(zoo_home, pruned_model, rows_folder, tmp_path / "desk")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("RESPARSE_MAX_STEPS", "3")
    monkeypatch.setattr(conclusion, "_SECONDS", 0.02)
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_the_page_can_be_followed(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    with Reader(desk, {}) as reader:
        for block in blocks(PAGE):
            reader.follow(block)
            printed.append(capsys.readouterr().out.strip().splitlines())
    guided, trained, exported, predicted, loaded, own, taught = printed
    assert guided[-1].startswith("[") and set(eval(guided[-1])) <= {"negative", "positive"}
    accuracy, sparsity = map(float, trained[-1].split())
    assert 0 <= accuracy <= 1 and sparsity > 0.6
    assert exported[-1].startswith("1.0 {")
    assert len(predicted) == 2
    assert loaded[-1] in {"negative", "positive"}
    assert "eval_loss" in own[-1]
    assert taught == []
    weights = load_file(desk / "from-a-trainer" / "model.safetensors")
    name = next(name for name in weights if name.endswith("layer.0.attention.self.query.weight"))
    assert (weights[name] == 0).mean() > 0.7
    assert (desk / "from-a-trainer" / "recipe.yaml").is_file()


def test_train_export_load_predict_take_ten_lines_each() -> None:
    for block in blocks(PAGE)[:5]:
        code = [line for line in block.text.splitlines() if line.strip()]
        assert len(code) - sum(line.startswith(("import", "from")) for line in code) <= 10, block.place


def test_rows_are_those_that_the_page_speaks_of(rows_folder: Path) -> None:
    assert set(tiny.rows(1)[0]) == {"text", "label"}
    assert {path.name for path in rows_folder.iterdir()} == {"train.csv", "validation.csv"}
