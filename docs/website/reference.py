"""The reference's pages: which names of which modules; their text is taken from docstrings when the site is built."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from repository import ROOT

# Title, introduction, and modules with the names shown of each; none: `__all__`, or what a module without it defines.
PAGES: dict[str, tuple[str, str, dict[str, Sequence[str]]]] = {
    "deepsparse": (
        "deepsparse",
        "Text in, labels out, from an exported folder. Imports neither PyTorch nor `sparseml`. "
        "[In a program, as a service](../serving.md) shows it at work.",
        {
            "deepsparse": (
                "Pipeline",
                "TextClassificationPipeline",
                "TextClassificationOutput",
                "Prediction",
                "Scorer",
                "Engine",
                "compile_model",
                "DeepsparseError",
                "InputError",
                "ModelError",
                "EngineError",
            ),
            "deepsparse.explain": ("explain", "Explanation"),
        },
    ),
    "sparseml": (
        "sparseml",
        "Training and export. [From Python](../python.md) shows it at work. `main` of "
        "`sparseml.transformers.text_classification`, `.question_answering` and `.masked_language_modeling` is "
        "`sparseml.training.run.main` without its first argument.",
        {
            "sparseml.training.run": ("main",),
            "sparseml.transformers.export": ("main",),
            "sparseml.transformers": (),
            "sparseml.session.models": ("load_trained",),
            "sparseml.data": (),
            "sparseml.recipe": (),
        },
    ),
    "sparsezoo": (
        "sparsezoo",
        "From stubs to files, wherever they are now.",
        {"sparsezoo": ()},
    ),
    "extending": (
        "Extending it",
        "What to subclass for a modifier, a task or an engine of your own. "
        "[How it is built](../architecture.md#to-add) says which list it goes into.",
        {
            "sparseml.modifiers": ("Modifier", "Run", "Clock"),
            "sparseml.tasks.base": (),
            "deepsparse.tasks.base": (),
            "deepsparse.backends.base": (),
            "resparse.errors": ("UserError",),
        },
    ),
}


def page(name: str) -> str:
    """A reference page's Markdown."""
    title, introduction, modules = PAGES[name]
    parts = [f"# {title}", introduction]
    for module, chosen in modules.items():
        names = chosen or exported(module)
        if names:
            parts += [f"## {module}", *(_directive(f"{module}.{one}", level=3) for one in names)]
        else:
            parts.append(_directive(module, level=2))
    return "\n\n".join(parts) + "\n"


def exported(module: str) -> list[str]:
    """The names in a module's `__all__`, errors last, without its version; none where it has no such list."""
    place = ROOT / "src" / module.replace(".", "/")
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names = [name for name in ast.literal_eval(node.value) if not name.startswith("_")]
            return sorted(names, key=lambda name: name.endswith("Error"))
    return []


def _directive(what: str, level: int) -> str:
    lines = [f"::: {what}", "    options:", f"      heading_level: {level}"]
    if level == 2:
        lines += ["      members: true", "      show_root_full_path: true"]
    return "\n".join(lines)
