"""The text of a recipe: from a file, a folder, a `zoo:` stub or a string; and the error that names the line."""

from __future__ import annotations

import codecs
import os
import re
from dataclasses import dataclass
from pathlib import Path

from resparse.errors import UserError, nearest

SUFFIXES = (".yaml", ".yml", ".md")
INLINE = "inline recipe"
# Recipes have a few thousand characters; a data file given by mistake is refused early.
MAX_SIZE = 500_000

_TAG = re.compile(r"(?:^|[\s\[{,:-])![A-Za-z_]")
_FENCES = ("---", "+++")


class RecipeError(UserError):
    """A recipe that cannot be read or carried out: in which source, and at which 1-based line, if known."""

    def __init__(self, message: str, source: str, line: int | None = None) -> None:
        self.message = message
        self.source = source
        self.line = line
        place = source if line is None else f"{source}, line {line}"
        super().__init__(f"{place}: {message}")


@dataclass(frozen=True)
class Source:
    """The YAML of a recipe, its lines numbered as the user's, and the user's name for it, such as a path or stub."""

    name: str
    text: str


def read_source(recipe: str | Path) -> Source:
    """Read a recipe from a path (.yaml, .yml, .md, or a folder that holds recipe.yaml), a `zoo:` stub, or its text.

    A text is recognized by a line break or a `!Tag` in it.

    Raises:
        RecipeError: no such file, not a recipe's file name, empty, not UTF-8, Markdown without front matter.
    """
    if isinstance(recipe, Path):
        return _from_path(recipe, str(recipe))
    if not recipe.strip():
        raise RecipeError(
            "it is empty. Give the path of a .yaml or .md file, a zoo: stub, or the recipe's text.", INLINE
        )
    if recipe.startswith("zoo:"):
        from sparsezoo import recipe_path

        return _from_path(recipe_path(recipe), recipe)
    path = Path(os.path.expanduser(recipe))  # noqa: PTH111 - Path.expanduser raises where no home is known
    if "\n" in recipe or "\r" in recipe or (_TAG.search(recipe) and not _exists(path)):
        return Source(INLINE, _normalize(recipe, INLINE, markdown=False))
    return _from_path(path, recipe)


def _from_path(path: Path, name: str) -> Source:
    if not _exists(path):
        raise RecipeError(_not_found_message(path), name)
    if path.is_dir():
        path, name = _recipe_in_folder(path, name)
    if path.suffix.lower() not in SUFFIXES:
        raise RecipeError(
            f"a recipe's file name ends in {', '.join(SUFFIXES)}, not in {path.suffix!r}.", name
        )
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SIZE * 4 + 1)
    except OSError as error:
        raise RecipeError(f"it cannot be read: {error.strerror or error}.", name) from error
    return Source(name, _normalize(_decode(data, name), name, markdown=path.suffix.lower() == ".md"))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long, or holds a NUL
        return False


def _recipe_in_folder(folder: Path, name: str) -> tuple[Path, str]:
    for suffix in SUFFIXES:
        candidate = folder / f"recipe{suffix}"
        if candidate.is_file():
            return candidate, str(candidate)
    raise RecipeError("it is a folder without a recipe.yaml in it.", name)


def _not_found_message(path: Path) -> str:
    folder = path.parent
    if not _exists(folder) or not folder.is_dir():
        advice = f"The folder {folder} does not exist either."
        if len(path.parts) > 5:
            advice += " (A SparseZoo stub begins with zoo:)"
        return f"there is no such file. {advice}"
    try:
        names = [
            entry.name for entry in folder.iterdir() if entry.suffix.lower() in SUFFIXES or entry.is_dir()
        ]
    except OSError:
        names = []
    place = "the current folder" if str(folder) == "." else str(folder)
    near = nearest(path.name, names)
    if near:
        return f"there is no such file. Near it in {place}: {', '.join(near)}."
    recipes = sorted(name for name in names if name.lower().endswith(SUFFIXES))[:5]
    found = f"In {place} are: {', '.join(recipes)}." if recipes else f"In {place} is no recipe."
    return f"there is no such file. {found}"


def _decode(data: bytes, name: str) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise RecipeError("it is UTF-16; save it as UTF-8.", name)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"it is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start} ({error.reason}). "
            "Save the file as UTF-8.",
            name,
            data.count(b"\n", 0, error.start) + 1,
        ) from None


def _normalize(text: str, name: str, *, markdown: bool) -> str:
    r"""Check the size, make line ends `\n`, and leave only the front matter where there is one."""
    if len(text) > MAX_SIZE:
        raise RecipeError(f"it has more than {MAX_SIZE} characters; a recipe has a few thousand.", name)
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise RecipeError("it is empty. A recipe holds at least one list of modifiers.", name)
    if markdown or (name == INLINE and text.lstrip().startswith(_FENCES)):
        return _front_matter(text, name, required=markdown)
    return text


def _front_matter(text: str, name: str, *, required: bool) -> str:
    """Blank everything but the YAML between the first two `---` (or `+++`) lines."""
    lines = text.split("\n")
    opening = next(index for index, line in enumerate(lines) if line.strip())
    fence = lines[opening].strip()
    if fence not in _FENCES:
        if not required:
            return text
        raise RecipeError(
            "Markdown without front matter. A recipe in Markdown begins with a line ---, then the YAML, "
            f"then a line --- again; found {clipped(lines[opening])}.",
            name,
            opening + 1,
        )
    rest = range(opening + 1, len(lines))
    closing = next((index for index in rest if lines[index].rstrip() == fence), None)
    if closing is None:
        if not required and fence == "---":
            return text  # YAML's own document marker
        raise RecipeError(
            f"the front matter that begins here has no closing line {fence}.", name, opening + 1
        )
    return "\n" * (opening + 1) + "\n".join(lines[opening + 1 : closing]) + "\n" * (len(lines) - closing)


def clipped(text: str) -> str:
    """The repr of a text for a message, cut to 60 characters."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
