"""Line charts as inline SVG: no drawing library, no script, colors from the page's style sheet."""

import math
from collections.abc import Sequence
from html import escape

Series = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 360.0, 190.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 10.0, 8.0, 22.0
SMOOTH_FROM = 40  # a series with fewer points is drawn as it is, with a dot for each point
DRAWN_POINTS = 300  # a longer series is thinned to this many points


def line_chart(series: Sequence[tuple[str, Series]], smoothed: bool = True) -> str:
    """Draws series into one chart; the color of number i is the style sheet's variable `--series-i`.

    A long series is drawn twice, faintly as measured and firmly as running mean. The vertical range follows the bulk
    of the values: single outliers leave the picture instead of flattening it. Values that are not finite are left out.

    Args:
        series: (name, points) each; points are (x, y) with x ascending.
        smoothed: False draws long series only as measured.

    Returns:
        An `<svg>` element of 360 x 190 units that scales to the width of its container.

    Raises:
        ValueError: no series has a finite value.
    """
    finite = [(name, [(x, y) for x, y in points if math.isfinite(y)]) for name, points in series]
    drawn = [(number, name, points) for number, (name, points) in enumerate(finite) if points]
    if not drawn:
        raise ValueError("a chart needs at least one finite value")
    x_low, x_high = _widened(
        min(points[0][0] for _, _, points in drawn), max(points[-1][0] for _, _, points in drawn), 0.015
    )
    y_low, y_high = _y_range([points for _, _, points in drawn], smoothed)

    def place(points: Series) -> list[tuple[float, float]]:
        return [
            (
                LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT),
                HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM),
            )
            for x, y in points
        ]

    label = ", ".join(name for _, name, _ in drawn)
    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{escape(label)}">']
    for tick in ticks(y_low, y_high, 4):
        [(_, y)] = place([(x_low, tick)])
        parts.append(f'<line class="grid" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6:g}" y="{y + 3.5:.1f}" text-anchor="end">{number_text(tick)}</text>')
    for tick in ticks(x_low, x_high, 4):
        [(x, _)] = place([(tick, y_low)])
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 6:g}" text-anchor="middle">{number_text(tick)}</text>')
    # A nested <svg> clips what it draws, without an id that would have to be unique on the page.
    inside = f'x="{LEFT:g}" y="{TOP:g}" width="{WIDTH - LEFT - RIGHT:g}" height="{HEIGHT - TOP - BOTTOM:g}"'
    box = f"{LEFT:g} {TOP:g} {WIDTH - LEFT - RIGHT:g} {HEIGHT - TOP - BOTTOM:g}"
    parts.append(f'<svg {inside} viewBox="{box}">')
    for number, _, points in drawn:
        color = f'style="--line: var(--series-{number})"'
        if len(points) >= SMOOTH_FROM and not smoothed:
            parts.append(f'<polyline class="line" {color} points="{_coordinates(place(thinned(points)))}"/>')
        elif len(points) >= SMOOTH_FROM:
            parts.append(f'<polyline class="raw" {color} points="{_coordinates(place(thinned(points)))}"/>')
            parts.append(f'<polyline class="line" {color} points="{_coordinates(place(thinned(smooth(points))))}"/>')
        else:
            parts.append(f'<polyline class="line" {color} points="{_coordinates(place(points))}"/>')
            parts += [f'<circle class="dot" {color} cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in place(points)]
    return "".join([*parts, "</svg></svg>"])


def smooth(points: Series, share: float = 0.06) -> list[tuple[float, float]]:
    """Returns the exponential running mean of the values; it starts at the first value without a bias towards 0.

    Args:
        points: (x, y) each.
        share: the mean reaches back over about this share of the series.
    """
    keep = 1 - 1 / max(1.0, share * len(points))
    total = weight = 0.0
    result = []
    for x, y in points:
        total, weight = keep * total + (1 - keep) * y, keep * weight + (1 - keep)
        result.append((x, total / weight))
    return result


def thinned(points: Series, count: int = DRAWN_POINTS) -> list[tuple[float, float]]:
    """Returns at most about `count` of the points, evenly chosen, always with the last one."""
    step = max(1, math.ceil(len(points) / count))
    return [*points[:-1:step], points[-1]]


def ticks(low: float, high: float, count: int) -> list[float]:
    """Returns about `count` round numbers (1, 2 or 5 times a power of ten apart) within [low, high], low < high."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def number_text(value: float) -> str:
    """Returns the number with three significant digits at most: 0.05, 12, 3k, 1.5M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}" if abs(value) >= 1e-12 else "0"


def _y_range(all_points: Sequence[Series], smoothed: bool) -> tuple[float, float]:
    """Returns the range of the values, or of smoothed lines and the middle 96 % of their raw values, with a margin."""
    values: list[float] = []
    for points in all_points:
        if len(points) >= SMOOTH_FROM and smoothed:
            raw = sorted(y for _, y in points)
            cut = len(raw) // 50
            values += [raw[cut], raw[-1 - cut], *(y for _, y in smooth(points))]
        else:
            values += [y for _, y in points]
    return _widened(min(values), max(values), 0.06)


def _widened(low: float, high: float, margin: float) -> tuple[float, float]:
    """Returns the range with a margin on both sides, and never an empty one."""
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):
        low, high = low - max(abs(low) * 0.1, 0.5), high + max(abs(high) * 0.1, 0.5)
    return low - margin * (high - low), high + margin * (high - low)


def _coordinates(points: Series) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
