"""Writes the parts of the pages that follow from the code, and the plots: `python docs/generate.py`.

A page marks such a part with `<!-- generated: NAME -->` and `<!-- end -->`; what stands between is made anew. The tests
compare the committed pages with what this program makes, so that a page cannot fall behind the code.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from former import TABLES
from plots import PLOTS, RESULTS
from pydantic.fields import FieldInfo

from deepsparse.server.config import EndpointConfig, ServerConfig
from deepsparse.server.endpoints import Metrics
from sparseml.modifiers import MODIFIERS, Modifier
from sparseml.modifiers.pruning import GradualPruningModifier
from sparseml.recipe.expression import FUNCTIONS
from sparseml.recipe_verbs import kind_in_words

FOLDER = Path(__file__).parent
PAGES = ("benchmarks.md", "migration.md", "recipes.md", "serving.md")
_PART = re.compile(r"(<!-- generated: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> None:
    """Make every generated part anew, in place."""
    for name in PAGES:
        page = FOLDER / name
        page.write_text(rendered(page.read_text(encoding="utf-8")), encoding="utf-8")
    for name, make in PLOTS.items():
        (FOLDER / "plots" / f"{name}.svg").write_text(make(), encoding="utf-8")


def rendered(page: str) -> str:
    """A page's text with its generated parts as they should be."""
    return _PART.sub(lambda part: f"{part[1]}\n{PARTS[part[2]]()}\n\n{part[3]}", page)


def modifiers() -> str:
    """Every modifier with its fields, from the classes themselves; what all have in common once."""
    parts = [
        "### What every modifier takes\n\n" + _fields(Modifier),
        "### What every gradual pruning takes\n\n" + _fields(GradualPruningModifier, besides=Modifier),
    ]
    for tag, modifier in MODIFIERS.items():
        text = _marked(inspect.cleandoc(modifier.__doc__ or ""))
        shared = GradualPruningModifier if issubclass(modifier, GradualPruningModifier) else Modifier
        parts.append(f"### !{tag}\n\n{text}\n\n{_fields(modifier, besides=shared)}")
    return "\n\n".join(parts)


def functions() -> str:
    """The functions that an expression may call."""
    return ", ".join(f"`{name}`" for name in sorted(FUNCTIONS))


def server_config() -> str:
    """The fields of the server's configuration, with the sentences of its classes."""
    rows = []
    for prefix, model in (("", ServerConfig), ("endpoints[].", EndpointConfig)):
        said = _attributes(model)
        for name, field in model.model_fields.items():
            if name in said:
                rows.append((f"`{prefix}{name}`", _default(field), said[name].rstrip(".")))
    return table(("field", "default", "meaning"), rows)


def metrics() -> str:
    """What the server counts."""
    families = Metrics()._registry.collect()
    named = (
        (f"{family.name}_total" if family.type == "counter" else family.name, family) for family in families
    )
    rows = [(f"`{name}`", family.type, family.documentation) for name, family in named]
    return table(("metric", "kind", "meaning"), rows)


def results() -> str:
    """Every table of the benchmarks, by its own title."""
    rows = []
    for path in sorted(RESULTS.rglob("*.md")):
        place = path.relative_to(RESULTS)
        title = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        processor = "" if place.parent == Path() else place.parent.name
        rows.append((f"[{place.stem}](../benchmarks/results/{place.as_posix()})", title, processor or "-"))
    return table(("table", "what", "processor"), rows)


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _fields(modifier: type[Modifier], besides: type[Modifier] | None = None) -> str:
    """A table of a modifier's fields, without those that it has unchanged from `besides`."""
    inherited = besides.model_fields if besides else {}
    rows = []
    for name, field in modifier.model_fields.items():
        row = (f"`{name}`", _marked(_kind(field)), _default(field), _marked(field.description or ""))
        if name not in inherited or inherited[name].description != field.description:
            rows.append(row)
    return table(("field", "kind", "default", "meaning"), rows) if rows else "It has no fields of its own."


def _kind(field: FieldInfo) -> str:
    """Kind of value, with its bounds."""
    bounds = {
        name: getattr(constraint, name)
        for constraint in field.metadata
        for name in ("ge", "gt", "le")
        if getattr(constraint, name, None) is not None
    }
    words = {"ge": "from {}", "gt": "above {}", "le": "to {}"}
    return " ".join([kind_in_words(field.annotation), *(words[name].format(bounds[name]) for name in bounds)])


def _marked(text: str) -> str:
    """Words of the language set as code: Markdown would print `__ALL__` bold."""
    return re.sub(r"(?<![`\w])__\w+__", r"`\g<0>`", text)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value in ({}, []):
        return "-"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _attributes(model: type) -> dict[str, str]:
    """The sentences of a docstring's `Attributes:`, by name."""
    listed = inspect.cleandoc(model.__doc__ or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^ {4}(\w[\w, ]*): (.+(?:\n {8}.+)*)", listed, re.MULTILINE)
    return {name: " ".join(text.split()) for names, text in entries for name in names.split(", ")}


PARTS: Mapping[str, Callable[[], str]] = {
    "modifiers": modifiers,
    "functions": functions,
    "server-config": server_config,
    "metrics": metrics,
    "results": results,
    **{name: (lambda make=make: table(("there", "here", "note"), make())) for name, make in TABLES.items()},
}

if __name__ == "__main__":
    main()
