from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from sparseml.recipe import RecipeError, load_plan
from sparseml.recipe.source import read_source

TEXT = "end: 3\nmodifiers:\n  - !EpochRangeModifier\n    start_epoch: 0\n    end_epoch: eval(end)\n"
BROKEN = TEXT.replace("eval(end)", "eval(ende)")  # on line 5 of the YAML


def error_of(recipe: str | Path) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        load_plan(recipe)
    return caught.value


def write(folder: Path, name: str, data: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


@pytest.mark.parametrize("name", ["recipe.yaml", "r.yml", "R.YAML"])
def test_yaml_file_as_path_and_as_text(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, TEXT)
    for recipe in (path, str(path)):
        plan = load_plan(recipe)
        assert plan.source == str(path)
        assert plan.modifiers[0].fields == {"start_epoch": 0, "end_epoch": 3}


def test_folder(tmp_path: Path) -> None:
    write(tmp_path, "recipe.yaml", TEXT)
    assert load_plan(tmp_path).modifiers[0].line == 3


def test_folder_without_recipe(tmp_path: Path) -> None:
    assert "a folder without a recipe.yaml" in str(error_of(tmp_path))


@pytest.mark.parametrize("fence", ["---", "+++"])
def test_markdown_keeps_line_numbers(tmp_path: Path, fence: str) -> None:
    markdown = f"\n{fence}\n{BROKEN}{fence}\n# About\n\n--- not yaml: [\n"
    path = write(tmp_path, "recipe.md", markdown)
    error = error_of(path)
    assert error.line == markdown[: markdown.index("eval(ende)")].count("\n") + 1 == 7
    assert load_plan(write(tmp_path, "good.md", markdown.replace("ende", "end"))).modifiers[0].line == 5


def test_markdown_without_front_matter(tmp_path: Path) -> None:
    error = error_of(write(tmp_path, "recipe.md", "\n# Title\n"))
    assert error.line == 2
    assert "front matter" in str(error)
    assert "'# Title'" in str(error)


def test_markdown_with_open_front_matter(tmp_path: Path) -> None:
    error = error_of(write(tmp_path, "recipe.md", f"---\n{TEXT}"))
    assert error.line == 1
    assert "no closing line ---" in str(error)


@pytest.mark.parametrize("text", [TEXT, f"---\n{TEXT}", f"---\n{TEXT}---\n# words\n", f"+++\n{TEXT}+++\n"])
def test_inline(text: str) -> None:
    plan = load_plan(text)
    assert plan.source == "inline recipe"
    assert plan.variables == {"end": 3}


def test_inline_on_one_line() -> None:
    plan = load_plan("[!EpochRangeModifier {start_epoch: 0, end_epoch: 2.5}]")
    assert plan.modifiers[0].fields == {"start_epoch": 0, "end_epoch": 2.5}


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_foreign_line_ends(tmp_path: Path, end: str) -> None:
    error = error_of(write(tmp_path, "recipe.yaml", BROKEN.replace("\n", end)))
    assert error.line == 5
    markdown = f"---\n{BROKEN}---\n# words\n".replace("\n", end)
    assert error_of(write(tmp_path, "recipe.md", markdown)).line == 6


def test_byte_order_mark(tmp_path: Path) -> None:
    path = write(tmp_path, "recipe.yaml", b"\xef\xbb\xbf" + TEXT.encode())
    assert load_plan(path).modifiers == load_plan(TEXT).modifiers
    assert load_plan("\ufeff" + TEXT).modifiers == load_plan(TEXT).modifiers


def test_missing_file_names_near_ones(tmp_path: Path) -> None:
    write(tmp_path, "recipe_mnli.yaml", TEXT)
    write(tmp_path, "recipe_mnli.txt", TEXT)
    message = str(error_of(str(tmp_path / "recipe_mnl.yaml")))
    assert "there is no such file" in message
    assert "recipe_mnli.yaml" in message
    assert "txt" not in message


def test_missing_folder(tmp_path: Path) -> None:
    message = str(error_of(tmp_path / "nowhere" / "recipe.yaml"))
    assert f"The folder {tmp_path / 'nowhere'} does not exist" in message


def test_stub_without_its_prefix() -> None:
    stub = "nlp/text_classification/obert-base/pytorch/huggingface/mnli/pruned90_quant-none"
    assert "begins with zoo:" in str(error_of(stub))


@pytest.mark.parametrize("recipe", ["", "  ", "a" * 5000, "a\0b.yaml", "x.yaml"])
def test_what_is_no_path_is_an_error(recipe: str) -> None:
    error_of(recipe)


@pytest.mark.parametrize("data", ["", " \n\n", "# only\n# comments\n", "---\n"])
def test_empty_file(tmp_path: Path, data: str) -> None:
    assert "holds" in str(error_of(write(tmp_path, "recipe.yaml", data)))


def test_not_utf8_names_byte_and_line(tmp_path: Path) -> None:
    error = error_of(write(tmp_path, "recipe.yaml", b"a: 1\nb: caf\xe9 au lait\n"))
    assert error.line == 2
    assert "0xe9 at offset 11" in str(error)


def test_utf16(tmp_path: Path) -> None:
    assert "UTF-16" in str(error_of(write(tmp_path, "recipe.yaml", TEXT.encode("utf-16"))))


def test_wrong_suffix(tmp_path: Path) -> None:
    message = str(error_of(write(tmp_path, "model.safetensors", b"\0\1")))
    assert ".yaml, .yml, .md" in message


def test_too_large(tmp_path: Path) -> None:
    assert "500000" in str(error_of(write(tmp_path, "big.yaml", "# x\n" * 200_000)))


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", 3, "Inside [ ] and { } a comma"),
        ("a: 1\nb:\n\t- x\n", 3, "never with tabs"),
        ("modifiers:\n  - !A\n  x: 1\n", 3, "A modifier's properties begin at the column"),
        ("a: b: c\nx: 1\n", 1, "needs quotes"),
        ("a: 1\nb: *nowhere\n", 2, "needs an anchor"),
        ("a: &x 1\nb: &x 2\n", 2, "may be set once"),
        ("a: 1\n---\nb: 2\n", 2, "one YAML document"),
        ("a: 1\nb: @x\n", 2, "needs quotes"),
        ("a: 1\nb: '\x01'\n", 2, "U+0001"),
        ('a: 1\nb: "\\UFFFFFFFF"\n', None, "not YAML"),
        ("a: 'open\n\n", 3, "end of stream"),
    ],
)
def test_not_yaml(tmp_path: Path, text: str, line: int | None, said: str) -> None:
    error = error_of(write(tmp_path, "recipe.yaml", text))
    assert error.line == line
    assert said in str(error)
    assert str(tmp_path / "recipe.yaml") in str(error)


def test_not_yaml_shows_the_line_and_column(tmp_path: Path) -> None:
    error = error_of(write(tmp_path, "recipe.yaml", "a: 1\nb: 2: 3\n"))
    assert "(column 5)" in str(error)
    assert str(error).endswith("\n    b: 2: 3\n        ^")


def test_zoo_stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "recipe.md", f"---\n{TEXT}---\n")
    zoo = types.ModuleType("sparsezoo")
    asked: list[str] = []
    zoo.recipe_path = lambda stub: asked.append(stub) or path  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sparsezoo", zoo)
    plan = load_plan("zoo:some/stub?recipe_type=transfer")
    assert asked == ["zoo:some/stub?recipe_type=transfer"]
    assert plan.source == "zoo:some/stub?recipe_type=transfer"
    assert plan.modifiers[0].line == 4


def test_a_file_wins_over_inline_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "!Tag.yaml", TEXT)
    assert read_source("!Tag.yaml").name == "!Tag.yaml"
