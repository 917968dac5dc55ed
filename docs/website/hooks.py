"""What MkDocs does not do by itself: pages from outside docs/, the reference's, plots in the chosen colors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import reference
import repository
from mkdocs.structure.files import File, Files

_PLOT = re.compile(r"^!\[[^\]]*\]\(plots/([\w-]+\.svg)\)$", re.MULTILINE)
_DARK = re.compile(r"@media \(prefers-color-scheme: dark\) \{ (svg\.plot \{[^}]*\}) \}")


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages that no file in docs/ is."""
    starts = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    for file in sorted(repository.reachable([*starts, *repository.PAGES])):
        path = repository.ROOT / file
        if file.endswith((".md", *repository.IMAGES)):
            content: bytes | str = path.read_bytes()
        else:
            content = repository.source_page(file)
        files.append(File.generated(config, repository.site_path(file), content=content))
    for name in reference.PAGES:
        files.append(File.generated(config, f"reference/{name}.md", content=reference.page(name)))
    style = Path(__file__).with_name("site.css").read_text(encoding="utf-8")
    files.append(File.generated(config, "website/site.css", content=style))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Links as the site needs them, and plots in the page, where they take its color scheme."""
    place = page.file.src_uri
    if place == "index.md":
        page.meta["hide"] = ["navigation"]  # a column that would hold the page itself
    if place.startswith(("reference/", "source/")):
        return markdown
    markdown = repository.linked(markdown, repository.repository_path(place))
    return _PLOT.sub(lambda match: _inline(Path(config.docs_dir) / "plots" / match[1]), markdown)


def _inline(file: Path) -> str:
    """A plot as a part of the page. Alone it follows the system's color scheme, here the one that is chosen."""
    plot = _DARK.sub(r'[data-md-color-scheme="slate"] \1', file.read_text(encoding="utf-8"))
    return f"<div>\n{plot}</div>"
