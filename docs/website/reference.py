"""The reference's pages: which names of which modules; their text is taken from docstrings when the site is built."""

from __future__ import annotations

from collections.abc import Sequence

# Title, introduction, and modules with the names shown of each; none: all that the module exports.
PAGES: dict[str, tuple[str, str, dict[str, Sequence[str]]]] = {
    "deepsparse": (
        "deepsparse",
        "Text in, labels out, from an exported folder. Imports neither PyTorch nor `sparseml`. "
        "[In a program, as a service](../serving.md) shows it at work.",
        {
            "deepsparse": (
                "Pipeline",
                "Engine",
                "compile_model",
                "Scorer",
                "Prediction",
                "TextClassificationPipeline",
                "TextClassificationOutput",
            ),
            "deepsparse.explain": ("explain", "Explanation"),
            "deepsparse.errors": (),
        },
    ),
    "sparseml": (
        "sparseml",
        "Training and export. [From Python](../python.md) shows it at work. `main` of "
        "`sparseml.transformers.text_classification`, `.question_answering` and `.masked_language_modeling` is "
        "`TrainingCommand.main`, of the task.",
        {
            "sparseml.transformers.training_command": ("TrainingCommand",),
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
    for module, names in modules.items():
        if names:
            parts += [f"## {module}", *(_directive(f"{module}.{one}", level=3) for one in names)]
        else:
            parts.append(_directive(module, level=2))
    return "\n\n".join(parts) + "\n"


def _directive(what: str, level: int) -> str:
    lines = [f"::: {what}", "    options:", f"      heading_level: {level}"]
    if level == 2:
        lines += ["      members: true", "      show_root_full_path: true"]
    return "\n".join(lines)
