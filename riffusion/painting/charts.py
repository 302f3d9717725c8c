"""Line charts as SVG, drawn in a page's own colours."""

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 300, 170
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 24, 34  # margins in the same units
DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 2", "10 4")  # lines are told apart without colours
SPARE = 0.05  # of the height, above and below the values

Points = Sequence[tuple[float, float]]


def line_chart(title: str, axis: str, lines: Mapping[str, Points], bounds: tuple[float, float] | None = None) -> str:
    """A chart of lines of (x, y) by their names, x ascending; points whose y isn't finite are left out.

    `bounds` are the y axis's, by default those of the values. Empty where nothing is left, or where there is no line
    because all have the same x.
    """
    known = {name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in lines.items()}
    points = [point for line in known.values() for point in line]
    if len({x for x, _ in points}) < 2:
        return ""
    xs, (low, high) = sorted({x for x, _ in points}), bounds or _range([y for _, y in points])

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - xs[0]) / (xs[-1] - xs[0]) * (WIDTH - LEFT - RIGHT)
        return across, HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    marks = [_text(*place(x, low), f"{x:g}", "middle", below=14) for x in xs]
    marks += [_text(LEFT - 6, place(xs[0], y)[1], f"{y:.3g}", "end", below=4) for y in (low, (low + high) / 2, high)]
    drawn = [
        _line(name, [place(*point) for point in line], DASHES[number % len(DASHES)])
        for number, (name, line) in enumerate(known.items())
    ]
    frame = f'<path class="axes" d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>'
    names = _text(LEFT, 14, title, "start") + _text((WIDTH + LEFT - RIGHT) / 2, HEIGHT - 4, axis, "middle")
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title, quote=True)} by '
        f'{escape(axis, quote=True)}">{frame}{"".join(marks)}{names}{"".join(drawn)}</svg>'
    )


def _range(values: list[float]) -> tuple[float, float]:
    """Bottom and top of an axis that holds these values."""
    low, high = min(values), max(values)
    if low == high:
        return (0.0, 1.0) if low == 0 else (low - abs(low) / 2, high + abs(high) / 2)
    spare = SPARE * (high - low)
    return low - spare, high + spare


def _line(name: str, points: list[tuple[float, float]], dashes: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in points)
    line = f'<polyline points="{path}" stroke-dasharray="{dashes}"/>'
    return f'<g class="line"><title>{escape(name)}</title>{line}{dots}</g>'


def _text(x: float, y: float, text: str, anchor: str, below: float = 0) -> str:
    return f'<text x="{x:.1f}" y="{y + below:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def chart_key(names: Sequence[str]) -> str:
    """Which line is which."""
    samples = [
        f'<span><svg class="chart sample-line" viewBox="0 0 36 8"><g class="line"><polyline points="0,4 36,4" '
        f'stroke-dasharray="{DASHES[number % len(DASHES)]}"/></g></svg> {escape(name)}</span>'
        for number, name in enumerate(names)
    ]
    return f'<p class="key soft">{" ".join(samples)}</p>'
