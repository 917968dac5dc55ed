"""The page: one HTML file without scripts, and without anything from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from sparseml.command_text import wrapped
from sparseml.guided.summary import confused
from sparseml.metrics import main_metrics
from sparseml.report_page import svg
from sparseml.report_page.facts import Evaluation, Facts, Series, export_size, well_formed
from sparseml.report_page.html import document
from sparseml.report_page.html import section as _section
from sparseml.report_page.html import table as _table
from sparseml.report_page.latency import Latency

MOST_CLASSES = 30
"""Up to so many classes a confusion matrix is readable; of more, the pairs that are confused most."""

_MOST_LINES = 4


def page(facts: Facts, latency: Latency | None) -> str:
    """The whole page as text; a ReportError where the folder's report is damaged."""
    with well_formed(facts.folder):
        return _page(facts, latency)


def _page(facts: Facts, latency: Latency | None) -> str:
    plots = [
        *_over_time(facts),
        *(part for evaluation in facts.evaluations for part in _evaluation(evaluation)),
        _against_dense(facts, latency),
        _scores(facts.report["metrics"]),
        _layers(facts.report["layers"]),
        _made(facts),
        _missing(facts.missing),
    ]
    return document(facts.name, _about(facts.report), _tiles(facts, latency), plots)


def _about(report: Mapping[str, Any]) -> str:
    data = report.get("data", {})
    rows = ", ".join(f"{count:,} {split.replace('_', ' ')}" for split, count in data.get("rows", {}).items())
    parts = [
        f"{report['model']['class']} ({report['model']['architecture']})",
        f"started from {report['start']}" if report.get("start") else "",
        f"learned {data['name']} ({rows} {'rows' if data.get('labels') else 'files'})" if rows else "",
    ]
    return " · ".join(part for part in parts if part)


def _tiles(facts: Facts, latency: Latency | None) -> str:
    totals = facts.report["totals"]
    tiles = [_main_score(facts.report["metrics"])]
    tiles.append((f"{totals['prunable_sparsity']:.1%}", "zeros in Linear layers"))
    quantized = f"{totals['quantized_layers']} of {totals['quantizable_layers']}"
    tiles.append((quantized, "layers quantized to 8 bits"))
    times = totals["dense_bytes"] / max(totals["compressed_bytes"], 1)
    tiles.append((f"{times:.1f}×", f"smaller: {_megabytes(totals['compressed_bytes'])} compressed"))
    if latency is not None:
        tiles.append(
            (f"{latency.dense / latency.deployed:.1f}×", f"faster: {latency.deployed:.2f} ms for a text")
        )
    made = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(what)}</span></div>'
        for value, what in filter(None, tiles)
    )
    return f'<div class="tiles">{made}</div>'


def _main_score(metrics: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first score: of test rows, else of validation rows."""
    for prefix, rows in (("predict", "test rows"), ("eval", "validation rows")):
        for name in ("accuracy", "matthews_correlation", "f1_micro", "pearson", "accuracy_mm"):
            value = metrics.get(f"{prefix}_{name}")
            if isinstance(value, int | float):
                shown = f"{value:.1%}" if name in ("accuracy", "f1_micro") else f"{value:.3f}"
                return shown, f"{name.replace('_', ' ')}, {rows}"
    return None


def _over_time(facts: Facts) -> list[str]:
    loss = [series for series in (facts.loss, facts.eval_loss) if series is not None]
    scores = facts.scores[:_MOST_LINES]
    return [
        _plot("Loss", "As logged while training.", loss),
        _plot("Learning rate", "At every logged step.", [facts.rate] if facts.rate else [], zero=True),
        _plot(
            "Sparsity",
            "Zeros among the weights of all Linear layers.",
            [facts.sparsity] if facts.sparsity else [],
            zero=True,
            shares=True,
        ),
        _plot("Scores", "Of the validation rows, while training.", scores),
    ]


def _plot(title: str, said: str, found: Sequence[Series], zero: bool = False, shares: bool = False) -> str:
    if not found:
        return ""
    drawn = svg.lines(
        {series.name: series.points for series in found},
        y_format=svg.percent if shares else svg.number,
        zero=zero,
    )
    names = [(f"--s{index}", series.name) for index, series in enumerate(found, start=1)]
    return _section(title, said, (_legend(names) if len(names) > 1 else "") + drawn)


def _evaluation(found: Evaluation) -> list[str]:
    parts = []
    rows = f"{found.rows:,} rows: {found.rows_called}."
    if found.confusion is not None:
        parts.append(_confusion(found.confusion, rows))
    if found.labels is not None:
        parts.append(_labels(found.labels, rows))
    if found.answers is not None:
        lines = [(said, f"{count:,}", f"{count / found.rows:.1%}") for said, count in found.answers.items()]
        parts.append(_section("Answers", rows, _table(("answer", "questions", "share"), lines)))
    if found.entities is not None:
        types = [
            (
                str(row["type"]),
                f"{row['number']:,}",
                *(f"{row[name]:.1%}" for name in ("precision", "recall", "f1")),
            )
            for row in found.entities
        ]
        parts.append(
            _section("Entities", rows, _table(("type", "entities", "precision", "recall", "F1"), types))
        )
    bins = (found.calibration or {}).get("bins")
    if found.calibration is not None and bins:
        error = found.calibration.get("ece")
        if error is None:
            said = f"Mean of the true scores against mean of the predicted, in tenths of {rows}"
        else:
            said = (
                f"How often a confidence comes true, on {rows} On the dashed line it would be as often as said. "
                f"{_calibrated(found.calibration)}"
            )
        before = found.calibration.get("before")
        drawn = svg.reliability(bins, shares=error is not None, before=before["bins"] if before else ())
        names = [("--s1", "as deployed"), ("--s2", "before calibration")]
        parts.append(_section("Reliability", said, (_legend(names) if before else "") + drawn))
    if found.coverage:
        curve = [(entry["coverage"], entry["accuracy"]) for entry in found.coverage]
        said = (
            f"Accuracy of the rows that are answered, if those with a lower score than a --min_score are not: from 0, "
            f"at the right, in steps of 0.05, on {rows}"
        )
        drawn = svg.lines({"accuracy": sorted(curve)}, x_name="share of rows answered", y_format=svg.percent)
        parts.append(_section("Coverage", said, drawn))
    return parts


def _calibrated(calibration: Mapping[str, Any]) -> str:
    """Expected calibration error and negative log-likelihood, as they are and as they were."""
    before, likelihood = calibration.get("before"), calibration.get("nll")
    said = f"Expected calibration error: {calibration['ece']:.1%}"
    said += f", negative log-likelihood {likelihood:.3f}" if likelihood is not None else ""
    if before is None:
        return f"{said}."
    was = f"{before['ece']:.1%} and {before['nll']:.3f}"
    return f"{said}; before the logits were divided by {calibration['temperature']:.3g}, {was}."


def _confusion(confusion: Mapping[str, Mapping[str, int]], rows: str) -> str:
    names = list(confusion)
    if len(names) <= MOST_CLASSES:
        counts = [[confusion[true].get(taken, 0) for taken in names] for true in names]
        return _section(
            "Confusion matrix", f"{rows} Shaded by the share of the true class.", svg.matrix(names, counts)
        )
    pairs = [(pair["label"], pair["predicted"], f"{pair['rows']:,}") for pair in confused(confusion)]
    said = f"{rows} Of {len(names)} classes, the pairs that are confused most."
    return _section("Confusions", said, _table(("true", "predicted", "rows"), pairs))


def _labels(labels: Mapping[str, Mapping[str, int]], rows: str) -> str:
    lines = [
        (name, *(f"{counts[key]:,}" for key in ("right", "missed", "wrong")))
        for name, counts in labels.items()
    ]
    return _section("Labels", rows, _table(("label", "found", "missed", "wrongly given"), lines))


def _against_dense(facts: Facts, latency: Latency | None) -> str:
    totals, size = facts.report["totals"], export_size(facts)
    sizes = [("dense, float32", totals["dense_bytes"], 0), ("compressed", totals["compressed_bytes"], 1)]
    if size is not None:
        sizes.insert(1, ("model.onnx", size["stored_bytes"], 2))
    drawn = _bars([(name, value, _megabytes(value), color) for name, value, color in sizes], "sizes")
    if latency is not None:
        times = [("dense, PyTorch", latency.dense, 0), (f"deployed, {latency.engine}", latency.deployed, 1)]
        drawn += _bars([(name, value, f"{value:.2f} ms", color) for name, value, color in times], "latency")
    said = (
        "Size"
        if latency is None
        else (
            f"Size, and median latency for one text of {latency.tokens} tokens on {latency.cores} "
            f"core{'s' if latency.cores > 1 else ''} ({latency.cpu})"
        )
    )
    return _section("Against dense", f"{said}.", drawn)


def _bars(rows: list[tuple[str, float, str, int]], label: str) -> str:
    return svg.bars(rows, max(value for _, value, _, _ in rows), label, width=440)


def _layers(layers: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            layer["name"],
            layer["sparsity"],
            f"{layer['sparsity']:.1%}, {layer['weight_bits']} bits",
            1 if layer["weight_bits"] < 32 else 0,
        )
        for layer in layers
    ]
    kinds = [("--s1", "8 bits or fewer"), ("--neutral", "float")]
    drawn = _legend(kinds) + svg.bars(rows, 1.0, "sparsity and bits by layer")
    return _section("Layers", "Share of zeros, and bits of the weights.", drawn, wide=True)


def _scores(metrics: Mapping[str, Any]) -> str:
    rows = [
        (name.replace("_", " "), f"{value:.4f}" if isinstance(value, float) else str(value))
        for name, value in main_metrics(metrics).items()
    ]
    return _section("Metrics", "At the end of the training.", _table(("", "value"), rows)) if rows else ""


def _made(facts: Facts) -> str:
    parts = []
    if command := facts.report["command"]:
        parts.append(f"<pre>{escape(wrapped(command))}</pre>")
    if facts.recipe is not None:
        recipe = f"<pre>{escape(facts.recipe.strip())}</pre>"
        parts.append(f"<details><summary>The recipe, evaluated</summary>{recipe}</details>")
    versions = ", ".join(f"{name} {number}" for name, number in facts.report["versions"].items())
    return _section("How it was made", versions, "".join(parts), wide=True)


def _missing(missing: Sequence[str]) -> str:
    listed = "".join(f"<li>{escape(line)}</li>" for line in missing)
    return _section("Not here", "", f"<ul>{listed}</ul>", wide=True) if missing else ""


def _legend(names: Iterable[tuple[str, str]]) -> str:
    entries = (f'<span><i style="background:var({color})"></i>{escape(name)}</span>' for color, name in names)
    return f'<div class="legend">{"".join(entries)}</div>'


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
