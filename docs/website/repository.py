"""Where files of the repository stand in the site, and links between them; knows no site generator."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]

# Pages outside docs/, by their place in the site. Tables of results keep their place.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks/programs.md",
}
IMAGES = (".png", ".svg")
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#|/)([^)\s#]+)(#[^)\s]*)?(?=\))")


def site_path(file: str) -> str:
    """The page of the site that a file of the repository is.

    Args:
        file: relative to the root. Images stay what they are; another text becomes a page that shows it.
    """
    if file in PAGES:
        return PAGES[file]
    if file.startswith("docs/"):
        return file.removeprefix("docs/")
    return file if file.startswith("benchmarks/results/") or file.endswith(IMAGES) else f"source/{file}.md"


def repository_path(page: str) -> str:
    """The file that a page of the site is; the inverse of `site_path`."""
    for file, there in PAGES.items():
        if page == there:
            return file
    if page.startswith("source/"):
        return page.removeprefix("source/").removesuffix(".md")
    return page if page.startswith("benchmarks/results/") else f"docs/{page}"


def targets(text: str, file: str) -> list[str]:
    """The files that a page links to, relative to the root; outside fenced blocks. They need not exist."""
    found: list[str] = []

    def note(target: str) -> str:
        found.append(target)
        return target

    _with_links(text, file, note)
    return found


def linked(text: str, file: str) -> str:
    """A page's text with its links as the site needs them: what exists leads to its page there."""

    def place(target: str) -> str:
        if not (ROOT / target).is_file():
            return target  # left to the site generator, which reports it
        here = PurePosixPath(site_path(file)).parent
        return os.path.relpath(site_path(target), here)

    return _with_links(text, file, place)


def reachable(starts: Iterable[str]) -> set[str]:
    """Files outside docs/ that pages link to, and those that these link to; `starts` included."""
    found: set[str] = set()
    waiting = list(starts)
    while waiting:
        file = waiting.pop()
        if file in found or not (ROOT / file).is_file():
            continue
        found.add(file)
        if file.endswith(".md"):
            waiting += targets((ROOT / file).read_text(encoding="utf-8"), file)
    return {file for file in found if not file.startswith("docs/")}


def source_page(file: str) -> str:
    """A page that shows a file as it is."""
    text = (ROOT / file).read_text(encoding="utf-8")
    ticks = "`" * (max((len(run) for run in re.findall("`+", text)), default=2) + 1)
    language = {".py": "python", ".c": "c", ".h": "c", ".yml": "yaml", ".yaml": "yaml"}.get(
        Path(file).suffix, "text"
    )
    return f"---\nsearch:\n  exclude: true\n---\n\n# {file}\n\n{ticks}{language}\n{text.rstrip()}\n{ticks}\n"


def _with_links(text: str, file: str, change: Callable[[str], str]) -> str:
    folder = PurePosixPath(file).parent

    def one(link: re.Match[str]) -> str:
        target = os.path.normpath(folder / link[1]).replace(os.sep, "/")
        return f"{change(target)}{link[2] or ''}"

    parts = _FENCE.split(text)
    return "".join(part if part.startswith("```") else _LINK.sub(one, part) for part in parts)
