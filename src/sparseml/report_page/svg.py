"""Small plots as SVG text: lines, bars, a matrix and a reliability diagram. Colors are the page's CSS variables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 460, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 12, 34
_TICKS = 4
_MOST_MARKED = 40
_CHARACTER = 6.4  # of the page's font at 11 pixels


def number(value: float) -> str:
    """A number for an axis or a tip: short, and exact where it is short."""
    return f"{value:.4g}"


def percent(value: float) -> str:
    """A share for an axis or a tip."""
    return f"{100 * value:.4g}%"


def ticks(low: float, high: float, about: int = _TICKS) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) from `low` to `high`, both included in their range."""
    if high <= low:
        return [low]
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


class Frame:
    """Axes of a plot: from values to pixels."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float], width: int = _WIDTH, height: int = _HEIGHT):
        self.width, self.height = width, height
        self.x_ticks = ticks(min(xs), max(xs))
        self.y_ticks = ticks(min(ys), max(ys))
        self.x_low, self.x_high = min(xs), max(*xs, min(xs) + 1e-9)
        self.y_low, self.y_high = self.y_ticks[0], max(self.y_ticks[-1], self.y_ticks[0] + 1e-9)

    def x(self, value: float) -> float:
        share = (value - self.x_low) / (self.x_high - self.x_low)
        return round(_LEFT + share * (self.width - _LEFT - _RIGHT), 2)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return round(self.height - _BOTTOM - share * (self.height - _TOP - _BOTTOM), 2)

    def grid(
        self, x_name: str, y_format: Callable[[float], str], x_format: Callable[[float], str] = number
    ) -> str:
        """Lines and labels of the axes."""
        parts = []
        for value in self.y_ticks:
            at = self.y(value)
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{self.width - _RIGHT}" y1="{at}" y2="{at}"/>')
            parts.append(f'<text x="{_LEFT - 7}" y="{at + 4}" text-anchor="end">{y_format(value)}</text>')
        base = self.height - _BOTTOM
        for value in (value for value in self.x_ticks if self.x_low <= value <= self.x_high):
            parts.append(
                f'<text x="{self.x(value)}" y="{base + 16}" text-anchor="middle">{x_format(value)}</text>'
            )
        middle = (_LEFT + self.width - _RIGHT) / 2
        parts.append(f'<text x="{middle}" y="{self.height - 4}" text-anchor="middle">{escape(x_name)}</text>')
        return "".join(parts)


def lines(
    series: Mapping[str, Points],
    x_name: str = "epoch",
    y_format: Callable[[float], str] = number,
    zero: bool = False,
) -> str:
    """Lines over a common axis.

    Args:
        series: [(x, y), ...] by name, in the order of x; at most four.
        zero: whether the axis begins at 0.
    """
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points] + ([0.0] if zero else [])
    frame = Frame(xs, ys)
    parts = [frame.grid(x_name, y_format)]
    for index, (name, points) in enumerate(series.items(), start=1):
        path = " ".join(f"{frame.x(x)},{frame.y(y)}" for x, y in points)
        parts.append(f'<polyline class="line s{index}" points="{path}"/>')
        radius = 3 if len(points) <= _MOST_MARKED else 1.2
        for x, y in points:
            tip = f"{name}, {x_name} {number(x)}: {y_format(y)}"
            parts.append(
                f'<circle class="dot s{index}" cx="{frame.x(x)}" cy="{frame.y(y)}" r="{radius}">'
                f"<title>{escape(tip)}</title></circle>"
            )
    return figure("".join(parts), frame.width, frame.height, ", ".join(series))


def scatter(dots: Sequence[tuple[float, float, str, int]], x_name: str) -> str:
    """Dots over two axes: x, y, a tip, and which of the colors 1 to 4."""
    frame = Frame([x for x, *_ in dots], [y for _, y, *_ in dots])
    parts = [frame.grid(x_name, number)]
    for x, y, tip, color in dots:
        parts.append(
            f'<circle class="dot s{color} ring" cx="{frame.x(x)}" cy="{frame.y(y)}" r="5">'
            f"<title>{escape(tip)}</title></circle>"
        )
    return figure("".join(parts), frame.width, frame.height, x_name)


def bars(rows: Sequence[tuple[str, float, str, int]], most: float, label: str, width: int = 900) -> str:
    """Horizontal bars.

    Args:
        rows: name, value from 0, text at the bar's end, and which of the colors 1 to 4.
        most: the value of the longest possible bar.
        label: what it shows, for readers of the screen.
    """
    left = 12 + _CHARACTER * max((len(name) for name, *_ in rows), default=0)
    right = 16 + _CHARACTER * max((len(text) for *_, text, _ in rows), default=0)
    scale = max(width - left - right, 60) / max(most, 1e-12)
    parts = []
    for index, (name, value, text, color) in enumerate(rows):
        top = 4 + 20 * index
        long = round(value * scale, 2)
        parts.append(
            f'<text x="{left - 8:.1f}" y="{top + 12}" text-anchor="end">{escape(name)}</text>'
            f'<rect class="bar s{color}" x="{left:.1f}" y="{top}" width="{long}" height="14" rx="2">'
            f"<title>{escape(f'{name}: {text}')}</title></rect>"
            f'<text x="{left + long + 6:.1f}" y="{top + 12}">{escape(text)}</text>'
        )
    return figure("".join(parts), width, 8 + 20 * len(rows), label)


def matrix(names: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """A confusion matrix: a row for each true class, a column for each predicted one, shaded by the row's share."""
    cell = max(26, min(56, 420 // max(len(names), 1)))
    longest = max(map(len, names))
    slanted = longest * _CHARACTER > cell - 6
    left = 26 + _CHARACTER * longest
    top = 26 + (_CHARACTER * longest * 0.72 if slanted else 14)
    parts = [
        f'<text x="{left}" y="12">predicted</text>',
        f'<text class="turned" transform="rotate(-90 12 {top + cell * len(names) / 2})" x="12" '
        f'y="{top + cell * len(names) / 2}" text-anchor="middle">true</text>',
    ]
    for index, name in enumerate(names):
        middle = cell * (index + 0.5)
        parts.append(
            f'<text x="{left - 6:.1f}" y="{top + middle + 4:.1f}" text-anchor="end">{escape(name)}</text>'
        )
        x = left + middle
        turn = f' transform="rotate(-45 {x:.1f} {top - 6:.1f})" text-anchor="start"' if slanted else ""
        anchor = "" if slanted else ' text-anchor="middle"'
        parts.append(f'<text x="{x:.1f}" y="{top - 6:.1f}"{turn}{anchor}>{escape(name)}</text>')
    for row, (true, line) in enumerate(zip(names, counts, strict=True)):
        total = max(sum(line), 1)
        for column, (taken, count) in enumerate(zip(names, line, strict=True)):
            share = count / total
            x, y = left + cell * column, top + cell * row
            tip = f"{true}, predicted {taken}: {count} of {sum(line)} ({percent(share)})"
            parts.append(
                f'<g><title>{escape(tip)}</title><rect class="cell" x="{x:.1f}" y="{y:.1f}" '
                f'width="{cell - 2}" height="{cell - 2}" rx="2" fill-opacity="{0.06 + 0.94 * share:.3f}"/>'
                f'<text class="{"light" if share > 0.5 else "count"}" x="{x + cell / 2 - 1:.1f}" '
                f'y="{y + cell / 2 + 3:.1f}" text-anchor="middle">{count or ""}</text></g>'
            )
    extra = _CHARACTER * longest * 0.72 if slanted else 4
    size = cell * len(names)
    return figure("".join(parts), round(left + size + extra), round(top + size + 4), "confusion matrix")


def reliability(
    bins: Sequence[Mapping[str, float]], shares: bool = True, before: Sequence[Mapping[str, float]] = ()
) -> str:
    """Predicted against actual by bin, beside the diagonal; areas of the dots are the bins' rows.

    Args:
        bins: mean "predicted", mean "actual", "rows".
        shares: whether both are shares, from 0 to 1.
        before: likewise, before the calibration; as a second line.
    """
    values = [entry[key] for entry in bins for key in ("predicted", "actual")]
    ends = [0.0, 1.0] if shares else [min(values), max(values)]
    frame = Frame(ends, ends, 300, 270)
    shown = percent if shares else number
    parts = [frame.grid("predicted", shown)]
    low, high = ends
    parts.append(
        f'<line class="ideal" x1="{frame.x(low)}" y1="{frame.y(low)}" x2="{frame.x(high)}" y2="{frame.y(high)}"/>'
    )
    most = max(entry["rows"] for entry in bins)
    for color, drawn in ((2, before), (1, bins)):
        path = " ".join(f"{frame.x(entry['predicted'])},{frame.y(entry['actual'])}" for entry in drawn)
        parts.append(f'<polyline class="line s{color}" points="{path}"/>' if drawn else "")
    for entry in bins:
        radius = 3 + 6 * math.sqrt(entry["rows"] / most)
        tip = f"predicted {shown(entry['predicted'])}, actual {shown(entry['actual'])}, {entry['rows']:,.0f} decisions"
        parts.append(
            f'<circle class="dot s1 ring" cx="{frame.x(entry["predicted"])}" cy="{frame.y(entry["actual"])}" '
            f'r="{radius:.1f}"><title>{escape(tip)}</title></circle>'
        )
    return figure("".join(parts), frame.width, frame.height, "reliability diagram")


def figure(body: str, width: int, height: int, label: str) -> str:
    """An SVG element that shrinks with the page, but does not grow."""
    return (
        f'<svg viewBox="0 0 {width} {height}" style="max-width:{width}px" role="img" '
        f'aria-label="{escape(label, quote=True)}">{body}</svg>'
    )
