"""The documentation's site: its navigation, where files stand in it, links, plots; built where MkDocs is installed."""

from __future__ import annotations

import os
import posixpath
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from support.pages import ROOT

sys.path.insert(0, str(ROOT / "docs"))
sys.path.insert(0, str(ROOT / "docs" / "website"))

import plots
import reference
import repository

PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))
ADDED = repository.reachable([*PAGES, *repository.PAGES])
MKDOCS = shutil.which("mkdocs", path=f"{ROOT / '.venv-site' / 'bin'}{os.pathsep}{os.environ['PATH']}")


class _Loader(yaml.SafeLoader):
    """Reads a configuration with MkDocs' own tags, whose values do not matter here."""


_Loader.add_multi_constructor("!", lambda *_: None)
_Loader.add_multi_constructor("tag:yaml.org,2002:python", lambda *_: None)


def in_nav(node: Any) -> list[str]:
    """The pages of a part of the navigation."""
    if isinstance(node, str):
        return [node]
    return [page for child in (node.values() if isinstance(node, dict) else node) for page in in_nav(child)]


def test_every_page_is_in_the_navigation_once() -> None:
    nav = in_nav(yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), _Loader)["nav"])
    wanted = [page.removeprefix("docs/") for page in PAGES]
    wanted += [*repository.PAGES.values(), *(f"reference/{name}.md" for name in reference.PAGES)]
    missing = sorted({*wanted} - {*nav})
    assert not missing, f"add to `nav` in mkdocs.yml: {', '.join(missing)}"
    assert sorted(nav) == sorted(wanted)


@pytest.mark.parametrize("file", [*PAGES, *sorted(file for file in ADDED if file.endswith(".md"))])
def test_links_lead_to_pages_of_the_site(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    site = {repository.site_path(one) for one in [*PAGES, *ADDED]}
    plotted = {f"plots/{name}.svg" for name in plots.PLOTS}
    here = posixpath.dirname(repository.site_path(file))
    for target in repository.targets(repository.linked(text, file), f"{here}/page.md" if here else "page.md"):
        assert target in site | plotted, target


def test_places_are_found_again() -> None:
    for file in [*PAGES, *(file for file in ADDED if not file.endswith(repository.IMAGES))]:
        assert repository.repository_path(repository.site_path(file)) == file


def test_links_in_blocks_stay() -> None:
    text = (
        "[a](../README.md#pages)\n\n```\n[b](../README.md)\n```\n[c](https://example.org/x.md) [d](#here)\n"
    )
    assert repository.linked(text, "docs/new.md") == text.replace("../README.md#pages", "index.md#pages")


@pytest.mark.parametrize("name", plots.PLOTS)
def test_plots_are_what_the_program_makes(name: str) -> None:
    text = (ROOT / "docs" / "plots" / f"{name}.svg").read_text(encoding="utf-8")
    assert text == plots.PLOTS[name](), "run: python docs/generate.py"
    drawing = ElementTree.fromstring(text)
    _, _, width, height = map(float, drawing.attrib["viewBox"].split())
    for rect in drawing.iter("{http://www.w3.org/2000/svg}rect"):
        assert float(rect.attrib["x"]) + float(rect.attrib["width"]) <= width
        assert float(rect.attrib["y"]) <= height
    assert f"(plots/{name}.svg)" in (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.skipif(MKDOCS is None, reason="MkDocs is not installed: make site")
def test_it_builds_without_a_warning(tmp_path: Path) -> None:
    command = [str(MKDOCS), "build", "--quiet", "--site-dir", str(tmp_path)]
    variables = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr.strip(), done.stderr
    start = (tmp_path / "reference" / "deepsparse.html").read_text(encoding="utf-8")
    assert "Make a pipeline." in start
    home = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'href="benchmarks/programs.html' in home
    plotted = (tmp_path / "benchmarks.html").read_text(encoding="utf-8")
    assert plotted.count('<svg xmlns="http://www.w3.org/2000/svg" class="plot"') == len(plots.PLOTS)
    assert '[data-md-color-scheme="slate"] svg.plot' in plotted
    outside = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', home + plotted)
    assert outside == [], "a page fetches something from elsewhere"
