"""Scatter plots and heat maps as inline SVG, colors from the page's style sheet."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from html import escape
from itertools import takewhile

import numpy as np
import numpy.typing as npt

from fctfg.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, number_text, ticks

_CELL_TEXT = 12  # a heat map of at most so many rows has its numbers written into the cells


def scatter_chart(points: Sequence[tuple[float, float, str]], across: str, up: str) -> str:
    """Draw points; each has its name and values as a title.

    Args:
        points: (x, y, name) each; those that are not finite are left out.
        across: what x is.
        up: what y is.

    Returns:
        An `<svg>` element of 360 x 190 units; where nothing is finite, a paragraph that says so.
    """
    shown = [point for point in points if math.isfinite(point[0]) and math.isfinite(point[1])]
    if not shown:
        return "<p>no value is known</p>"
    (x_low, x_high), (y_low, y_high) = (_range([point[axis] for point in shown]) for axis in (0, 1))  # type: ignore[misc]

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM),
        )

    label = escape(f"{len(shown)} clips: {up} against {across}")
    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{label}">']
    for tick in ticks(y_low, y_high, 4):
        y = place(x_low, tick)[1]
        parts.append(f'<line class="grid" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6:g}" y="{y + 3.5:.1f}" text-anchor="end">{number_text(tick)}</text>')
    for tick in ticks(x_low, x_high, 5):
        x = place(tick, y_low)[0]
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 6:g}" text-anchor="middle">{number_text(tick)}</text>')
    for x_value, y_value, name in shown:
        x, y = place(x_value, y_value)
        words = escape(f"{name}: {across} {number_text(x_value)}, {up} {number_text(y_value)}")
        color = 'style="--line: var(--series-0)"'
        parts.append(f'<circle class="dot" {color} cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{words}</title></circle>')
    return "".join([*parts, "</svg>"])


def heat_map(
    values: npt.NDArray[np.floating],
    rows: Sequence[str],
    columns: Sequence[str],
    low: float = -1.0,
    high: float = 1.0,
) -> str:
    """Draw a matrix: the larger a value, the firmer its cell; each cell has its names and value as a title.

    Args:
        values: [R, C]; a value that is not finite stays empty.
        rows: R names.
        columns: C names.
        low: value of the palest cell.
        high: value of the firmest one.

    Returns:
        An `<svg>` element.

    Raises:
        ValueError: the names do not fit the matrix.
    """
    if values.shape != (len(rows), len(columns)):
        raise ValueError(f"{len(rows)} x {len(columns)} names for a matrix {list(values.shape)}")
    side, left, top = 24.0, 84.0, 64.0
    width, height = left + side * len(columns) + 40, top + side * len(rows) + 6
    shown_rows, shown_columns = told_apart(rows), told_apart(columns)
    label = f"{len(rows)} x {len(columns)} values from {number_text(low)} to {number_text(high)}"
    parts = [f'<svg class="chart heat" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{label}">']
    for place, name in enumerate(shown_rows):
        y = top + side * (place + 0.68)
        parts.append(f'<text x="{left - 5:g}" y="{y:.1f}" text-anchor="end">{escape(_short(name))}</text>')
    for place, name in enumerate(shown_columns):
        x = left + side * (place + 0.65)
        turned = f'transform="translate({x:.1f} {top - 5:g}) rotate(-60)" text-anchor="start"'
        parts.append(f"<text {turned}>{escape(_short(name))}</text>")
    for row, column in np.argwhere(np.isfinite(values)):
        value = float(values[row, column])
        share = min(max((value - low) / max(high - low, 1e-9), 0.0), 1.0)
        x, y = left + side * column, top + side * row
        words = escape(f"{rows[row]}, {columns[column]}: {value:.3f}")
        parts.append(
            f'<rect class="cell" x="{x:g}" y="{y:g}" width="{side - 1:g}" height="{side - 1:g}" '
            f'fill-opacity="{share:.3f}"><title>{words}</title></rect>'
        )
        if len(rows) <= _CELL_TEXT:
            tone = "on" if share > 0.6 else "off"
            parts.append(
                f'<text class="{tone}" x="{x + side / 2 - 0.5:.1f}" y="{y + side * 0.66:.1f}" text-anchor="middle">'
                f"{value:.2f}</text>"
            )
    return "".join([*parts, "</svg>"])


def told_apart(names: Sequence[str]) -> list[str]:
    """Names without what all of them begin and end with, in whole parts (`-`, `_`, `/`)."""
    if len(set(names)) < 2:
        return list(names)
    begin, end = (
        re.sub(r"[^-_/]*$", "", "".join(letters[0] for letters in takewhile(lambda each: len(set(each)) == 1, columns)))
        for columns in (zip(*names, strict=False), zip(*(name[::-1] for name in names), strict=False))
    )
    return [name[len(begin) : len(name) - len(end)] or name for name in names]


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) if high > low else max(abs(low) * 0.1, 0.5)
    return low - margin, high + margin


def _short(name: str) -> str:
    return name if len(name) <= 14 else f"{name[:6]}..{name[-6:]}"
