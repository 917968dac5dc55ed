"""The frame of a page and its parts: one HTML file without scripts, and without anything from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files


def document(name: str, about: str, head: str, sections: Sequence[str]) -> str:
    """A whole page.

    Args:
        name: its title.
        about: a line below it.
        head: HTML above the sections, such as tiles.
        sections: of `section`; empty ones are left out.
    """
    style = files("sparseml.report_page").joinpath("page.css").read_text(encoding="utf-8")
    name, newline = escape(name), "\n"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{name}</title>\n<link rel="icon" href="data:,">\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n'
        f"<h1>{name}</h1>\n<p>{escape(about)}</p>\n"
        f"{head}\n"
        f'<div class="cards">\n{newline.join(filter(None, sections))}\n</div>\n</main>\n</body>\n</html>\n'
    )


def section(title: str, said: str, body: str, wide: bool = False) -> str:
    """A card: title, a line about it, and HTML."""
    text = f"<p>{escape(said)}</p>" if said else ""
    return f"<section{' class=wide' if wide else ''}><h2>{escape(title)}</h2>{text}{body}</section>"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of text."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
