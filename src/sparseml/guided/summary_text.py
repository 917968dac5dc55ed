"""The facts of `summary`, and of size and speed, as lines for a terminal and a text file."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sparseml.data.label_encoding import MULTI, REGRESSION
from sparseml.data.rows import labels_text, rows_text

_WIDTH: Final = 100
_MOST_IN_MATRIX: Final = 30
_MOST_LABELS: Final = 40
_LONGEST_NAME: Final = 24
_LONGEST_TEXT: Final = 300


def lines(facts: Mapping[str, Any], width: int = _WIDTH) -> list[str]:
    """The lines of the whole summary, of at most `width` characters.

    Of `facts`, "answers" are those of `summary.facts`; the others come from `conclusion`.
    """
    results = facts["answers"]
    title = f"{facts['name']}: {_problem(results)}, learned from {rows_text(facts['train_rows'])}"
    parts = [[title], [*_scores(results, facts["rows_called"]), *_calibration(facts)], _advice(facts)]
    if results["kind"] == MULTI:
        parts.append(_label_table(results))
    elif results["kind"] != REGRESSION:
        table = matrix(results["confusion"], width)
        parts += [table or _classes(results["confusion"]), _confused(results)]
    parts += [size_and_speed(facts), _examples(results, width), next_commands(facts)]
    return paragraphs(parts)


def next_commands(facts: Mapping[str, Any]) -> list[str]:
    """The commands that come next."""
    steps = facts["next"].items()
    return [line for title, words in steps for line in (f"{title}:", f"  {shlex.join(words)}")]


def paragraphs(parts: Sequence[list[str]]) -> list[str]:
    """The lines of several parts, with an empty one between those that have any."""
    return [line for index, part in enumerate(filter(None, parts)) for line in ([""] if index else []) + part]


def _problem(results: Mapping[str, Any]) -> str:
    if results["kind"] == REGRESSION:
        low, high = results["range"]
        return f"a score from {low:g} to {high:g}"
    if results["kind"] == MULTI:
        return f"any of {len(results['labels'])} labels"
    return f"one of {len(results['confusion'])} classes"


def _scores(results: Mapping[str, Any], called: str) -> list[str]:
    rows = f"{rows_text(results['rows'])} ({called})"
    if results["kind"] == REGRESSION:
        baseline = f"on {rows}; always the middle score: {results['mae_of_median']:.3f}"
        return _table(
            ("mean error", f"{results['mae']:.3f}", baseline),
            ("Pearson", f"{results['pearson']:.3f}", ""),
            ("Spearman", f"{results['spearmanr']:.3f}", ""),
        )
    if results["kind"] == MULTI:
        own = results["threshold"]
        above = f"a label counts where its probability is above {'its own' if isinstance(own, dict) else f'{own:g}'}"
        return _table(
            ("F1, all decisions", f"{results['f1_micro']:.1%}", above),
            ("F1, mean of labels", f"{results['f1_macro']:.1%}", ""),
            ("all labels right", f"{results['exact']:.1%}", f"of {rows}"),
        )
    margin = f"of {rows}, give or take {100 * results['margin']:.0f} points"
    common = results["commonest"]
    return _table(
        ("accuracy", f"{results['accuracy']:.1%}", margin),
        ("always the commonest", f"{common['share']:.1%}", f"which is {common['label']}"),
        ("F1, mean of classes", f"{results['f1_macro']:.1%}", ""),
    )


def _calibration(facts: Mapping[str, Any]) -> list[str]:
    """How honest the probabilities are, and on which rows thresholds were chosen; [] where nothing was fitted."""
    fitted = facts.get("calibration") or {}
    temperature = fitted.get("temperature") or {}
    found = []
    if temperature.get("value") is not None:
        before, after = (f"{temperature[when]['ece']:.1%}" for when in ("before", "after"))
        found.append(
            f"A probability is {after} off how often it comes true, by the validation rows ({before} before a "
            f"temperature of {temperature['value']:.2f}, which is deployed)."
        )
    if "thresholds" in fitted:
        found.append("The threshold of each label is that of its greatest F1 on the validation rows.")
        if facts["rows_called"].startswith("validation"):
            found.append("These are the rows above: expect a little less of others, or give a --test_file.")
    return found


def _advice(facts: Mapping[str, Any]) -> list[str]:
    """What to do where nothing was learned."""
    if facts["answers"]["learned"]:
        return []
    advice = "More rows help most; look whether text and label columns are the right ones."
    return textwrap.wrap(f"It has learned next to nothing. {facts.get('hint') or advice}", _WIDTH)


def matrix(confusion: Mapping[str, Mapping[str, int]], width: int = _WIDTH) -> list[str]:
    """The confusion matrix, a row for each true class; zeros are dots, so that mistakes stand out; [] if too wide."""
    names = list(confusion)
    shown = [_shortened(name) for name in names]
    counts = [[confusion[true][taken] for taken in names] for true in names]
    digits = max(len(str(count)) for row in counts for count in row)
    left = max(map(len, shown))
    heads = shown
    if left + sum(max(len(name), digits) + 2 for name in shown) + 7 > width:
        heads = [str(number) for number in range(1, len(names) + 1)]
        shown = [f"{number:>{len(heads[-1])}} {name}" for number, name in zip(heads, shown, strict=True)]
        left = max(map(len, shown))
    sizes = [max(len(head), digits) for head in heads]
    if len(names) > _MOST_IN_MATRIX or left + sum(sizes) + 2 * len(sizes) + 7 > width:
        return []
    rendered = [_line("true \\ predicted" if left >= 16 else "", left, heads, sizes, "right")]
    for place, (name, row) in enumerate(zip(shown, counts, strict=True)):
        total = sum(row)
        cells = [str(count) if count else "." for count in row]
        rendered.append(_line(name, left, cells, sizes, f"{row[place] / total:.0%}" if total else "-"))
    if left < 16:
        rendered.insert(0, f"{'':{left}}  predicted (a line for each true class)")
    return rendered


def _line(name: str, left: int, cells: Sequence[str], sizes: Sequence[int], right: str) -> str:
    middle = "".join(f"  {cell:>{size}}" for cell, size in zip(cells, sizes, strict=True))
    return f"{name:{left}}{middle}  {right:>5}"


def _classes(confusion: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A line for each class, where a matrix does not fit; of very many, the worst."""
    right = {name: row[name] / max(sum(row.values()), 1) for name, row in confusion.items()}
    ranked = [name for name in confusion if sum(confusion[name].values())]
    if len(ranked) > _MOST_IN_MATRIX:
        ranked = sorted(ranked, key=right.__getitem__)[:_MOST_IN_MATRIX]
    left = max((len(_shortened(name)) for name in ranked), default=0)
    rendered = [f"{'class':{left}}  {'rows':>6}  right  taken for"]
    for name in ranked:
        taken = sorted(
            ((rows, other) for other, rows in confusion[name].items() if other != name and rows), reverse=True
        )
        listed = ", ".join(f"{_shortened(other)} ({rows:,})" for rows, other in taken[:2])
        rendered.append(
            f"{_shortened(name):{left}}  {sum(confusion[name].values()):>6,}  {right[name]:>5.0%}  {listed}".rstrip()
        )
    rest = sum(map(bool, (sum(row.values()) for row in confusion.values()))) - len(ranked)
    return rendered + ([f"and {rest} better ones, in report.json"] if rest > 0 else [])


def _confused(results: Mapping[str, Any]) -> list[str]:
    """The pairs that are confused most; of few classes the matrix is enough."""
    classes = len(results["confusion"])
    repeated = [pair for pair in results["confused"] if pair["rows"] > 1 or classes > _MOST_IN_MATRIX]
    if classes <= 5 or not repeated:
        return []
    most = 5 if classes <= _MOST_IN_MATRIX else 10
    rows = [
        (f"{_shortened(pair['label'])} taken for {_shortened(pair['predicted'])}", str(pair["rows"]), "")
        for pair in repeated[:most]
    ]
    return ["most confused:", *_table(*rows, indent="  ")]


def _label_table(results: Mapping[str, Any]) -> list[str]:
    ranked = sorted(results["labels"], key=lambda entry: -int(entry["rows"]))
    left = max(len(_shortened(entry["label"])) for entry in ranked)
    rendered = [f"{'label':{left}}  {'rows':>6}  precision  recall     F1"]
    for entry in ranked[:_MOST_LABELS]:
        scores = [f"{entry[name]:.0%}" if entry["rows"] else "-" for name in ("precision", "recall", "f1")]
        cells = "  ".join(f"{score:>{size}}" for score, size in zip(scores, (9, 6, 5), strict=True))
        rendered.append(f"{_shortened(entry['label']):{left}}  {entry['rows']:>6,}  {cells}")
    rest = len(ranked) - _MOST_LABELS
    return rendered + ([f"and {rest} rarer ones, in report.json"] if rest > 0 else [])


def size_and_speed(facts: Mapping[str, Any]) -> list[str]:
    """What the exported model weighs, how fast it is, and that it was checked."""
    size, speed, check = facts["size"], facts["speed"], facts["check"]
    compressed, dense, stored = (
        f"{size[f'{kind}_bytes'] / 1e6:.1f} MB" for kind in ("compressed", "dense", "stored")
    )
    cores = f"{speed['cores']} core{'s' if speed['cores'] > 1 else ''}"
    measured = f"from text to label ({speed['engine']}, {cores}, {speed['cpu']})"
    agreement = (
        f"of {labels_text(check.get('labels', check['rows']), check['rows'])}: ONNX and PyTorch say the same"
    )
    return _table(
        ("size", compressed, f"compressed; dense {dense}, the file {stored}"),
        ("latency here", f"{speed['median_ms']:.2f} ms", f"median for one of your texts, {measured}"),
        ("throughput here", f"{speed['texts_per_second']:,.0f}/s", "many texts at once"),
        ("checked", f"{check['label_agreement']:.1%}", agreement),
    )


def _examples(results: Mapping[str, Any], width: int) -> list[str]:
    if not results["wrong"]:
        return [f"All {rows_text(results['rows'])} are right: try it on rows that are harder."]
    rendered = ["furthest off:" if results["kind"] == REGRESSION else "surest mistakes:"]
    for entry in results["wrong"]:
        text = " || ".join(" ".join(part.split()) for part in entry["text"])
        quoted = f'"{_shortened(text, _LONGEST_TEXT)}"'
        rendered += textwrap.wrap(quoted, width - 2, initial_indent="  ", subsequent_indent="   ")
        verdict = textwrap.wrap(_verdict(results["kind"], entry), width - 4)
        rendered += [f"    {line}" for line in verdict]
    return rendered


def _verdict(kind: str, entry: Mapping[str, Any]) -> str:
    if kind == REGRESSION:
        return f"is {entry['label']:.3g}, predicted {entry['predicted']:.3g}"
    if kind == MULTI:
        listed = ", ".join(f"{name} ({share:.0%})" for name, share in entry["score"].items())
        return f"is {', '.join(entry['label']) or 'nothing'}; predicted {listed or 'nothing'}"
    return f"is {entry['label']}, predicted {entry['predicted']} ({entry['score']:.0%} sure)"


def _table(*rows: tuple[str, str, str], indent: str = "") -> list[str]:
    """Names, values aligned right, and remarks."""
    left, middle = (max(len(row[place]) for row in rows) for place in (0, 1))
    return [f"{indent}{name:{left}}  {value:>{middle}}  {remark}".rstrip() for name, value, remark in rows]


def _shortened(text: str, most: int = _LONGEST_NAME) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
