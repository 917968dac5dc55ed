"""An explanation shown: as coloured text with a table in the terminal, and as a page that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from rich.console import Group
from rich.text import Text

from deepsparse.explain import Explanation, Weight
from resparse.console import aligned

# Darker for stronger parts: background colours of the terminal, by how far a part is from 0 to the strongest.
_FOR = ("on #10331a", "on #17522a", "on #1e7a3c", "bold on #239a4a")
_AGAINST = ("on #3a1414", "on #5e1c1c", "on #8c2626", "bold on #b53030")
_WEAKEST = 0.05

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{label}: why</title>
<style>
  :root {{ color-scheme: light dark; }}
  body {{ font: 16px/1.7 system-ui, sans-serif; max-width: 44rem; margin: 2.5rem auto; padding: 0 1rem; }}
  h1 {{ font-size: 1.3rem; }}
  p.text {{ white-space: pre-wrap; overflow-wrap: anywhere; }}
  mark {{ color: inherit; border-radius: .2rem; padding: .1rem 0; }}
  table {{ border-collapse: collapse; }}
  td, th {{ text-align: left; padding: .15rem 1rem .15rem 0; }}
  td:not(:first-child) {{ text-align: right; font-variant-numeric: tabular-nums; }}
  footer {{ font-size: .85rem; opacity: .75; }}
</style>
</head>
<body>
<h1>{label} <small>{score}</small></h1>
{texts}
<table><tr><th>words</th><th>score</th><th>log odds</th></tr>
{rows}
</table>
<footer>Green speaks for {label}, red against it: what the score loses without these words. {answers:,} answers of the
model; words left out one part at a time.</footer>
</body>
</html>
"""


def shown(explanation: Explanation, top_k: int) -> Group:
    """For the terminal: the text with its words coloured, and the `top_k` strongest in a table."""
    head = Text.assemble((explanation.label, "bold"), f"  {explanation.score:.4f}")
    texts = [_coloured(explanation, index) for index in range(len(explanation.texts))]
    rows = [
        (_short(part.word), f"{part.drop:+.4f}", f"{part.evidence:+.3f}")
        for part in explanation.strongest(top_k)
    ]
    return Group(head, *texts, Text(""), aligned(rows, ("words", "score", "log odds")))


def page(explanation: Explanation, top_k: int) -> str:
    """A page in HTML that loads nothing."""
    texts = [
        f'<p class="text" dir="auto">{"".join(_marked(explanation, index))}</p>'
        for index in range(len(explanation.texts))
    ]
    rows = [
        f'<tr><td dir="auto">{escape(_short(part.word))}</td>'
        f"<td>{part.drop:+.4f}</td><td>{part.evidence:+.3f}</td></tr>"
        for part in explanation.strongest(top_k)
    ]
    return _PAGE.format(
        label=escape(explanation.label),
        score=f"{explanation.score:.4f}",
        texts="\n".join(texts),
        rows="\n".join(rows),
        answers=explanation.answers,
    )


def strengths(explanation: Explanation) -> dict[Weight, float]:
    """How strong each part is, from -1 (most against the label) to 1, by the strongest."""
    greatest = max((abs(part.evidence) for part in explanation.parts), default=0.0)
    return {part: part.evidence / greatest if greatest else 0.0 for part in explanation.parts}


def _pieces(explanation: Explanation, text: int) -> Iterator[tuple[str, Weight | None]]:
    """A text in order, in parts that were weighed and what is between them."""
    whole, place = explanation.texts[text], 0
    for part in explanation.parts:
        if part.text == text:
            yield whole[place : part.start], None
            yield part.word, part
            place = part.end
    yield whole[place:], None


def _coloured(explanation: Explanation, text: int) -> Text:
    strength, found = strengths(explanation), Text()
    for piece, part in _pieces(explanation, text):
        share = 0.0 if part is None else strength[part]
        styles = _FOR if share > 0 else _AGAINST
        style = styles[min(int(abs(share) * len(styles)), len(styles) - 1)] if abs(share) >= _WEAKEST else ""
        found.append(piece, style)
    return found


def _marked(explanation: Explanation, text: int) -> Iterator[str]:
    strength = strengths(explanation)
    for piece, part in _pieces(explanation, text):
        share = 0.0 if part is None else strength[part]
        if part is None or abs(share) < _WEAKEST:
            yield escape(piece)
            continue
        colour = "46, 160, 67" if share > 0 else "218, 54, 51"
        title = f"{part.drop:+.4f}, log odds {part.evidence:+.3f}"
        style = f"background: rgba({colour}, {0.75 * abs(share):.2f})"
        yield f'<mark title="{title}" style="{style}">{escape(piece)}</mark>'


def _short(word: str, most: int = 60) -> str:
    word = " ".join(word.split())
    return word if len(word) <= most else f"{word[: most // 2 - 2]} ... {word[-(most // 2 - 3) :]}"
